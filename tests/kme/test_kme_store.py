"""Both ends of a link as a state machine: whatever is lost on the way, no byte is used twice."""

import hashlib
import sqlite3
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from deffd_flower.errors import DeffdError
from deffd_flower.kme import link_keys, waiting_keys
from deffd_flower.kme.ledger import ledger
from deffd_flower.kme.link_keys import LinkKeys, Lot
from deffd_flower.kme.neighbour import epoch_of
from deffd_flower.kme.streams import Range, Taken
from deffd_flower.kme.waiting_keys import (
    KeyNotFoundError,
    NamedKey,
    NotAuthorisedError,
    StoreFullError,
    WaitingKeys,
)
from deffd_flower.transport.refusal import KeyUnavailable


def store() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(link_keys.SCHEMA + waiting_keys.SCHEMA)
    return connection


class End:
    """One end of the link."""

    def __init__(self, peer: str, is_alice: bool) -> None:
        self.peer = peer
        self.is_alice = is_alice
        self.wipe()

    def wipe(self) -> None:
        self.db = store()
        self.restart()

    def restart(self) -> None:
        LinkKeys(self.db, self.peer).open()
        self.reserved: list[Taken] = []

    @property
    def link(self) -> LinkKeys:
        return LinkKeys(self.db, self.peer)

    @property
    def epoch(self) -> bytes:
        return epoch_of(self.link.state(), self.is_alice)


def key_of(epoch: bytes, lot: int, length: int) -> bytes:
    """Stand for the quantum channel: bytes that both ends find, and that are never the same."""
    return hashlib.shake_256(epoch + lot.to_bytes(8, "big")).digest(length)


class LinkMachine(RuleBasedStateMachine):
    """Alice and Bob make key, use it, lose messages, processes and whole stores."""

    def __init__(self) -> None:
        super().__init__()
        self.alice, self.bob = End("bob", is_alice=True), End("alice", is_alice=False)
        self.used: set[bytes] = set()
        self.generated = 0

    @initialize()
    def first_meeting(self) -> None:
        self.greet()

    @rule()
    def greet(self) -> None:
        # Each hears the other until both agree, as heartbeats do.
        for _ in range(3):
            for one, other in ((self.alice, self.bob), (self.bob, self.alice)):
                one.link.meet(other.link.state().nonce)
        assert self.alice.epoch == self.bob.epoch

    @rule(out=st.integers(0, 9000), back=st.integers(0, 9000), heard=st.booleans())
    def make(self, out: int, back: int, heard: bool) -> None:
        """Alice offers a lot; Bob may store it without Alice hearing so."""
        epoch, number = self.alice.epoch, self.alice.link.state().lot + 1
        state = self.bob.link.state()
        if self.bob.epoch != epoch or state.lot not in (number - 1, number):
            self.alice.link.renew()
            return
        if state.lot == number:
            out, back = state.lot_in, state.lot_out
        else:
            key = key_of(epoch, number, out + back)
            self.bob.link.store(Lot(number, key[out:], key[:out]), 0)
        if heard:
            key = key_of(epoch, number, out + back)
            self.alice.link.store(Lot(number, key[:out], key[out:]), 0)

    @rule(sender=st.booleans(), length=st.integers(1, 6000), fate=st.sampled_from("dlxm"))
    def deliver(self, sender: bool, length: int, fate: str) -> None:
        """Send a key: delivered, its answer lost, the message lost, or held back for later."""
        one, other = (self.alice, self.bob) if sender else (self.bob, self.alice)
        before = one.link.outward.stored
        try:
            taken = one.link.reserve(length)
        except KeyUnavailable:
            assert before < length
            return
        assert before >= length == len(taken.material)
        if fate == "m":
            one.reserved.append(taken)
            return
        if fate != "x":
            self.accept(one, other, taken)
        one.link.settle(length, "delivered" if fate == "d" else "burnt")

    @rule(sender=st.booleans())
    def deliver_what_was_held_back(self, sender: bool) -> None:
        one, other = (self.alice, self.bob) if sender else (self.bob, self.alice)
        if one.reserved:
            taken = one.reserved.pop()
            self.accept(one, other, taken)
            one.link.settle(len(taken.material), "delivered")

    def accept(self, one: End, other: End, taken: Taken) -> None:
        if one.epoch != other.epoch:
            return
        try:
            material = other.link.accept(taken.ranges, "delivered")
        except KeyUnavailable:
            return
        assert material == taken.material
        if len(material) >= 16:
            assert material not in self.used
            self.used.add(material)
        # Nobody gets these bytes by naming them again.
        with pytest.raises(KeyUnavailable):
            other.link.accept(taken.ranges, "delivered")

    @rule(sender=st.booleans())
    def floor(self, sender: bool) -> None:
        one, other = (self.alice, self.bob) if sender else (self.bob, self.alice)
        if one.epoch == other.epoch:
            held = [each.ranges[0].position for each in one.reserved]
            floor = min([one.link.outward.lowest, *held])
            other.link.drop_below(floor)
            assert other.link.inward.overlapping(Range(0, floor)) == []

    @rule(who=st.booleans())
    def kill(self, who: bool) -> None:
        (self.alice if who else self.bob).restart()

    @rule(who=st.booleans())
    def lose_store(self, who: bool) -> None:
        (self.alice if who else self.bob).wipe()
        self.greet()

    @invariant()
    def books_are_balanced(self) -> None:
        for end in (self.alice, self.bob):
            ledger(end.db).check()
            held = sum(len(each.material) for each in end.reserved)
            assert sum(balance.reserved for balance in ledger(end.db).balances) == held
            for stream, balance in zip(("in", "out"), ledger(end.db).balances, strict=True):
                assert balance.way == stream
                one = end.link.outward if stream == "out" else end.link.inward
                assert one.stored == balance.stored


LinkMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
test_no_byte_is_used_twice = LinkMachine.TestCase


def filled(length: int) -> tuple[LinkKeys, bytes]:
    link = LinkKeys(store(), "peer")
    link.open()
    material = hashlib.shake_256(b"x").digest(length)
    link.store(Lot(1, material, material), 0)
    return link, material


def test_bytes_are_handed_out_in_order_without_gaps() -> None:
    link, material = filled(10_000)
    taken = [link.reserve(length) for length in (1, 4095, 4096, 5, 1803)]
    assert b"".join(each.material for each in taken) == material
    assert [each.ranges for each in taken][:2] == [((0, 1),), ((1, 4095),)]
    assert link.outward.stored == 0
    assert link.outward.lowest == 10_000
    with pytest.raises(KeyUnavailable, match="1 bytes of key wanted, 1 are missing"):
        link.reserve(1)


def test_what_is_too_old_is_passed_over_and_still_there_for_others() -> None:
    link, old = filled(100)
    young = b"y" * 50
    (born,) = (link.outward.oldest(1, 0)[0].born_ns,)
    link.store(Lot(2, young, b""), 0)
    with pytest.raises(KeyUnavailable):
        link.reserve(51, born + 1)
    taken = link.reserve(50, born + 1)
    assert (taken.material, taken.ranges) == (young, (Range(100, 50),))
    assert link.reserve(100).material == old


def test_one_key_may_come_from_several_pieces() -> None:
    link, material = filled(300)
    mirror, _ = filled(300)
    first = link.reserve(100)
    assert mirror.accept(first.ranges, "delivered") == first.material
    # A hole in the middle, as a key with a limit on its age makes it.
    segments = link.outward.overlapping(Range(150, 50))
    link.outward.cut(segments, Range(150, 50), "reserved")
    taken = link.reserve(150)
    assert taken.ranges == ((100, 50), (200, 100))
    assert taken.material == material[100:150] + material[200:]
    assert mirror.accept(taken.ranges, "delivered") == taken.material


@pytest.mark.parametrize(
    "wanted", [Range(0, 0), Range(0, 301), Range(299, 2), Range(400, 1), Range(2**62, 5)]
)
def test_bytes_that_are_not_there_cannot_be_named(wanted: Range) -> None:
    link, _ = filled(300)
    with pytest.raises(KeyUnavailable):
        link.accept([wanted], "delivered")
    assert link.inward.stored == 300


def keys(number: int) -> list[NamedKey]:
    return [NamedKey(uuid4(), bytes([index]) * 32) for index in range(number)]


def test_each_slave_fetches_each_key_once() -> None:
    db = store()
    waiting, made = WaitingKeys(db), keys(3)
    waiting.add(made, "m", ["s", "t"], 10**6)
    ids = [key.key_id for key in made]
    assert waiting.fetch(ids[::-1], "m", "s") == made[::-1]
    for gone in (ids, ids[:1]):
        with pytest.raises(KeyNotFoundError):
            waiting.fetch(gone, "m", "s")
    assert waiting.fetch(ids[:1], "m", "t") == made[:1]
    assert db.execute("SELECT COUNT(*) FROM key").fetchone() == (2,)
    assert waiting.fetch(ids[1:], "m", "t") == made[1:]
    assert db.execute("SELECT COUNT(*) FROM key").fetchone() == (0,)
    tally = waiting.tally()
    assert (tally.registered, tally.waiting, tally.fetched, tally.expired) == (6, 0, 6, 0)


def test_a_fetch_that_is_refused_changes_nothing() -> None:
    waiting, made = WaitingKeys(store()), keys(2)
    waiting.add(made, "m", ["s"], 10**6)
    ids = [key.key_id for key in made]
    with pytest.raises(NotAuthorisedError):
        waiting.fetch(ids, "m", "t")
    for wrong in ([*ids, UUID(int=1)], [UUID(int=1)]):
        with pytest.raises(KeyNotFoundError):
            waiting.fetch(wrong, "m", "s")
    with pytest.raises(KeyNotFoundError):
        waiting.fetch(ids, "n", "s")
    assert waiting.fetch(ids, "m", "s") == made


def test_waiting_keys_have_a_limit_and_an_id_of_their_own() -> None:
    waiting, made = WaitingKeys(store()), keys(2)
    waiting.add(made, "m", ["s"], 64)
    with pytest.raises(StoreFullError):
        waiting.add(keys(1), "m", ["s"], 95)
    waiting.add(keys(1), "m", ["s"], 96)
    with pytest.raises(DeffdError, match="key_ID is taken"):
        waiting.add(made[:1], "other", ["s"], 10**6)
    waiting.expire(2**62)
    assert waiting.tally() == (3, 0, 0, 3)
    waiting.add(keys(3), "m", ["s"], 96)
