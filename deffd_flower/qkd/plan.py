"""Can these links feed this federation? What the answer is made of; `Planner` finds it.

A link adds (bits per block - authentication-bits) / (seconds per block) to its store. A round
takes (models on the link) x (key bits per model) from it. Their quotient, in rounds per day, is
what the link sustains. The federation sustains what its bottleneck does, or less if computing and
transfers take longer. These are means over a long time, in which full stores even out what chance
asks of the links; key that is lost because a store is full or key too old is not in them.
"""

import math
from dataclasses import dataclass

from deffd_flower.config import RunConfig
from deffd_flower.transport.envelope import MAX_PLAINTEXT_BYTES
from deffd_flower.transport.suites import suites

DAY_S = 86_400.0


@dataclass(frozen=True)
class PackageSize:
    """What a client seals.

    Attributes:
        bytes: Its whole model as a package.
        parameters: Its weights.
        segment_bytes: A package with the first of its segments.
    """

    bytes: int
    parameters: int
    segment_bytes: int

    def parameters_in(self, package_bytes: int) -> int:
        """Return the float32 weights of a package of another size, with as much beside them."""
        beside = self.bytes - 4 * self.parameters
        return max(0, package_bytes - beside) // 4


@dataclass(frozen=True)
class LinkPlan:
    """A quantum link, or several alike, under one suite.

    Attributes:
        link: Its name; the first one's name of several.
        links: How many are alike.
        loss_db: Loss of its fibre.
        qber: Error rate of its blocks; NaN if nothing arrives.
        bits_per_s: Key it adds to its store, net of what authentication uses.
        storable_bits: The most that its store can hold; infinite without limit.
        empty_s: Seconds until an empty store, whose next block has just begun, holds the key of
            the largest message; infinite if it never does.
        first_s: The same from when the federation begins, after the head start.
        messages: Messages per round whose key takes this link, on average.
        bits: Key bits per round, on average.
    """

    link: str
    links: int
    loss_db: float
    qber: float
    bits_per_s: float
    storable_bits: float
    empty_s: float
    first_s: float
    messages: float
    bits: float

    @property
    def rounds_per_day(self) -> float:
        """Rounds per day that the link sustains; infinite if they take no key."""
        return self.bits_per_s * DAY_S / self.bits if self.bits else math.inf


@dataclass(frozen=True)
class SuitePlan:
    """What the federation can do when it seals with one suite.

    Attributes:
        suite: Its name.
        messages: Messages per round, on average.
        message_bytes: Plaintext of a message, on average.
        key_bits: Key bits of a message that takes a fresh key, on average.
        wire_bytes: A message with its header and tag, on average.
        compute_s: Simulated seconds of computing per round.
        transfer_s: Simulated seconds of the round's largest transfer.
        links: The links that carry key, the bottleneck first.
    """

    suite: str
    messages: float
    message_bytes: float
    key_bits: float
    wire_bytes: float
    compute_s: float
    transfer_s: float
    links: tuple[LinkPlan, ...] = ()

    @property
    def round_s(self) -> float:
        """Simulated seconds of a round that waits for no key."""
        return self.compute_s + self.transfer_s

    @property
    def pace(self) -> float:
        """Rounds per day that computing and transfers allow."""
        return DAY_S / self.round_s if self.round_s else math.inf

    @property
    def key_pace(self) -> float:
        """Rounds per day that the bottleneck sustains; 0 if some message never finds its key."""
        if self.obstacle:
            return 0.0
        return self.links[0].rounds_per_day if self.links else math.inf

    @property
    def rounds_per_day(self) -> float:
        """Rounds per day of the federation if all of its models are sent."""
        return min(self.pace, self.key_pace)

    @property
    def sustainable(self) -> bool:
        """Whether the links keep up with computing and transfers."""
        return self.key_pace >= self.pace

    @property
    def limited_by(self) -> str:
        """``key``, ``compute`` or ``transfer``: what takes the most time."""
        if not self.sustainable:
            return "key"
        return "compute" if self.compute_s >= self.transfer_s else "transfer"

    @property
    def gather_s(self) -> float:
        """Seconds in which the slowest link in use produces the key of one message."""
        slowest = min((link.bits_per_s for link in self.links), default=math.inf)
        return self.key_bits / slowest if slowest else math.inf

    @property
    def empty_s(self) -> float:
        """The longest that a message waits for its key; infinite if it never comes."""
        return max((link.empty_s for link in self.links), default=0.0)

    @property
    def first_s(self) -> float:
        """The longest that a message waits for its key in the first round."""
        return max((link.first_s for link in self.links), default=0.0)

    @property
    def hops(self) -> float:
        """Links that the key of a message takes, on average."""
        crossed = sum(link.links * link.messages for link in self.links)
        return crossed / self.messages if self.messages else 0.0

    @property
    def obstacle(self) -> str:
        """Why some message never finds its key; empty if each does."""
        for link in self.links:
            if not link.bits_per_s:
                found = "" if math.isnan(link.qber) else f" (QBER {100 * link.qber:.1f} %)"
                return f"link {link.link} gives no key{found}"
            if math.isinf(link.empty_s):
                limit = f"{link.storable_bits:,.0f} bits"
                return f"a store keeps {limit} at most; raise pool-capacity or key-max-age-s"
        return ""

    def verdict(self, config: RunConfig) -> str:
        """Return the answer in words."""
        if self.obstacle:
            return f"not sustainable: {self.obstacle}"
        pace = "" if self.sustainable else f" at {significant(self.rounds_per_day)} rounds per day"
        if config.on_starved == "wait" and self.empty_s > config.max_wait_s:
            return f"sustainable{pace}, with max-wait-s={math.ceil(self.empty_s)} or more"
        return f"sustainable{pace}"


def significant(number: float) -> str:
    """Return a number with three significant digits and, below 10^7, all before the point."""
    if abs(number) >= 1e7:
        digits, _, power = f"{number:.2e}".partition("e")
        return f"{digits}e{int(power)}"
    if abs(number) >= 99.95 or number.is_integer():
        return f"{number:,.0f}"
    return f"{number:#.3g}"


@dataclass(frozen=True)
class LargestModels:
    """The largest model packages that a one-time pad can seal in time, in bytes.

    Each holds on all links in use, and with the present model's round.

    Attributes:
        per_round: Every link seals one model each round.
        as_planned: Links seal as many models as the plan lets them.
        per_day: Every link seals one model a day.
    """

    per_round: int
    as_planned: int
    per_day: int


def largest_models(otp: SuitePlan, *packages: PackageSize) -> LargestModels | None:
    """Return what the links can carry under suite ``otp``.

    ``None`` if nothing is sent, or if models have several sizes: there is no one largest then.

    A model of n bytes takes key_bits(n) = 8 n + 256 bits; solve for n.
    """
    if not otp.links or len(packages) > 1:
        return None
    (package,) = packages
    fixed = suites.get("otp")().key_bits(0)
    sizes: list[tuple[float, float, float]] = []
    for link in otp.links:
        # Segments of one model have an overhead each, so messages and models may differ.
        models = (link.bits - fixed * link.messages) / (8 * package.bytes)
        a_round = link.bits_per_s * otp.round_s
        planned = (a_round - fixed * link.messages) / (8 * models)
        most = (link.storable_bits - fixed) / 8
        one = [(bits - fixed) / 8 for bits in (a_round, link.bits_per_s * DAY_S)]
        sizes.append((min(one[0], most), min(planned, most), min(one[1], most)))
    least = [min(column) for column in zip(*sizes, strict=True)]
    return LargestModels(*(int(min(max(0.0, size), MAX_PLAINTEXT_BYTES)) for size in least))
