"""The pool against a reference that walks through every block and every lot, one by one."""

from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from deffd_flower.qkd.pool import KeyPool, Lease, PoolSettings
from deffd_flower.qkd.production import CALM, BlockYield, Disturbance
from deffd_flower.transport.refusal import KeyUnavailable

#: All time steps are multiples of 4 ns and these paces divide each other, so that shares of a
#: block are exact in both.
PACE = {0: 60, 1: 120, 2: 240}
CONDITIONS = [
    CALM,
    Disturbance(extra_loss_db=1.0),
    Disturbance(extra_loss_db=2.0),
    Disturbance(extra_qber=0.1),
    Disturbance(extra_qber=0.04, extra_loss_db=1.0),
    Disturbance(silent=True),
]


def bits_at(qber: float) -> int:
    return max(0, 100 - round(1000 * qber))


def yield_of(seen: Disturbance) -> BlockYield:
    pace = 60 * (1 + seen.extra_loss_db) if seen.extra_loss_db < 2 else 240
    return BlockYield(pace * 1e-9, bits_at(seen.extra_qber), seen.extra_qber)


class Reference:
    """The same rules, written down as plainly as they can be."""

    def __init__(self, capacity: int | None, max_age: int | None, reserve: int) -> None:
        self.capacity, self.max_age, self.reserve = capacity, max_age, reserve
        self.time = 0
        self.lots: list[list[int]] = []
        self.filled = Fraction(0)
        self.errors = Fraction(0)
        self.produced = reserve
        self.expired = self.overflow = self.authentication = self.aborted = 0

    @property
    def available(self) -> int:
        return sum(bits for _, bits in self.lots)

    def advance(self, duration: int, seen: Disturbance) -> None:
        end = self.time + duration
        if not seen.silent:
            pace = PACE[int(seen.extra_loss_db)]
            while (done := self.time + (1 - self.filled) * pace) <= end:
                self.errors += (1 - self.filled) * Fraction(seen.extra_qber)
                self.time = int(done)
                self.complete()
                self.filled = self.errors = Fraction(0)
            self.filled += Fraction(end - self.time, pace)
            self.errors += Fraction(end - self.time, pace) * Fraction(seen.extra_qber)
        self.time = end
        self.expire()

    def complete(self) -> None:
        self.expire()
        bits = bits_at(round(float(self.errors), 4))
        if bits <= self.reserve:
            self.aborted += 1
            return
        self.produced += bits
        self.authentication += self.reserve
        self.lots.append([self.time, bits - self.reserve])
        if self.capacity is not None and self.available > self.capacity:
            surplus = self.available - self.capacity
            self.overflow += surplus
            self.take(surplus)

    def expire(self) -> None:
        while self.max_age and self.lots and self.lots[0][0] + self.max_age <= self.time:
            self.expired += self.lots.pop(0)[1]

    def take(self, bits: int) -> None:
        while bits:
            gone = min(bits, self.lots[0][1])
            self.lots[0][1] -= gone
            bits -= gone
            if not self.lots[0][1]:
                self.lots.pop(0)


class PoolAgainstReference(RuleBasedStateMachine):
    leases: Bundle[Lease] = Bundle("leases")

    @initialize(
        capacity=st.none() | st.integers(1, 1_500),
        max_age=st.none() | st.integers(1, 3_000),
        reserve=st.sampled_from([0, 7, 64]),
    )
    def begin(self, capacity: int | None, max_age: int | None, reserve: int) -> None:
        age_s = None if max_age is None else max_age * 1e-9
        self.pool = KeyPool(yield_of, PoolSettings(capacity, age_s, reserve))
        self.reference = Reference(capacity, max_age, reserve)
        self.given: list[tuple[int, int]] = []
        self.open = 0
        self.used = self.unused = 0

    @rule(
        steps=st.integers(0, 100) | st.integers(0, 3_000),
        seen=st.sampled_from(CONDITIONS),
    )
    def time_passes(self, steps: int, seen: Disturbance) -> None:
        self.pool.advance_to(self.pool.time + 4 * steps, seen)
        self.reference.advance(4 * steps, seen)

    @rule(target=leases, part=st.floats(0.001, 1))
    @precondition(lambda self: self.pool.available > 0)
    def lease(self, part: float) -> Lease:
        bits = max(1, int(part * self.pool.available))
        lease = self.pool.lease(bits)
        self.reference.take(bits)
        self.given.append((lease.start, lease.start + bits))
        self.open += bits
        return lease

    @rule()
    def too_much_is_refused(self) -> None:
        with pytest.raises(KeyUnavailable):
            self.pool.lease(self.pool.available + 1)

    @rule(lease=consumes(leases), part=st.floats(0, 1))
    def deliver(self, lease: Lease, part: float) -> None:
        used = int(part * lease.bits)
        self.pool.deliver(lease, used)
        self.used += used
        self.unused += lease.bits - used
        self.open -= lease.bits

    @rule(lease=consumes(leases))
    def crash(self, lease: Lease) -> None:
        self.pool.burn(lease)
        self.unused += lease.bits
        self.open -= lease.bits

    @invariant()
    def nothing_is_lost(self) -> None:
        books, pool = self.pool.books, self.pool
        assert books.produced == books.delivered + pool.stored + books.expired + books.burnt
        assert pool.stored == pool.available + pool.leased + pool.reserve

    @invariant()
    def agrees_with_the_reference(self) -> None:
        books, reference = self.pool.books, self.reference
        assert self.pool.available == reference.available
        assert books.produced == reference.produced
        assert books.expired == reference.expired
        assert books.overflow == reference.overflow
        assert books.authentication == reference.authentication
        assert books.aborted == reference.aborted
        assert (books.delivered, books.unused) == (self.used, self.unused)
        assert self.pool.leased == self.open

    @invariant()
    def no_bit_is_leased_twice(self) -> None:
        assert all(one[1] <= two[0] for one, two in zip(self.given, self.given[1:], strict=False))


PoolAgainstReference.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestPoolAgainstReference = PoolAgainstReference.TestCase
