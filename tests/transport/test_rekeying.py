import math
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.transport import (
    EnvelopeError,
    KeptKeys,
    KeyMaterial,
    KeyReference,
    KeySchedule,
    Reason,
    Refused,
    RekeyPolicy,
    parse,
    seal,
    suites,
)

if TYPE_CHECKING:
    from tests.transport.conftest import Mail

AES, HYBRID, OTP, PQC = (suites.get(name)() for name in ("aes", "hybrid", "otp", "pqc"))


def key_id(key: KeyMaterial | None) -> object:
    assert key is not None
    return key.references[0].key_id


def send(mail: "Mail", schedule: KeySchedule, now: float = 0.0, suite_name: str = "aes") -> bytes:
    suite = suites.get(suite_name)()
    sequence, key = schedule.next_message(suite, 5, now, mail.alice)
    route = mail.route(sequence=sequence)
    return seal(suite, route, b"model", key, mail.kem.public)


@pytest.mark.parametrize("suite", [AES, HYBRID, OTP])
def test_by_default_every_message_gets_its_own_key(mail: "Mail", suite: type) -> None:
    schedule = KeySchedule("bob", RekeyPolicy())
    drawn = [schedule.next_message(suite, 5, 0.0, mail.alice) for _ in range(4)]  # type: ignore[arg-type]
    assert [sequence for sequence, _ in drawn] == [0, 1, 2, 3]
    assert len({key_id(key) for _, key in drawn}) == 4


def test_a_suite_without_qkd_takes_no_key_but_counts_on(mail: "Mail") -> None:
    schedule = KeySchedule("bob", RekeyPolicy())
    assert not schedule.needs_key(PQC, 5, 0.0)
    assert schedule.next_message(PQC, 5, 0.0, mail.alice) == (0, None)
    assert schedule.next_message(AES, 5, 0.0, mail.alice)[0] == 1
    assert len(mail.alice.given) == 1


@pytest.mark.parametrize(
    ("policy", "sizes", "times", "keys"),
    [
        (RekeyPolicy(messages=3), [1] * 7, [0] * 7, [0, 0, 0, 1, 1, 1, 2]),
        (RekeyPolicy(messages=9, bytes=10), [4, 4, 4, 30, 1], [0] * 5, [0, 0, 1, 2, 3]),
        (RekeyPolicy(messages=9, seconds=10), [1] * 5, [0, 9, 10, 19.5, 20], [0, 0, 1, 1, 2]),
        (RekeyPolicy(messages=9, seconds=10), [1] * 3, [50, 40, 41], [0, 1, 1]),
    ],
    ids=["messages", "bytes", "seconds", "clock set back"],
)
def test_fresh_key_on_the_first_limit(
    mail: "Mail", policy: RekeyPolicy, sizes: list[int], times: list[float], keys: list[int]
) -> None:
    schedule = KeySchedule("bob", policy)
    drawn = []
    for size, now in zip(sizes, times, strict=True):
        announced = schedule.needs_key(AES, size, now)
        before = len(mail.alice.given)
        drawn.append(key_id(schedule.next_message(AES, size, now, mail.alice)[1]))
        assert announced is (len(mail.alice.given) > before)
    assert [sorted(set(drawn), key=drawn.index).index(each) for each in drawn] == keys


def test_one_time_pads_are_never_used_again_whatever_the_policy(mail: "Mail") -> None:
    schedule = KeySchedule("bob", RekeyPolicy(messages=100))
    pads = [schedule.next_message(OTP, 5, 0.0, mail.alice)[1] for _ in range(5)]
    assert len({key_id(pad) for pad in pads}) == 5


def test_a_key_serves_one_suite(mail: "Mail") -> None:
    schedule = KeySchedule("bob", RekeyPolicy(messages=100))
    drawn = [schedule.next_message(suite, 5, 0.0, mail.alice)[1] for suite in (AES, HYBRID, AES)]
    assert len({key_id(key) for key in drawn}) == 3


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(
    messages=st.integers(2, 5),
    steps=st.lists(st.sampled_from(["aes", "hybrid", "save"]), max_size=25),
)
def test_no_nonce_occurs_twice_under_a_key_across_saved_states(
    mail: "Mail", messages: int, steps: list[str]
) -> None:
    policy = RekeyPolicy(messages=messages)
    schedule, seen = KeySchedule("bob", policy), set[tuple[object, bytes]]()
    sent = 0
    for step in steps:
        if step == "save":
            schedule = KeySchedule.from_bytes(schedule.to_bytes(), "bob", policy)
            continue
        header, _ = parse(send(mail, schedule, suite_name=step))
        seen.add((header.references, header.nonce))
        sent += 1
    assert len(seen) == sent


def test_state_under_the_default_policy_holds_no_key(mail: "Mail") -> None:
    schedule = KeySchedule("bob", RekeyPolicy())
    send(mail, schedule)
    assert schedule.to_bytes() == (1).to_bytes(8, "big") + b"\0"
    kept = KeptKeys(RekeyPolicy())
    mail.open(send(mail, schedule), kept=kept)
    assert kept.to_bytes() == bytes(4)


def test_messages_under_one_key_open_in_any_order_as_often_as_the_policy_says(
    mail: "Mail",
) -> None:
    policy = RekeyPolicy(messages=3)
    schedule, kept = KeySchedule("bob", policy), KeptKeys(policy)
    blobs = [send(mail, schedule) for _ in range(6)]
    assert len({parse(blob)[0].references for blob in blobs}) == 2
    for index in (4, 0, 5, 2, 1, 3):
        assert mail.open(blobs[index], kept=kept).plaintext == b"model"
        kept = KeptKeys.from_bytes(kept.to_bytes(), policy)
    assert len(mail.bob.given) == 2
    for blob in blobs:
        with pytest.raises(Refused) as raised:
            mail.open(blob, kept=kept)
        assert raised.value.reason is Reason.REPLAYED


def test_receiver_takes_fewer_messages_per_key_than_a_lax_sender_seals(mail: "Mail") -> None:
    schedule, kept = KeySchedule("bob", RekeyPolicy(messages=9)), KeptKeys(RekeyPolicy(messages=2))
    outcomes = []
    for _ in range(4):
        try:
            mail.open(send(mail, schedule), kept=kept)
            outcomes.append("opened")
        except Refused as refused:
            outcomes.append(refused.reason)
    assert outcomes == ["opened", "opened", Reason.KEY_REUSED, Reason.KEY_REUSED]


def test_without_a_policy_of_reuse_a_key_opens_one_message(mail: "Mail") -> None:
    schedule = KeySchedule("bob", RekeyPolicy(messages=9))
    mail.open(send(mail, schedule))
    with pytest.raises(Refused) as raised:
        mail.open(send(mail, schedule))
    assert raised.value.reason is Reason.KEY_REUSED


def test_a_pad_opens_one_message_also_under_a_policy_of_reuse(mail: "Mail") -> None:
    kept = KeptKeys(RekeyPolicy(messages=9))
    pad = (KeyReference(UUID(int=5), 0, OTP.key_bits(3)),)
    first, second = (mail.seal("otp", text, grant=pad) for text in (b"one", b"two"))
    assert mail.open(first, kept=kept).plaintext == b"one"
    assert kept.to_bytes() == bytes(4)
    with pytest.raises(Refused) as raised:
        mail.open(second, kept=kept)
    assert raised.value.reason is Reason.KEY_REUSED


def test_kept_keys_belong_to_their_sender_and_are_two_at_most(mail: "Mail") -> None:
    kept = KeptKeys(RekeyPolicy(messages=2))
    keys = [
        mail.bob.for_receiving("alice", key.references)
        for key in (mail.alice.for_sending("bob", 256) for _ in range(3))
    ]
    for key in keys:
        kept.keep("alice", key)
        kept.keep("alice", key)
    assert [bool(kept.get("alice", key.references)) for key in keys] == [False, True, True]
    assert kept.get("carol", keys[2].references) is None
    found = kept.get("alice", keys[2].references)
    assert found is not None
    assert found.secret == keys[2].secret
    found.wipe()
    assert kept.get("alice", keys[2].references).secret == keys[2].secret  # type: ignore[union-attr]


def test_a_tampered_message_keeps_no_key(mail: "Mail") -> None:
    policy = RekeyPolicy(messages=2)
    kept, blob = KeptKeys(policy), bytearray(send(mail, KeySchedule("bob", policy)))
    blob[-1] ^= 1
    with pytest.raises(Refused):
        mail.open(bytes(blob), kept=kept)
    assert kept.to_bytes() == bytes(4)


def test_text_forms_of_states_hold_no_key(mail: "Mail") -> None:
    policy = RekeyPolicy(messages=2)
    schedule = KeySchedule("bob", policy)
    _, key = schedule.next_message(AES, 1, 0.0, mail.alice)
    assert key is not None
    shown = repr(schedule) + repr(vars(schedule))
    assert repr(bytes(key.secret))[2:-1] not in shown
    assert bytes(key.secret) in schedule.to_bytes()


def test_damaged_states_are_errors(mail: "Mail") -> None:
    policy = RekeyPolicy(messages=2)
    schedule, kept = KeySchedule("bob", policy), KeptKeys(policy)
    mail.open(send(mail, schedule), kept=kept)
    for state in (schedule.to_bytes(), kept.to_bytes()):
        for damaged in (state[:-1], state + b"\0", b""):
            with pytest.raises(EnvelopeError):
                KeySchedule.from_bytes(damaged, "bob", policy)
            with pytest.raises(EnvelopeError):
                KeptKeys.from_bytes(damaged, policy)


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ({"messages": 0}, "rekey-messages"),
        ({"messages": 2**23 + 1}, "rekey-messages"),
        ({"bytes": 0}, "rekey-bytes"),
        ({"bytes": 2**36 + 1}, "rekey-bytes"),
        ({"seconds": 0.0}, "rekey-seconds"),
        ({"seconds": math.nan}, "rekey-seconds"),
    ],
)
def test_limits_out_of_range_are_errors_for_the_user(limits: dict[str, float], key: str) -> None:
    with pytest.raises(RequestError) as raised:
        replace(RekeyPolicy(), **limits)  # type: ignore[arg-type]  # one dict, two types
    assert raised.value.key == key
