"""When a quantum link's blocks are complete and what each of them gives, in simulated time.

Simulated time counts whole nanoseconds. Sums of integers are exact, so the key a link holds does
not depend on the steps in which time was made to pass.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from deffd_flower.qkd.link import QuantumLink, either_but_not_both, expected_block

NANOSECONDS = 10**9


def nanoseconds(seconds: float) -> int:
    """Return a duration as whole nanoseconds."""
    return round(seconds * NANOSECONDS)


def seconds_covering(duration: int) -> float:
    """Return the least number of seconds that `nanoseconds` makes at least ``duration``."""
    seconds = duration / NANOSECONDS
    while nanoseconds(seconds) < duration:
        seconds = math.nextafter(seconds, math.inf)
    return seconds


@dataclass(frozen=True)
class Disturbance:
    """What happens to a quantum channel on top of its usual noise.

    Attributes:
        intercepted: Share of the pulses that Eve measures in a random basis and sends on.
        extra_loss_db: Loss on top of the fibre's.
        extra_qber: Probability that a bit flips on the way, whatever the cause.
        silent: No pulse arrives at all.
    """

    intercepted: float = 0.0
    extra_loss_db: float = 0.0
    extra_qber: float = 0.0
    silent: bool = False

    def __add__(self, other: "Disturbance") -> "Disturbance":
        """Return what two independent disturbances do together."""
        both = self.intercepted * other.intercepted
        return Disturbance(
            self.intercepted + other.intercepted - both,
            self.extra_loss_db + other.extra_loss_db,
            either_but_not_both(self.extra_qber, other.extra_qber),
            self.silent or other.silent,
        )


CALM = Disturbance()


def mean_disturbance(parts: Sequence[tuple[float, Disturbance]]) -> Disturbance:
    """Return what a block has seen that was filled in parts under different disturbances.

    Args:
        parts: Shares of the block, which add up to 1, and the disturbance during each.

    Returns:
        The mean over the shares, rounded to 1e-4 and 0.01 dB: a link under random disturbances
        then has to be worked out for a bounded number of them only.
    """
    return Disturbance(
        round(sum(share * part.intercepted for share, part in parts), 4),
        round(sum(share * part.extra_loss_db for share, part in parts), 2),
        round(sum(share * part.extra_qber for share, part in parts), 4),
    )


class BlockYield(NamedTuple):
    """What one block of a link takes and gives, as long as nothing changes.

    Attributes:
        seconds: Time to fill it; infinite when nothing arrives.
        bits: Secret bits; 0 when the block is aborted.
        qber: Error rate that parameter estimation finds.
    """

    seconds: float
    bits: int
    qber: float


YieldOf = Callable[[Disturbance], BlockYield]


@lru_cache(maxsize=65536)
def block_yield(link: QuantumLink, abort_qber: float, disturbance: Disturbance) -> BlockYield:
    """Return what a link's blocks take and give under a disturbance.

    Args:
        link: The undisturbed link.
        abort_qber: A block with a higher error rate is aborted.
        disturbance: What happens to it, other than silence.

    Raises:
        RequestError: The link's bound cannot work with this link.
    """
    if disturbance != CALM:
        link = link.disturbed(
            disturbance.intercepted, disturbance.extra_loss_db, disturbance.extra_qber
        )
    block = expected_block(link)
    bits = 0 if block.qber > abort_qber else max(0, int(block.secret))
    return BlockYield(block.pulses / link.pulse_rate, bits, block.qber)


class BlockRun(NamedTuple):
    """Equal blocks, completed one after the other.

    Attributes:
        first: When the first was complete, in ns.
        spacing: Time from one to the next, in ns.
        blocks: How many there are, at least 1.
        bits: Secret bits of each; 0 when they were aborted.
        qber: Error rate found in each.
    """

    first: int
    spacing: int
    blocks: int
    bits: int
    qber: float

    @property
    def last(self) -> int:
        """When the last block was complete, in ns."""
        return self.first + (self.blocks - 1) * self.spacing


class BlockProduction:
    """Fills a link's blocks one after the other, whatever happens to the link meanwhile.

    Detections fill a block. When conditions change, what is filled stays, and the rest is filled
    at the new pace; the block then gives what it would give under the mean of the disturbances
    it has seen.

    Args:
        yield_of: What a block takes and gives under a disturbance.
    """

    def __init__(self, yield_of: YieldOf) -> None:
        self._yield_of = yield_of
        self._conditions = CALM
        self._present = yield_of(CALM)
        self._filled = 0
        self._unchanged_from = 0
        self._parts: list[tuple[float, Disturbance]] = []

    @property
    def qber(self) -> float:
        """The error rate under the conditions last seen."""
        return self._present.qber

    def advance(self, start: int, end: int, conditions: Disturbance) -> list[BlockRun]:
        """Return the blocks completed after ``start`` and until ``end``, both in ns."""
        if conditions.silent or not self._adopt(conditions):
            return []
        pace, steady = self._pace, self._present
        first = start + pace - self._filled
        count, self._filled = divmod(self._filled + end - start, pace)
        if not count:
            return []
        head = self._mixed() if self._parts else steady
        self._unchanged_from, self._parts = 0, []
        if head == steady:
            return [BlockRun(first, pace, count, steady.bits, steady.qber)]
        runs = [BlockRun(first, pace, 1, head.bits, head.qber)]
        if count > 1:
            runs.append(BlockRun(first + pace, pace, count - 1, steady.bits, steady.qber))
        return runs

    def outlook(self, start: int, conditions: Disturbance) -> tuple[BlockRun, BlockRun] | None:
        """Return the next block and those after it if ``conditions`` last; ``None`` if never."""
        ahead = copy.copy(self)
        ahead._parts = list(self._parts)
        if conditions.silent or not ahead._adopt(conditions):
            return None
        runs = ahead.advance(start, start + 2 * ahead._pace, conditions)
        return runs[0], runs[-1]

    @property
    def _pace(self) -> int:
        """Time to fill a block under the present conditions, in ns."""
        seconds = self._present.seconds
        return max(1, nanoseconds(seconds)) if math.isfinite(seconds) else 1

    def _adopt(self, conditions: Disturbance) -> bool:
        """Go on under these conditions, unless nothing at all arrives under them."""
        if conditions != self._conditions:
            new = self._yield_of(conditions)
            if not math.isfinite(new.seconds):
                return False
            self._change(conditions, new)
        return math.isfinite(self._present.seconds)

    def _change(self, conditions: Disturbance, new: BlockYield) -> None:
        pace = self._pace
        if self._filled > self._unchanged_from:
            share = (self._filled - self._unchanged_from) / pace
            self._parts.append((share, self._conditions))
        self._conditions, self._present = conditions, new
        self._filled = self._unchanged_from = self._filled * self._pace // pace

    def _mixed(self) -> BlockYield:
        rest = 1 - self._unchanged_from / self._pace
        seen = mean_disturbance([*self._parts, (rest, self._conditions)])
        return self._yield_of(seen)._replace(seconds=self._present.seconds)
