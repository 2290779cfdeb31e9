"""A client's desk: what it seals, for whom, under which key, and what it opens."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict

from deffd_flower.errors import DeffdError
from deffd_flower.strategy.orders import Orders
from deffd_flower.transport import KeyReference, generate_kem_keypair, parse, suites
from deffd_flower.transport.desk import Desk
from deffd_flower.transport.mod import transport_mod
from tests.transport.clients import (
    MODEL,
    RUN,
    SEALING,
    become_flower,
    client,
    deliver,
    greeted,
    handing_out,
    keeping,
    message,
    never,
    parcel,
    refusal,
    sealed,
    send,
    state,
)


@pytest.fixture(autouse=True)
def _flower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become_flower(tmp_path / "qkd-secret", monkeypatch)


# Sealing and opening -----------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SEALING)
def test_what_one_client_hands_out_another_finds_in_its_message(suite: str) -> None:
    alice, bob = client(0, suite=suite), client(1, suite=suite)
    (blob,) = sealed(alice, parcel(suite, bob), server_round=3)
    assert MODEL[:16] not in blob
    header, _ = parse(blob)
    route = header.route
    assert (route.run, route.sender, route.receiver) == (RUN, "client-0", "client-1")
    assert (route.round, route.sequence, header.suite) == (3, 0, suites.get(suite).suite_id)
    received: list[list[bytes]] = []
    assert deliver(bob, blob, app=keeping(received)).has_content()
    assert received == [[MODEL]]


def test_what_an_app_hands_out_unasked_does_not_leave() -> None:
    def nothing_but_a_record(asked: Message, context: Context) -> Message:
        return Message(RecordDict({"outgoing": ArrayRecord()}), reply_to=asked)

    reply = transport_mod(message("train", Orders(1)), client(0), nothing_but_a_record)
    assert list(reply.content.array_records) == ["outbox"]
    with pytest.raises(ValueError, match="zip"):
        transport_mod(message("train", Orders(1)), client(0), handing_out(MODEL))


def test_messages_to_one_peer_are_numbered_across_messages_and_per_peer() -> None:
    alice, bob, carol = client(0), client(1), client(2)
    first = sealed(alice, parcel("aes", bob), parcel("aes", carol))
    second = sealed(alice, parcel("aes", bob))
    numbers = [parse(blob)[0].route.sequence for blob in (*first, *second)]
    assert numbers == [0, 0, 1]


def test_mail_is_sorted_by_what_is_authenticated_and_not_by_its_place_in_the_inbox() -> None:
    alice, bob, carol = (client(partition) for partition in range(3))
    early = sealed(carol, parcel("aes", bob), server_round=1, model=b"1" * 5000)
    late = [
        *sealed(alice, parcel("aes", bob), server_round=2, model=b"2" * 5000),
        *sealed(carol, parcel("aes", bob), server_round=2, model=b"3" * 5000),
        *sealed(carol, parcel("aes", bob), server_round=2, model=b"4" * 5000),
    ]
    received: list[list[bytes]] = []
    assert deliver(bob, *reversed([*early, *late]), app=keeping(received)).has_content()
    assert [model[:1] for model in received[0]] == [b"1", b"2", b"3", b"4"]


def test_a_greeting_tells_a_proven_public_key_and_keeps_the_private_one() -> None:
    bob = client(1)
    public, proof = greeted(bob)
    private = bob.state.config_records["transport"]["kem-private"]
    assert isinstance(private, bytes)
    assert generate_kem_keypair(private).public == public
    Desk(client(0))._identity.check("client-1", public, proof)
    with pytest.raises(DeffdError, match="not proven"):
        Desk(client(0))._identity.check("client-2", public, proof)


# Keys --------------------------------------------------------------------------------------------


def test_no_key_seals_twice_whatever_the_server_grants() -> None:
    alice, bob, carol = client(0, suite="otp"), client(1, suite="otp"), client(2, suite="otp")
    used = parcel("otp", bob)
    sealed(alice, used)
    (granted,) = used.references
    tail = KeyReference(granted.key_id, granted.end, granted.length)
    fresh = KeyReference(uuid4(), 0, 8)
    for again in ((granted,), (tail,), (fresh, granted)):
        for receiver in (bob, carol):
            reply = send(alice, replace(parcel("otp", receiver), references=again))
            assert refusal(reply) == "a key was granted that has been granted before"
    twice = parcel("otp", bob)
    assert "granted before" in refusal(send(alice, twice, twice))
    assert send(alice, twice).has_content()


def test_a_key_granted_in_both_directions_is_two_pads() -> None:
    """A server that lets neither message through, and has both ends use one key, learns nothing."""
    alice, bob = client(0, suite="otp"), client(1, suite="otp")
    there, back = parcel("otp", bob), parcel("otp", alice)
    answer = os.urandom(len(MODEL))
    (one,) = sealed(alice, there)
    (two,) = sealed(bob, replace(back, references=there.references), model=answer)
    bodies, models = [
        np.bitwise_xor(*(np.frombuffer(part[: len(MODEL)], np.uint8) for part in parts))
        for parts in ((parse(one)[1], parse(two)[1]), (MODEL, answer))
    ]
    assert (bodies != models).any()


@pytest.mark.parametrize("suite", ["aes", "otp", "hybrid"])
def test_two_runs_have_no_key_in_common(suite: str) -> None:
    alice, bob, later = (
        client(0, suite=suite),
        client(1, suite=suite),
        client(1, RUN + 1, suite=suite),
    )
    greeted(later)
    (blob,) = sealed(alice, parcel(suite, bob))
    assert refusal(deliver(later, blob)) == "message refused: wrong-run"
    header, body = parse(blob)
    renamed = replace(header, route=replace(header.route, run=RUN + 1))
    assert refusal(deliver(later, renamed.encode() + bytes(body))) == "message refused: tampered"


@pytest.mark.parametrize("suite", ["aes", "hybrid"])
def test_a_key_may_seal_several_messages_whose_state_outlives_the_process(suite: str) -> None:
    keys: dict[str, Any] = {"suite": suite, "rekey_messages": 3}
    alice, bob = client(0, **keys), client(1, **keys)
    first = parcel(suite, bob)
    parcels = [first, *[replace(first, references=())] * 2]
    mail = [sealed(alice, each)[0] for each in parcels]
    assert len({parse(blob)[0].references for blob in mail}) == 1
    assert len({parse(blob)[0].nonce for blob in mail}) == 3
    assert "short" in refusal(send(alice, parcels[1]))
    assert all(deliver(bob, blob).has_content() for blob in reversed(mail))


def test_granted_key_is_taken_even_if_the_key_in_use_would_do() -> None:
    """The server grants key when it takes the one in use for lost; else both would go on apart."""
    alice, bob = (client(partition, rekey_messages=3) for partition in range(2))
    granted = [parcel("aes", bob) for _ in range(3)]
    headers = [parse(sealed(alice, each)[0])[0] for each in granted]
    assert [header.references for header in headers] == [each.references for each in granted]


def test_the_state_holds_keys_only_where_the_policy_uses_them_again() -> None:
    for messages in (1, 3):
        alice, bob = (client(partition, rekey_messages=messages) for partition in range(2))
        deliver(bob, *sealed(alice, parcel("aes", bob)))
        schedule = alice.state.config_records["transport"]["schedule/client-1"]
        kept = bob.state.config_records["transport"]["kept-keys"]
        assert isinstance(schedule, bytes)
        assert isinstance(kept, bytes)
        assert (len(schedule) > 32, len(kept) > 32) == (messages > 1, messages > 1)


# The end -----------------------------------------------------------------------------------------


def test_after_its_farewell_a_client_answers_no_message_of_the_run() -> None:
    """Else a server could make it forget what it has opened and sealed, and begin anew."""

    def parting(asked: Message, context: Context) -> Message:
        context.state.clear()
        return Message(RecordDict(), reply_to=asked)

    alice, bob = client(0, rekey_messages=3), client(1, rekey_messages=3)
    ordered = parcel("aes", bob)
    (blob,) = sealed(alice, ordered)
    deliver(bob, blob)
    for context in (alice, bob):
        assert transport_mod(message("query.finish"), context, parting).has_content()
        assert state(context) == {"transport": {"run-over": b"\1"}}
    replies = [send(alice, ordered), deliver(bob, blob)]
    replies += [transport_mod(message(f"query.{kind}"), bob, never) for kind in ("hello", "finish")]
    assert {refusal(reply) for reply in replies} == {"message refused: run-over"}
    assert deliver(client(1, rekey_messages=3), blob).has_content(), "as an amnesiac would"
