"""What Eve can do: the kinds of attack, each with its parameters and its time."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from deffd_flower.errors import RequestError
from deffd_flower.qkd.production import Disturbance, nanoseconds
from deffd_flower.randomness import numpy_generator
from deffd_flower.registry import Registry

#: Rounds that have begun: number and time in ns, ascending.
RoundStarts = Sequence[tuple[int, int]]

FOREVER = 2**80
_SLOTS_PER_DRAW = 1024


@dataclass(frozen=True)
class Window:
    """When an attack is on.

    Args:
        first: First round, or second.
        last: Last round, included; or the second at which it ends. Infinite for no end.
        unit: What the two count.

    Raises:
        RequestError: It ends before it begins.
    """

    first: float = 0
    last: float = math.inf
    unit: Literal["rounds", "seconds"] = "seconds"

    def __post_init__(self) -> None:
        shortest = 0 if self.unit == "rounds" else 1e-9
        if not 0 <= self.first <= self.last - shortest or math.isinf(self.first):
            advice = "must be FIRST-LAST, such as 5-10, or 5- for no end"
            raise RequestError(self.unit, f"{self.first:g}-{self.last:g}", advice)

    def interval(self, rounds: RoundStarts) -> tuple[int, int]:
        """Return begin and end in ns; the end of what has not ended yet is far in the future."""
        if self.unit == "seconds":
            end = FOREVER if math.isinf(self.last) else nanoseconds(self.last)
            return nanoseconds(self.first), end
        first = bisect_left(rounds, (self.first, -math.inf))
        after = bisect_right(rounds, (self.last, math.inf))
        begin, end = (rounds[i][1] if i < len(rounds) else FOREVER for i in (first, after))
        return begin, end


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Something Eve does.

    Attributes:
        window: When she does it.
    """

    window: Window = field(default_factory=Window)


attacks: Registry[type[Attack]] = Registry("attack")


@dataclass(frozen=True, kw_only=True)
class LinkAttack(Attack, ABC):
    """Something Eve does to quantum channels.

    Attributes:
        links: Names of the links; empty for all of them.
    """

    links: frozenset[str] = frozenset()

    @abstractmethod
    def effect(self) -> Disturbance:
        """Return what the links suffer while the attack is on."""

    def intervals(self, link: str, start: int, end: int, seed: int) -> Iterator[tuple[int, int]]:
        """Yield when between ``start`` and ``end`` (ns, within the window) the link suffers."""
        yield start, end


@attacks.register("intercept")
@dataclass(frozen=True, kw_only=True)
class InterceptResend(LinkAttack):
    """Eve measures a share of the pulses in a random basis and sends on what she found.

    Attributes:
        fraction: That share; the error rate rises by a quarter of it.
    """

    fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise RequestError("fraction", self.fraction, "must lie between 0 and 1")

    def effect(self) -> Disturbance:
        """Return the disturbance."""
        return Disturbance(intercepted=self.fraction)


@attacks.register("loss")
@dataclass(frozen=True, kw_only=True)
class LossStep(LinkAttack):
    """A bent fibre, a tap, a dirty connector.

    Attributes:
        decibel: Loss on top of the fibre's.
    """

    decibel: float

    def __post_init__(self) -> None:
        if not 0 <= self.decibel < math.inf:
            raise RequestError("decibel", self.decibel, "must be at least 0")

    def effect(self) -> Disturbance:
        """Return the disturbance."""
        return Disturbance(extra_loss_db=self.decibel)


@attacks.register("denial")
@dataclass(frozen=True, kw_only=True)
class DenialOfService(LinkAttack):
    """The fibre is cut: nothing arrives."""

    def effect(self) -> Disturbance:
        """Return the disturbance."""
        return Disturbance(silent=True)


@attacks.register("bursts")
@dataclass(frozen=True, kw_only=True)
class QberBursts(LinkAttack):
    """Errors that come and go, as wind on an aerial fibre makes them.

    Time is cut into slots; each slot of each link is bad or not by a draw of its own.

    Attributes:
        qber: Probability that a bit flips during a bad slot.
        probability: That a slot is bad.
        slot: Seconds.
    """

    qber: float
    probability: float
    slot: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.qber <= 0.5:
            raise RequestError("qber", self.qber, "must lie between 0 and 0.5")
        if not 0 <= self.probability <= 1:
            raise RequestError("probability", self.probability, "must lie between 0 and 1")
        if not 0.001 <= self.slot < math.inf:
            raise RequestError("slot", self.slot, "must be at least 0.001 seconds")

    def effect(self) -> Disturbance:
        """Return the disturbance of a bad slot."""
        return Disturbance(extra_qber=self.qber)

    def intervals(self, link: str, start: int, end: int, seed: int) -> Iterator[tuple[int, int]]:
        """Yield the bad slots, cut to what lies between ``start`` and ``end``."""
        width = nanoseconds(self.slot)
        for slot in range(start // width, -(-end // width)):
            draw, index = divmod(slot, _SLOTS_PER_DRAW)
            if _uniform(seed, link, draw)[index] < self.probability:
                yield max(start, slot * width), min(end, (slot + 1) * width)


@attacks.register("compromise")
@dataclass(frozen=True, kw_only=True)
class CompromisedNode(Attack):
    """Eve reads all that a node's key manager holds. No rate changes, so nobody notices.

    Attributes:
        node: Name of the node.
    """

    node: str


@lru_cache(maxsize=4096)
def _uniform(seed: int, link: str, draw: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return numpy_generator(seed, f"qber-bursts/{link}", draw).random(_SLOTS_PER_DRAW)
