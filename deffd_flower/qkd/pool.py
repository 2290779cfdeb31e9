"""The key that is stored at both ends of one quantum link, counted but never seen."""

import math
from dataclasses import dataclass

from deffd_flower.errors import RequestError
from deffd_flower.qkd.production import (
    CALM,
    BlockProduction,
    BlockRun,
    Disturbance,
    YieldOf,
    nanoseconds,
    seconds_covering,
)
from deffd_flower.qkd.store import KeyStore
from deffd_flower.transport.refusal import KeyUnavailable


@dataclass(frozen=True)
class PoolSettings:
    """How the key management agents of a link keep its key.

    Args:
        capacity: Bits that fit beside the reserve and open leases; the oldest make room for new
            ones. ``None`` for no limit.
        max_age_s: Seconds after which a stored bit is thrown away; ``None`` for never.
        authentication_bits: Key that authenticating one block's classical messages uses up.
        head_start_s: Seconds for which the link has worked before the federation begins.
        abort_qber: A block with a higher error rate is aborted.

    Raises:
        RequestError: A number is out of range.
    """

    capacity: int | None = None
    max_age_s: float | None = None
    authentication_bits: int = 256
    head_start_s: float = 0.0
    abort_qber: float = 0.11

    def __post_init__(self) -> None:
        if self.capacity is not None and self.capacity < 1:
            raise RequestError("pool-capacity", self.capacity, "must be at least 1 bit")
        if self.max_age_s is not None and not 0 < self.max_age_s < math.inf:
            raise RequestError(
                "key-max-age-s", self.max_age_s, "must be a number of seconds above 0"
            )
        if self.authentication_bits < 0:
            raise RequestError("authentication-bits", self.authentication_bits, "must be 0 or more")
        if not 0 <= self.head_start_s < math.inf:
            raise RequestError("head-start-s", self.head_start_s, "must be 0 seconds or more")
        if not 0 < self.abort_qber <= 0.5:
            raise RequestError("abort-qber", self.abort_qber, "must be above 0 and at most 0.5")


@dataclass(slots=True)
class Books:
    """What has become of a link's key so far, in bits.

    Attributes:
        produced: Secret bits that came into being.
        delivered: Bits that sealed a message or another link's key.
        expired: Bits that grew too old.
        authentication: Burnt: used up by authenticating blocks.
        overflow: Burnt: made room for newer ones in a full store.
        unused: Burnt: leased, and not used.
        blocks: Number of blocks that gave key.
        aborted: Number of blocks that gave none.
    """

    produced: int = 0
    delivered: int = 0
    expired: int = 0
    authentication: int = 0
    overflow: int = 0
    unused: int = 0
    blocks: int = 0
    aborted: int = 0

    @property
    def burnt(self) -> int:
        """Bits destroyed for any reason but age."""
        return self.authentication + self.overflow + self.unused


@dataclass(frozen=True, slots=True)
class Lease:
    """Bits set aside for one purpose; no other lease has any of them.

    Attributes:
        start: Position of the first bit among all that the link has ever stored.
        bits: Number of bits.
        born: When the oldest of them was produced, in ns.
    """

    start: int
    bits: int
    born: int


class KeyPool:
    """One quantum link's stored key: what its two key management agents (ITU-T Y.3800) hold.

    At every moment ``produced == delivered + stored + expired + burnt``. Stored bits are the
    available ones, those under an open lease, and the reserve: the key that will authenticate the
    next block. The reserve is there from the start and counts as produced. Each good block burns
    it and sets its own first bits aside for the next one. Authentication comes last, so an
    aborted block is given up before it has used any key; a block that would give no more than it
    uses is aborted, too.

    Args:
        yield_of: What a block of the link takes and gives under a disturbance.
        settings: How the key is kept.
    """

    def __init__(self, yield_of: YieldOf, settings: PoolSettings) -> None:
        max_age = None if settings.max_age_s is None else max(1, nanoseconds(settings.max_age_s))
        self.reserve = settings.authentication_bits
        self.books = Books(produced=self.reserve)
        self.leased = 0
        self.time = -nanoseconds(settings.head_start_s)
        self._production = BlockProduction(yield_of)
        self._store = KeyStore(settings.capacity, max_age)
        self._open: set[Lease] = set()
        self.qber = self._production.qber
        self.advance_to(0)

    @property
    def available(self) -> int:
        """Bits that can be leased."""
        return self._store.bits

    @property
    def stored(self) -> int:
        """Bits that exist and are not used: available, leased or in reserve."""
        return self._store.bits + self.leased + self.reserve

    def advance(self, seconds: float, conditions: Disturbance = CALM) -> None:
        """Let time pass under the same conditions."""
        self.advance_to(self.time + nanoseconds(seconds), conditions)

    def advance_to(self, time: int, conditions: Disturbance = CALM) -> None:
        """Let time pass until ``time``, in ns since the start of the federation.

        A million blocks take no longer than one, as long as conditions stay.

        Raises:
            ValueError: That is in the past.
        """
        if time < self.time:
            raise ValueError(f"time cannot go back from {self.time} to {time} ns")
        for run in self._production.advance(self.time, time, conditions):
            self._complete(run)
        self.time = time
        self.books.expired += self._store.expire(time)

    def lease(self, bits: int) -> Lease:
        """Set the oldest available bits aside.

        Raises:
            KeyUnavailable: There are not so many.
            ValueError: ``bits`` is not positive.
        """
        if bits < 1:
            raise ValueError(f"cannot lease {bits} bits")
        if bits > self.available:
            raise KeyUnavailable(f"{bits} key bits wanted, {self.available} stored")
        start, born = self._store.take(bits)
        lease = Lease(start, bits, born)
        self.leased += bits
        self._open.add(lease)
        return lease

    def deliver(self, lease: Lease, used: int) -> None:
        """Close a lease: ``used`` of its bits sealed something, the rest is burnt.

        Raises:
            ValueError: The lease is not open, or has fewer bits.
        """
        if lease not in self._open or not 0 <= used <= lease.bits:
            raise ValueError(f"{lease} is not open, or has no {used} bits")
        self._open.remove(lease)
        self.leased -= lease.bits
        self.books.delivered += used
        self.books.unused += lease.bits - used

    def burn(self, lease: Lease) -> None:
        """Close a lease of which nobody knows whether it was used: its bits never come back.

        Raises:
            ValueError: The lease is not open.
        """
        self.deliver(lease, 0)

    def seconds_until(self, bits: int, conditions: Disturbance = CALM) -> float:
        """Return how long to wait until so many bits are available.

        If nobody takes any meanwhile and conditions stay, they are there after `advance` by this
        time. Infinite if no time is long enough.
        """
        if bits <= self.available:
            return 0.0
        ahead = self._production.outlook(self.time, conditions)
        if ahead is None or (self._store.capacity is not None and bits > self._store.capacity):
            return math.inf
        blocks = self._blocks_until(bits, *ahead)
        if not blocks:
            return math.inf
        wait = ahead[0].first - self.time + (blocks - 1) * ahead[0].spacing
        return seconds_covering(wait)

    def _complete(self, run: BlockRun) -> None:
        self.qber = run.qber
        size = self._net(run)
        if not size:
            self.books.aborted += run.blocks
            return
        expired, overflow = self._store.add(run, size)
        self.books.blocks += run.blocks
        self.books.produced += run.blocks * run.bits
        self.books.authentication += run.blocks * self.reserve
        self.books.expired += expired
        self.books.overflow += overflow

    def _net(self, run: BlockRun) -> int:
        """Bits that a block adds, beyond what authenticating it uses."""
        return max(0, run.bits - self.reserve)

    def _blocks_until(self, bits: int, first: BlockRun, later: BlockRun) -> int:
        """Return the least number of blocks that make ``bits`` available; 0 if none does.

        Starts from a lower bound and raises it by what is missing until nothing is. Meanwhile
        old bits expire; after ``lasting`` blocks, new ones expire as fast as they come.
        """
        size, max_age = self._net(later), self._store.max_age
        lasting = bits if max_age is None else -(-max_age // first.spacing)
        blocks = 1
        while blocks <= lasting + 1:
            old = self._store.alive_at(first.first + (blocks - 1) * first.spacing)
            new = (blocks - 1) * size + (self._net(first) if blocks <= lasting else 0)
            missing = bits - old - new
            if missing <= 0:
                return blocks
            if not size:
                return 0
            blocks += -(-missing // size)
        return 0
