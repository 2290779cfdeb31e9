"""First in, first out: bits that come in blocks, grow old, and find the store full."""

from collections import deque
from dataclasses import dataclass
from itertools import chain

import numpy as np

from deffd_flower.qkd.production import BlockRun


@dataclass(slots=True)
class _Lots:
    """Equal blocks in the store: a million of them take the room and the time of one."""

    born: int
    spacing: int
    count: int
    size: int
    taken: int = 0

    @property
    def bits(self) -> int:
        return self.count * self.size - self.taken

    def born_until(self, moment: int) -> int:
        """Return how many of the blocks were born at that moment or before."""
        return max(0, min(self.count, (moment - self.born) // self.spacing + 1))

    def bits_of(self, blocks: int) -> int:
        """Return how many bits are left in so many blocks, from the oldest."""
        return blocks * self.size - self.taken if blocks else 0

    def drop(self, bits: int) -> None:
        gone, self.taken = divmod(self.taken + bits, self.size)
        self.born += gone * self.spacing
        self.count -= gone

    def is_continued_by(self, other: "_Lots") -> bool:
        same = (self.size, self.spacing) == (other.size, other.spacing)
        return same and self.born + self.count * self.spacing == other.born


class KeyStore:
    """Bits in the order in which they were produced; positions count from the first ever stored.

    Every block's arrival, and every bit's end by age or because the store is full, counts in its
    order of time, however long the stretch that is worked out in one go.

    Args:
        capacity: Bits that fit; the oldest make room for new ones. ``None``: no limit.
        max_age: Age at which a bit expires, in ns; ``None`` for never.
    """

    def __init__(self, capacity: int | None, max_age: int | None) -> None:
        self.capacity = capacity
        self.max_age = max_age
        self.bits = 0
        self._head = 0
        self._lots: deque[_Lots] = deque()

    def take(self, bits: int) -> tuple[int, int]:
        """Take the oldest bits; return the first one's position and its birth in ns."""
        first = self._head, self._lots[0].born
        self._drop(bits)
        return first

    def add(self, run: BlockRun, size: int) -> tuple[int, int]:
        """Store ``size`` bits of each block.

        Returns:
            Bits that have expired until the last block came, and bits that had to make room.
        """
        new = _Lots(run.first, run.spacing, run.blocks, size)
        aged, pushed = self._aged(new, run.last)
        total = self.bits + new.bits
        surplus = 0 if self.capacity is None else max(0, total - self.capacity - aged)
        if self._lots and self._lots[-1].is_continued_by(new):
            self._lots[-1].count += new.count
        else:
            self._lots.append(new)
        self.bits = total
        self._drop(aged + surplus)
        return aged - pushed, surplus + pushed

    def expire(self, now: int) -> int:
        """Throw away what is too old at ``now``; return how many bits that was."""
        if self.max_age is None:
            return 0
        aged = self.bits - self.alive_at(now)
        self._drop(aged)
        return aged

    def alive_at(self, moment: int) -> int:
        """Return how many of the bits stored now will not have expired by then."""
        if self.max_age is None:
            return self.bits
        aged = 0
        for lots in self._lots:
            old = lots.born_until(moment - self.max_age)
            aged += lots.bits_of(old)
            if old < lots.count:
                break
        return self.bits - aged

    def _drop(self, bits: int) -> None:
        self.bits -= bits
        self._head += bits
        while bits:
            oldest = self._lots[0]
            gone = min(bits, oldest.bits)
            oldest.drop(gone)
            bits -= gone
            if not oldest.count:
                self._lots.popleft()

    def _aged(self, new: _Lots, last: int) -> tuple[int, int]:
        """Return the bits too old when the last new block comes, and how many of them had been
        pushed out by then."""
        if self.max_age is None:
            return 0, 0
        aged = pushed = 0
        before = 0
        for lots in chain(self._lots, (new,)):
            old = lots.born_until(last - self.max_age)
            aged += lots.bits_of(old)
            pushed += self._pushed_out(lots, old, before, new)
            if old < lots.count:
                break
            before += lots.bits
        return aged, pushed

    def _pushed_out(self, lots: _Lots, old: int, before: int, new: _Lots) -> int:
        """Return how many bits of the first ``old`` blocks new ones pushed out before they aged.

        After n new blocks all but ``capacity`` bits are out. Bits are numbered from the oldest
        in the store, 0, to the newest that comes; ``before`` is the number of the lot's first.
        """
        if self.capacity is None or self.max_age is None or not old:
            return 0
        if self.bits + new.bits <= self.capacity:
            return 0
        if lots is new:
            in_time = -(-self.max_age // new.spacing)
            return old * min(max(in_time * new.size - self.capacity, 0), new.size)
        block = np.arange(old, dtype=np.int64)
        deaths = lots.born + block * lots.spacing + self.max_age
        arrived = np.clip(-((new.born - deaths) // new.spacing), 0, new.count)
        out = self.bits + arrived * new.size - self.capacity
        ends = before + (block + 1) * lots.size - lots.taken
        starts = np.maximum(ends - lots.size, before)
        return int(np.clip(out - starts, 0, ends - starts).sum())
