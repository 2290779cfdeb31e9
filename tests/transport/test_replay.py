from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.transport import (
    Direction,
    EnvelopeError,
    Header,
    KeyReference,
    Reason,
    Refused,
    ReplayGuard,
    Route,
)
from deffd_flower.transport.replay import REMEMBERED_REFERENCES, WINDOW

ROUTE = Route(1, "alice", "bob", Direction.MODEL, 1, 0)


def message(
    sequence: int, *references: KeyReference, sender: str = "alice", run: int = 1
) -> Header:
    route = replace(ROUTE, sequence=sequence, sender=sender, run=run)
    return Header(3, route, 0, references=references)


def accepted(guard: ReplayGuard, header: Header, uses: int = 1) -> bool:
    try:
        guard.commit(header, uses)
    except Refused:
        return False
    return True


numbers = st.one_of(st.integers(0, 6), st.integers(1000, 1040), st.integers(2040, 2080))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["alice", "carol"]), numbers), max_size=60))
def test_window_accepts_what_a_plain_set_accepts(arrivals: list[tuple[str, int]]) -> None:
    guard = ReplayGuard(1)
    seen: dict[str, set[int]] = {"alice": set(), "carol": set()}
    for sender, number in arrivals:
        history = seen[sender]
        new = number not in history and number > max(history, default=-1) - WINDOW
        assert accepted(guard, message(number, sender=sender)) is new
        if new:
            history.add(number)
        guard = ReplayGuard.from_bytes(guard.to_bytes())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(1, 6)),
        max_size=25,
    )
)
def test_no_key_byte_opens_two_messages(pieces: list[tuple[int, int, int]]) -> None:
    """Against a plain set of the bytes used so far."""
    guard, used = ReplayGuard(1), set[tuple[int, int]]()
    for sequence, (key, start, size) in enumerate(pieces):
        wanted = {(key, byte) for byte in range(start, start + size)}
        reference = KeyReference(UUID(int=key), 8 * start, 8 * size)
        fresh = not wanted & used
        assert accepted(guard, message(sequence, reference)) is fresh
        if fresh:
            used |= wanted
        guard = ReplayGuard.from_bytes(guard.to_bytes())


@settings(deadline=None)
@given(st.integers(1, 5))
def test_a_key_that_may_open_several_messages_opens_so_many(uses: int) -> None:
    guard, key = ReplayGuard(1), KeyReference(UUID(int=1), 0, 256)
    outcomes = [accepted(guard, message(sequence, key), uses) for sequence in range(uses + 2)]
    assert outcomes == [True] * uses + [False] * 2
    part = KeyReference(UUID(int=1), 0, 128)
    assert not accepted(guard, message(99, part), uses)


def test_window_edges() -> None:
    guard = ReplayGuard(1)
    assert accepted(guard, message(WINDOW))
    assert accepted(guard, message(1))
    assert not accepted(guard, message(0))
    assert accepted(guard, message(2**64 - 1))
    assert not accepted(guard, message(WINDOW + 1))


def test_checking_leaves_no_mark_and_a_refused_commit_neither() -> None:
    guard, key = ReplayGuard(1), KeyReference(UUID(int=1), 0, 256)
    empty = guard.to_bytes()
    guard.check(message(5, key))
    assert guard.to_bytes() == empty
    guard.commit(message(5, key))
    once = guard.to_bytes()
    refused = {Reason.REPLAYED: message(5), Reason.KEY_REUSED: message(6, key)}
    for reason, header in refused.items():
        with pytest.raises(Refused) as raised:
            guard.commit(header)
        assert raised.value.reason is reason
        assert guard.to_bytes() == once


def test_other_runs_are_refused() -> None:
    with pytest.raises(Refused) as raised:
        ReplayGuard(1).check(message(0, run=2))
    assert raised.value.reason is Reason.WRONG_RUN


def test_memory_stays_bounded_over_a_long_run() -> None:
    guard = ReplayGuard(1)
    for sequence in range(3 * REMEMBERED_REFERENCES):
        guard.commit(message(sequence, KeyReference(UUID(int=sequence), 0, 256)))
    size = len(guard.to_bytes())
    assert size <= 8 + 4 + 393 + 4 + 36 * REMEMBERED_REFERENCES
    after = 3 * REMEMBERED_REFERENCES
    assert not accepted(guard, message(after, KeyReference(UUID(int=after - 1), 0, 256)))
    guard.commit(message(after, KeyReference(UUID(int=after), 0, 256)))
    assert len(guard.to_bytes()) == size


def test_forgetting_the_oldest_piece_of_a_key_keeps_the_others() -> None:
    guard = ReplayGuard(1)
    for sequence in range(REMEMBERED_REFERENCES + 1):
        guard.commit(message(sequence, KeyReference(UUID(int=1), 256 * sequence, 256)))
    later = REMEMBERED_REFERENCES + 1
    for piece in (1, 2, REMEMBERED_REFERENCES):
        assert not accepted(guard, message(later, KeyReference(UUID(int=1), 256 * piece + 8, 8)))
    assert accepted(guard, message(later, KeyReference(UUID(int=1), 8, 8)))


def test_a_message_with_very_many_references_is_remembered_whole() -> None:
    guard = ReplayGuard(1)
    pieces = [KeyReference(UUID(int=key), 0, 8) for key in range(REMEMBERED_REFERENCES + 10)]
    guard.commit(message(0, *pieces))
    for index in (0, 5, len(pieces) - 1):
        assert not accepted(guard, message(1, pieces[index]))


def test_equal_memories_have_equal_bytes_whatever_the_order_of_senders() -> None:
    one, other = ReplayGuard(1), ReplayGuard(1)
    for guard, order in ((one, ("alice", "carol")), (other, ("carol", "alice"))):
        for sender in order:
            guard.commit(message(3, sender=sender))
    assert one.to_bytes() == other.to_bytes()


def test_damaged_state_is_an_error_and_not_an_empty_memory() -> None:
    guard = ReplayGuard(1)
    guard.commit(message(3, KeyReference(UUID(int=1), 0, 256)))
    state = guard.to_bytes()
    for damaged in (state[:-1], state + b"\0", b"", state[:20]):
        with pytest.raises(EnvelopeError):
            ReplayGuard.from_bytes(damaged)
