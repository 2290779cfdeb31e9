import json
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deffd_flower.transport import (
    Direction,
    EnvelopeError,
    KeyMaterial,
    KeyReference,
    KeyUnavailable,
    Reason,
    Refused,
    Route,
    generate_kem_keypair,
    open_sealed,
    parse,
    seal,
    suites,
)
from deffd_flower.transport.envelope import MAX_PLAINTEXT_BYTES
from deffd_flower.transport.suites import Aes

if TYPE_CHECKING:
    from tests.transport.conftest import LinkKeys, Mail

ALL = ["none", "pqc", "hybrid", "aes", "otp"]
SEALED = ["pqc", "hybrid", "aes", "otp"]
WITH_KEY = ["hybrid", "aes", "otp"]
GOLDEN: dict[str, str] = json.loads((Path(__file__).parent / "golden.json").read_text())


def refusal(mail: "Mail", blob: bytes, **changes: object) -> Reason:
    """Return why Bob refuses, having checked that it left no mark in his memory."""
    before = mail.guard.to_bytes()
    expect = replace(mail.expect, **changes)  # type: ignore[arg-type]  # names checked by replace
    with pytest.raises(Refused) as raised:
        mail.open(blob, expect)
    assert mail.guard.to_bytes() == before
    return raised.value.reason


@pytest.mark.parametrize("name", ALL)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(plaintext=st.binary(max_size=200))
def test_what_is_sealed_opens_to_the_same_bytes(mail: "Mail", name: str, plaintext: bytes) -> None:
    route = mail.route()
    opened = mail.open(mail.seal(name, plaintext, route))
    assert opened.plaintext == plaintext
    assert opened.header.route == route
    assert opened.header.suite == suites.get(name).suite_id


@pytest.mark.parametrize("name", SEALED)
def test_plaintext_does_not_occur_in_the_envelope(mail: "Mail", name: str) -> None:
    plaintext = b"a long and recognisable plaintext"
    blob = mail.seal(name, plaintext)
    assert not any(plaintext[at : at + 4] in blob for at in range(len(plaintext) - 3))
    assert plaintext in mail.seal("none", plaintext)


@pytest.mark.parametrize("name", SEALED)
def test_every_single_flipped_bit_is_refused(mail: "Mail", name: str) -> None:
    blob = mail.seal(name, b"weights")
    before = mail.guard.to_bytes()
    for position in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(Refused):
            mail.open(bytes(changed))
    assert mail.guard.to_bytes() == before
    assert mail.open(blob).plaintext == b"weights"


@pytest.mark.parametrize("name", ALL)
def test_every_truncated_or_extended_envelope_is_malformed(mail: "Mail", name: str) -> None:
    blob = mail.seal(name, b"weights")
    for size in range(len(blob)):
        assert refusal(mail, blob[:size]) is Reason.MALFORMED
    for tail in (b"\0", b"weights", blob):
        assert refusal(mail, blob + tail) is Reason.MALFORMED


def test_each_expectation_has_its_own_reason(mail: "Mail") -> None:
    blob = mail.seal("aes")
    assert refusal(mail, blob, run=1) is Reason.WRONG_RUN
    assert refusal(mail, blob, receiver="alice") is Reason.REFLECTED
    assert refusal(mail, blob, receiver="carol") is Reason.WRONG_RECEIVER
    assert refusal(mail, blob, senders={"carol"}) is Reason.UNKNOWN_SENDER
    assert refusal(mail, blob, direction=Direction.ANSWER) is Reason.WRONG_DIRECTION
    assert refusal(mail, blob, rounds=range(8, 9)) is Reason.WRONG_ROUND
    assert refusal(mail, blob, min_suite=suites.get("otp")) is Reason.DOWNGRADED
    assert refusal(mail, b"") is Reason.MALFORMED
    assert mail.open(blob).header.route.sender == "alice"


def test_unexpected_messages_take_no_key_from_the_source(mail: "Mail") -> None:
    blob = mail.seal("aes")
    refusal(mail, blob, run=1)
    refusal(mail, blob, min_suite=suites.get("otp"))
    refusal(mail, blob + b"\0")
    assert mail.bob.given == []


@pytest.mark.parametrize("floor", ALL)
@pytest.mark.parametrize("name", ALL)
def test_floor_admits_exactly_the_suites_from_it_upwards(
    mail: "Mail", name: str, floor: str
) -> None:
    blob = mail.seal(name)
    if ALL.index(name) < ALL.index(floor):
        assert refusal(mail, blob, min_suite=suites.get(floor)) is Reason.DOWNGRADED
    else:
        expect = replace(mail.expect, min_suite=suites.get(floor))
        assert mail.open(blob, expect).plaintext == b"weights of alice's model"


@pytest.mark.parametrize("name", SEALED)
@pytest.mark.parametrize("other", ALL)
def test_rewriting_the_suite_is_refused(mail: "Mail", name: str, other: str) -> None:
    blob = bytearray(mail.seal(name))
    if name == other:
        return
    blob[5] = suites.get(other).suite_id
    assert refusal(mail, bytes(blob)) in {Reason.MALFORMED, Reason.TAMPERED}


def test_suite_id_that_nobody_registered(mail: "Mail") -> None:
    blob = bytearray(mail.seal("aes"))
    blob[5] = 250
    assert refusal(mail, bytes(blob)) is Reason.UNKNOWN_SUITE


@pytest.mark.parametrize("name", WITH_KEY)
def test_swapping_key_ids_between_two_messages_is_refused(mail: "Mail", name: str) -> None:
    blobs = [mail.seal(name, bytes(20)), mail.seal(name, bytes(20))]
    (one, one_body), (other, other_body) = map(parse, blobs)
    crossed = [
        replace(one, references=other.references).encode() + one_body,
        replace(other, references=one.references).encode() + other_body,
    ]
    for blob in crossed:
        assert refusal(mail, blob) is Reason.TAMPERED
    for blob in blobs:
        assert mail.open(blob).plaintext == bytes(20)


@pytest.mark.parametrize("name", SEALED)
@pytest.mark.parametrize(
    "change",
    [
        {"sender": "carol"},
        {"round": 6},
        {"sequence": 99},
    ],
    ids=["sender", "round", "sequence"],
)
def test_expected_but_untrue_header_is_refused(
    mail: "Mail", name: str, change: dict[str, object]
) -> None:
    header, body = parse(mail.seal(name))
    route = replace(header.route, **change)  # type: ignore[arg-type]  # one dict, several types
    lie = replace(header, route=route, nonce=suites.get(name)().nonce(route))
    assert refusal(mail, lie.encode() + bytes(body)) is Reason.TAMPERED


@pytest.mark.parametrize("name", SEALED)
def test_message_for_another_receiver_or_run_or_role_cannot_be_readdressed(
    mail: "Mail", name: str
) -> None:
    for wrong in ({"receiver": "carol"}, {"run": 5}, {"direction": Direction.ANSWER}):
        header, body = parse(mail.seal(name, route=mail.route(**wrong)))
        right = mail.route(sequence=header.route.sequence)
        lie = replace(header, route=right, nonce=suites.get(name)().nonce(right))
        assert refusal(mail, lie.encode() + bytes(body)) is Reason.TAMPERED


@pytest.mark.parametrize("name", SEALED)
def test_reflected_message_is_refused_even_with_its_names_swapped(mail: "Mail", name: str) -> None:
    to_carol = mail.seal(name, route=mail.route(sender="bob", receiver="alice"))
    assert refusal(mail, to_carol) is Reason.REFLECTED
    header, body = parse(to_carol)
    route = replace(header.route, sender="alice", receiver="bob")
    swapped = replace(header, route=route, nonce=suites.get(name)().nonce(route))
    assert refusal(mail, swapped.encode() + bytes(body)) is Reason.TAMPERED


@pytest.mark.parametrize("name", ALL)
def test_a_message_opens_once_in_any_order(mail: "Mail", name: str) -> None:
    blobs = [mail.seal(name, bytes((index,))) for index in range(4)]
    order = [2, 0, 3, 1]
    for done, index in enumerate(order, start=1):
        assert mail.open(blobs[index]).plaintext == bytes((index,))
        for seen in order[:done]:
            assert refusal(mail, blobs[seen]) is Reason.REPLAYED


@pytest.mark.parametrize("name", WITH_KEY)
def test_a_replayed_message_takes_no_key_from_the_source(mail: "Mail", name: str) -> None:
    blob = mail.seal(name)
    mail.open(blob)
    taken = len(mail.bob.given)
    assert refusal(mail, blob) is Reason.REPLAYED
    assert len(mail.bob.given) == taken


def test_a_nonce_other_than_the_sequence_number_is_refused_even_from_the_sender(
    mail: "Mail",
) -> None:
    class AnyNonce(Aes):
        def nonce(self, route: Route) -> bytes:
            return b"\xab" * 12

    blob = seal(AnyNonce(), mail.route(), b"x", mail.alice.for_sending("bob", 256))
    assert refusal(mail, blob) is Reason.MALFORMED


@pytest.mark.parametrize("name", WITH_KEY)
def test_a_key_opens_one_message(mail: "Mail", name: str) -> None:
    grant = (KeyReference(UUID(int=5), 0, suites.get(name)().key_bits(3)),)
    first, second = mail.seal(name, b"one", grant=grant), mail.seal(name, b"two", grant=grant)
    assert mail.open(first).plaintext == b"one"
    assert refusal(mail, second) is Reason.KEY_REUSED


def test_pads_that_overlap_in_one_byte_are_refused(mail: "Mail") -> None:
    bits = suites.get("otp")().key_bits(3)
    grants = [(KeyReference(UUID(int=5), offset, bits),) for offset in (800, 800 + bits - 8)]
    first, second = (mail.seal("otp", b"abc", grant=grant) for grant in grants)
    mail.open(first)
    assert refusal(mail, second) is Reason.KEY_REUSED


@pytest.mark.parametrize("name", ALL)
def test_sealing_uses_its_key_up(mail: "Mail", name: str) -> None:
    suite = suites.get(name)()
    bits = suite.key_bits(4)
    if not bits:
        return
    key = mail.alice.for_sending("bob", bits)
    seal(suite, mail.route(), b"once", key, mail.kem.public)
    with pytest.raises(KeyUnavailable):
        seal(suite, mail.route(), b"more", key, mail.kem.public)


@pytest.mark.parametrize("name", WITH_KEY)
def test_keys_are_wiped_after_success_and_after_failure(mail: "Mail", name: str) -> None:
    good, bad = mail.seal(name), bytearray(mail.seal(name))
    bad[-1] ^= 1
    mail.open(good)
    refusal(mail, bytes(bad))
    with pytest.raises(KeyUnavailable):
        seal(suites.get("aes")(), mail.route(), b"x", mail.alice.for_sending("bob", 128))
    handed_out = mail.alice.given + mail.bob.given
    assert len(handed_out) == 5
    for key in handed_out:
        assert not any(key._secret)
        with pytest.raises(KeyUnavailable):
            _ = key.secret


@pytest.mark.parametrize("name", ["pqc", "hybrid"])
def test_another_receivers_key_pair_opens_nothing(mail: "Mail", name: str) -> None:
    blob = mail.seal(name)
    mail.kem = generate_kem_keypair()
    assert refusal(mail, blob) is Reason.TAMPERED


@pytest.mark.parametrize("private", [None, b"short"])
def test_missing_private_key_is_no_key(mail: "Mail", private: bytes | None) -> None:
    blob = mail.seal("hybrid")
    with pytest.raises(Refused) as raised:
        open_sealed(blob, mail.expect, mail.bob, mail.guard, private)
    assert raised.value.reason is Reason.NO_KEY


def test_only_the_key_of_qkd_proves_the_sender(mail: "Mail") -> None:
    """Mallory knows Bob's public key, shares no key with him and writes in Alice's name."""
    key = KeyMaterial((KeyReference(UUID(int=1), 0, 256),), bytes(32))
    forged = seal(suites.get("hybrid")(), mail.route(), b"x", key, mail.kem.public)
    assert refusal(mail, forged) is Reason.TAMPERED
    forged = seal(suites.get("pqc")(), mail.route(), b"x", None, mail.kem.public)
    assert mail.open(forged).plaintext == b"x"


class Empty:
    """A key source without keys."""

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        raise KeyUnavailable("empty")

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        raise KeyUnavailable("empty")


class Careless:
    """A key source that answers with another key than the one asked for."""

    def __init__(self, keys: "LinkKeys") -> None:
        self.keys = keys

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        return self.keys.for_sending(peer, bits, grant)

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        return self.keys.for_sending(peer, references[0].length)


def test_key_source_without_the_key(mail: "Mail") -> None:
    blob = mail.seal("aes", grant=(KeyReference(UUID(int=99), 0, 256),))
    for source in (Empty(), Careless(mail.bob)):
        with pytest.raises(Refused) as raised:
            open_sealed(blob, mail.expect, source, mail.guard)
        assert raised.value.reason is Reason.NO_KEY
    assert mail.open(blob).plaintext == b"weights of alice's model"


@pytest.mark.parametrize("bits", [0, 248, 264])
def test_sealing_takes_exactly_the_key_bits_it_needs(mail: "Mail", bits: int) -> None:
    key = mail.alice.for_sending("bob", bits) if bits else None
    with pytest.raises(KeyUnavailable, match=f"{bits} key bits for a message that takes 256"):
        seal(suites.get("aes")(), mail.route(), b"x", key)


def test_a_body_over_the_limit_is_an_error_before_anything_is_encrypted(mail: "Mail") -> None:
    too_large = memoryview(bytes(MAX_PLAINTEXT_BYTES + 1))
    with pytest.raises(EnvelopeError, match=f"from 0 to {MAX_PLAINTEXT_BYTES}"):
        seal(suites.get("aes")(), mail.route(), too_large, mail.alice.for_sending("bob", 256))


def test_no_text_holds_key_or_plaintext(mail: "Mail", caplog: pytest.LogCaptureFixture) -> None:
    plaintext = b"a long and recognisable plaintext"
    secrets = [plaintext]
    texts = []
    for name in WITH_KEY:
        blob = bytearray(mail.seal(name, plaintext))
        texts.append(repr(mail.open(bytes(blob))))
        blob = bytearray(mail.seal(name, plaintext))
        header, _ = parse(blob)
        secrets.append(mail.bob.bits(b"alice>bob", header.references[0])[:32])
        blob[-1] ^= 1
        with pytest.raises(Refused) as raised:
            mail.open(bytes(blob))
        assert str(raised.value) == "message refused: tampered"
        texts += ["".join(traceback.format_exception(raised.value)), repr(raised.value)]
    texts += [repr(key) for key in mail.alice.given + mail.bob.given] + [caplog.text]
    for secret in secrets:
        for form in (repr(secret)[2:-1], secret.hex(), repr(list(secret))[1:-1]):
            assert not any(form in text for text in texts)


@pytest.mark.parametrize("name", ["none", "aes", "otp"])
def test_sealing_gives_the_pinned_bytes(mail: "Mail", name: str) -> None:
    assert mail.seal(name, b"golden plaintext!").hex() == GOLDEN[name]


@pytest.mark.parametrize("name", ALL)
def test_pinned_envelopes_open(mail: "Mail", name: str) -> None:
    """Encapsulation is random, so `pqc` and `hybrid` are pinned from the receiver's side."""
    opened = mail.open(bytes.fromhex(GOLDEN[name]))
    assert opened.plaintext == b"golden plaintext!"
    assert opened.header.route == mail.route()
