"""The mod before the app: what it lets in and out, and what it makes of the rest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from deffd_flower.strategy.orders import Orders
from deffd_flower.transport import suites
from deffd_flower.transport.mod import FAILED, REASON_LENGTH, transport_mod
from tests.transport.clients import (
    MODEL,
    SEALING,
    become_flower,
    boxed,
    client,
    deliver,
    failing,
    greeted,
    handing_out,
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


# Refusing ----------------------------------------------------------------------------------------


def test_a_refused_message_does_not_reach_the_app_and_leaves_the_state_as_it_was() -> None:
    alice, bob = client(0), client(1)
    good, bad = (sealed(alice, parcel("aes", bob))[0] for _ in range(2))
    assert deliver(bob, good).has_content()
    before = state(bob)
    for mail in ([bad[:-1] + bytes([bad[-1] ^ 1])], [good], [bad, good], [b""], [b"DEFD" * 50]):
        refused = refusal(deliver(bob, *mail, app=never))
        assert refused.startswith("message refused: ")
        assert len(refused) < 40
        assert state(bob) == before
    assert deliver(bob, bad).has_content()
    assert state(bob) != before


def test_sealing_that_fails_undoes_what_the_app_did_to_the_state() -> None:
    alice, bob = client(0), client(1)
    greeted(alice)
    before = state(alice)
    good = parcel("aes", bob)
    for bad in (
        replace(good, suite="none"),
        replace(good, references=()),
        replace(good, receiver=0),
    ):
        refusal(send(alice, good, bad))
        assert state(alice) == before
    assert send(alice, good).has_content()


def test_an_app_that_fails_has_not_read_its_mail() -> None:
    alice, bob = client(0), client(1)
    (blob,) = sealed(alice, parcel("aes", bob))
    before = state(bob)
    reply = deliver(bob, blob, app=failing)
    assert (reply.error.code, reply.error.reason) == (42, "no mood")
    assert state(bob) == before
    assert deliver(bob, blob).has_content()
    assert refusal(deliver(bob, blob)) == "message refused: replayed"


def test_a_later_round_than_the_servers_is_refused() -> None:
    bob = client(1)
    (blob,) = sealed(client(0), parcel("aes", bob), server_round=6)
    assert refusal(deliver(bob, blob, upto=5)) == "message refused: wrong-round"
    assert deliver(bob, blob, upto=6).has_content()


@pytest.mark.parametrize("record", ["received", "arrays", "outgoing", "model"])
def test_models_that_have_been_through_no_suite_are_refused(record: str) -> None:
    bob = client(1)
    asked = message("train", Orders(1), **{record: [MODEL]})
    assert refusal(transport_mod(asked, bob, never)) == "message refused: downgraded"


def test_an_app_cannot_send_unsealed_arrays_beside_sealed_ones() -> None:
    def careless(asked: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": boxed([MODEL])}), reply_to=asked)

    assert refusal(transport_mod(message("train", Orders(1)), client(0), careless))
    open_run = client(0, suite="none", strategy="fedavg")
    asked = message("train", Orders(1), arrays=[MODEL])
    assert transport_mod(asked, open_run, careless).has_content()


def test_orders_name_suites_that_are_there_and_no_module_is_imported() -> None:
    alice, bob = client(0), client(1)
    for name in ("rot13", "this:d", "deffd_flower.transport.suites:Aes"):
        reply = send(alice, replace(parcel("aes", bob), suite=name))
        assert refusal(reply) == "message refused: unknown-suite"


def test_the_app_is_told_the_senders_that_the_seals_name_and_not_those_of_the_server() -> None:
    bob, told = client(1), list[object]()

    def app(asked: Message, context: Context) -> Message:
        told.append(asked.content.config_records["senders"]["partitions"])
        return Message(RecordDict(), reply_to=asked)

    mail = [sealed(client(sender), parcel("aes", bob))[0] for sender in (2, 0)]
    asked = message("evaluate", Orders(5), inbox=mail)
    asked.content["senders"] = ConfigRecord({"partitions": [7, 8]})
    assert transport_mod(asked, bob, app).has_content()
    assert told == [[0, 2]]


# Floors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", SEALING)
@pytest.mark.parametrize("suite", ["none", *SEALING])
def test_a_node_seals_and_opens_nothing_below_its_own_floor(suite: str, floor: str) -> None:
    """Whatever the run config says, which the server sends."""
    strong = suites.get(suite).strength >= suites.get(floor).strength
    alice, bob = client(0, suite=suite), client(1, suite=suite, floor=floor)
    opened = deliver(bob, *sealed(alice, parcel(suite, bob)))
    given_away = send(bob, parcel(suite, alice))
    for reply in (opened, given_away):
        assert reply.has_content() if strong else refusal(reply) == "message refused: downgraded"


def test_a_run_that_may_degrade_goes_down_to_its_floor_and_no_further() -> None:
    keys: dict[str, Any] = {"suite": "otp", "min_suite": "hybrid", "on_starved": "degrade"}
    alice, bob = client(0, **keys), client(1, **keys)
    for suite in ("otp", "aes", "hybrid"):
        assert deliver(bob, *sealed(alice, parcel(suite, bob))).has_content()
    assert refusal(send(alice, parcel("pqc", bob))) == "message refused: downgraded"


def test_a_floor_that_is_no_suite_is_an_error_reply_that_names_it() -> None:
    reply = transport_mod(message("query.hello"), client(0, floor="eas"), never)
    assert reply.error.code == FAILED
    assert "'aes'" in (reply.error.reason or "")


def test_a_secret_file_open_to_others_is_an_error_reply_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    greeted(client(0))
    (tmp_path / "qkd-secret").chmod(0o644)
    reply = transport_mod(message("query.hello"), client(0), handing_out())
    assert reply.error.code == FAILED
    assert "chmod 600" in (reply.error.reason or "")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("ValueError: too many samples", "ValueError: too many samples"),
        (f"ValueError: {bytes(range(256))!r}", "ValueError: b'"),
        ("x" * 10_000, "x" * REASON_LENGTH),
    ],
)
def test_an_errors_text_is_cut_where_it_may_quote_bytes(reason: str, sent: str) -> None:
    def quoting(asked: Message, context: Context) -> Message:
        return Message(Error(7, reason), reply_to=asked)

    reply = transport_mod(message("train", Orders(1)), client(0), quoting)
    assert (reply.error.code, reply.error.reason) == (7, sent)
