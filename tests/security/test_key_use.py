"""What a relay that only listens sees of the keys, and what the ledger says of them."""

import functools
from collections import Counter
from itertools import groupby

import pytest
from flwr.app import Error, Message

from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.transport import Header, KeyReference
from tests.security.conftest import Federation, Honest, Outcome
from tests.security.relay import (
    DROPPED,
    Relay,
    boxed,
    copy_of,
    error_reply,
    letters_of,
    orders_of,
)
from tests.strategy.dispatching import rows_of

TWO = {"clients": 2, "rounds": 16, "eval_every": 16}


def streams(relay: Relay) -> dict[str, list[Header]]:
    """Return the headers of all letters, by sender, in their order."""
    headers = [letter.header for letter in relay.knowledge.letters]
    by_sender = sorted(headers, key=lambda header: header.route.sender)
    return {sender: list(group) for sender, group in groupby(by_sender, lambda h: h.route.sender)}


def runs_of(headers: list[Header]) -> list[int]:
    """Return how many letters in a row were sealed under each key."""
    return [len(list(group)) for _, group in groupby(headers, lambda header: header.references)]


@pytest.mark.parametrize("suite", ["aes", "otp", "hybrid"])
def test_by_default_every_model_has_a_key_of_its_own_and_the_ledger_knows_it(
    suite: str, honest: Honest
) -> None:
    run = honest(suite)
    named = Counter(key_of(letter.header) for letter in run.relay.knowledge.letters)
    assert set(named.values()) == {1}
    ledger = run.directory / "keys.csv"
    delivered = rows_of(ledger, "delivered")
    booked = {row["key_id"]: int(row["bits"]) for row in delivered}
    assert booked == {str(reference.key_id): reference.length for reference in named}
    assert run.summary["key_bits"] == sum(booked.values())
    assert verify_ledger(ledger) > len(booked)


def key_of(header: Header) -> KeyReference:
    (reference,) = header.references
    return reference


def test_pqc_uses_no_qkd_key(honest: Honest) -> None:
    run = honest("pqc")
    assert {letter.header.references for letter in run.relay.knowledge.letters} == {()}
    assert run.summary["key_bits"] == 0
    assert verify_ledger(run.directory / "keys.csv") == 0


@pytest.mark.parametrize("suite", ["aes", "hybrid"])
def test_one_key_seals_three_models_of_a_pair_if_so_asked(
    suite: str, federation: Federation
) -> None:
    run: Outcome[Relay] = federation(Relay, suite=suite, rekey_messages=3, **TWO)
    assert run.summary["failures"] == 0
    keys = 0
    for headers in streams(run.relay).values():
        uses = runs_of(headers)
        assert set(uses[:-1]) == {3}
        assert [header.route.sequence for header in headers] == list(range(len(headers)))
        assert len({header.nonce for header in headers}) == len(headers)
        keys += len(uses)
    assert run.summary["models_sent"] == 16
    assert run.summary["key_bits"] == 256 * keys
    verify_ledger(run.directory / "keys.csv")


class Losing(Relay):
    """Loses the second model that client 0 sends: in one of four ways."""

    def __init__(self, inner: LocalGrid, how: str) -> None:
        super().__init__(inner)
        self._how = how
        self._sent = 0

    def carry(self, message: Message) -> Message:
        orders = orders_of(message)
        if orders is None or not orders.outbox or self.partition(message) != 0:
            return self.deliver(message)
        self._sent += 1
        if self._sent != 2:
            return self.deliver(message)
        if self._how == "the orders":
            return error_reply(Error(DROPPED, "lost"), message)
        if self._how == "its mail is bad":
            return self.deliver(copy_of(message, inbox=boxed(b"bad")))
        reply = self.deliver(message)
        assert len(letters_of(reply, "outbox")) == 1
        if self._how == "the model":
            del reply.content["outbox"]
            return reply
        return error_reply(Error(DROPPED, "lost"), message)


@pytest.mark.parametrize("how", ["the orders", "its mail is bad", "the model", "the reply"])
def test_after_a_lost_model_the_next_has_a_fresh_key_and_nothing_else_is_lost(
    how: str, federation: Federation
) -> None:
    losing = functools.partial(Losing, how=how)
    run: Outcome[Losing] = federation(losing, rekey_messages=3, **TWO)
    uses = runs_of(streams(run.relay)["client-0"])
    assert uses[0] == 1
    assert set(uses[1:-1]) == {3}
    assert run.summary["failures"] == (0 if how == "the model" else 1)
    assert run.summary["sealed_failures"] == (1 if how == "its mail is bad" else 0)
    assert run.summary["models_sent"] == 15
    verify_ledger(run.directory / "keys.csv")


@pytest.mark.parametrize("policy", ["wait", "repick", "skip"])
def test_a_federation_whose_fibres_are_cut_in_round_two_goes_on_without_models(
    policy: str, federation: Federation
) -> None:
    keys = {"suite": "otp", "pool_capacity": 1_000_000, "on_starved": policy}
    cut = federation(Relay, eve="denial rounds=2-", rounds=6, pairs=1, **keys)
    calm = federation(Relay, rounds=6, pairs=1, **keys)
    assert calm.summary["starved"] == calm.summary["skipped"] == cut.summary["failures"] == 0
    assert cut.summary["starved"] > 0
    assert cut.summary["models_sent"] + cut.summary["skipped"] == calm.summary["models_sent"] == 6
    assert (cut.summary["repicked"] > 0) == (policy == "repick")
    assert cut.summary["waits"] == 0
    verify_ledger(cut.directory / "keys.csv")


def test_a_starved_federation_degrades_no_further_than_its_floor(federation: Federation) -> None:
    starved = {"suite": "otp", "on_starved": "degrade", "eve": "denial", "head_start_s": 0.0}
    run: Outcome[Relay] = federation(Relay, min_suite="pqc", **starved)
    assert {letter.header.suite for letter in run.relay.knowledge.letters} == {1}
    assert run.summary["models_by_suite"] == {"pqc": 8.0}
    assert (run.summary["degraded"], run.summary["failures"]) == (8, 0)
    stubborn: Outcome[Relay] = federation(Relay, min_suite="hybrid", **starved)
    assert stubborn.relay.knowledge.letters == []
    assert stubborn.summary["skipped"] == 8
