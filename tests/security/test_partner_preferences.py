"""Clients that keep their label counts to themselves tell the server whom they prefer: ids only."""

import pickle

import pytest
from flwr.app import Message

from deffd_flower.data.client import client_data
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.request import resolve
from deffd_flower.state import load_acquaintances
from deffd_flower.strategy.orders import Nominations
from deffd_flower.transport.supply import partition_of
from tests.security.cheat import Cheat, nothing
from tests.security.conftest import QUICK, Federation, Outcome
from tests.security.relay import Relay, letters_of, orders_of

SECRET: dict[str, object] = {"partner": "complementary", "share_label_counts": False}


class Listener(Relay):
    """Keeps all that passes, who has heard from whom so far, and what clients then say."""

    def __init__(self, inner: LocalGrid) -> None:
        super().__init__(inner)
        self.heap: list[bytes] = []
        self.heard_from: dict[int, set[int]] = {}
        self.nominations: list[tuple[int, tuple[int, ...], set[int]]] = []
        self.entries: dict[str, set[str]] = {}
        self.silent_mail = 0
        self.remembering: list[bool] = []

    def deliver(self, message: Message) -> Message:
        self.heap.append(pickle.dumps(message))
        mail = letters_of(message, "inbox")
        reply = super().deliver(message)
        self.heap.append(pickle.dumps(reply))
        for name, record in reply.content.config_records.items():
            self.entries.setdefault(name, set()).update(record)
        if message.metadata.message_type in ("train", "evaluate"):
            heard = self.heard_from.setdefault(self.partition(message), set())
            heard |= {partition_of(letter.header.route.sender) for letter in mail}
            told = Nominations.read(reply.content).preferred
            self.silent_mail += bool(mail) and not told
            self.remembering.append("acquaintances" in self.context(message).state)
            if told:
                self.nominations.append((self.partition(message), told, set(heard)))
        return reply


def bitmaps() -> list[bytes]:
    """Return which classes each client has as it would stand in a message: a byte per class."""
    config = resolve(QUICK)
    clients = (client_data(config, client) for client in range(config.clients))
    return [bytes(map(bool, each.label_counts.tolist())) for each in clients]


@pytest.mark.parametrize("suite", ["aes", "otp", "hybrid", "pqc", "none"])
def test_the_server_sees_whom_clients_prefer_and_not_which_classes_they_have(
    suite: str, federation: Federation
) -> None:
    run: Outcome[Listener] = federation(Listener, suite=suite, **SECRET)
    assert run.summary["failures"] == 0
    heap = b"".join(run.relay.heap)
    readable = [bitmap for bitmap in bitmaps() if bitmap in heap]
    assert bool(readable) == (suite == "none")
    assert b"label-counts" not in heap.replace(b"share-label-counts", b"")
    assert not (run.directory / "partition.csv").exists()


def test_a_client_names_the_peers_it_has_heard_from_each_once_and_nothing_else(
    federation: Federation,
) -> None:
    run: Outcome[Listener] = federation(Listener, **SECRET)
    assert len(run.relay.nominations) >= 6
    assert run.relay.silent_mail == 0
    assert any(run.relay.remembering)
    for client, told, heard in run.relay.nominations:
        assert sorted(told) == sorted(heard)
        assert client not in told
    assert run.relay.entries["nominations"] == {"preferred-peers"}
    assert set(run.relay.entries) == {"about", "transport", "nominations", "digest"}


@pytest.mark.parametrize(
    "keys",
    [
        {"partner": "complementary"},
        {"partner": "loss", "share_label_counts": False},
        {"partner": "least-recent", "share_label_counts": False},
    ],
)
def test_no_client_says_whom_it_prefers_where_nobody_asks(
    keys: dict[str, object], federation: Federation
) -> None:
    run: Outcome[Listener] = federation(Listener, **keys)
    assert run.relay.silent_mail >= 6
    assert run.relay.nominations == []
    assert not any(run.relay.remembering)


class Remembering(Cheat):
    """Drops a train and an evaluate message a round; keeps what clients remember after each."""

    def __init__(self, inner: LocalGrid) -> None:
        super().__init__(inner, carries_mail, nothing, "instead")
        self.remembered: dict[int, set[int]] = {}
        self.heard_from: dict[int, set[int]] = {}

    def deliver(self, message: Message) -> Message:
        mail = letters_of(message, "inbox")
        reply = super().deliver(message)
        if message.metadata.message_type in ("train", "evaluate"):
            client = self.partition(message)
            senders = {partition_of(letter.header.route.sender) for letter in mail}
            self.heard_from.setdefault(client, set()).update(senders)
            self.remembered[client] = {*load_acquaintances(self.context(message))}
        return reply


def carries_mail(message: Message) -> bool:
    return bool(letters_of(message, "inbox"))


def test_a_client_remembers_only_whom_it_has_heard_from(federation: Federation) -> None:
    """Mail that never came is not remembered, and what was remembered before stays."""
    run: Outcome[Remembering] = federation(Remembering, **SECRET)
    assert run.relay.struck
    assert run.relay.remembered == run.relay.heard_from
    assert any(run.relay.remembered.values())


def test_a_client_that_fails_after_fusing_remembers_nothing_of_it(federation: Federation) -> None:
    """Sealing comes last, and a refused order undoes all that came before."""

    class Ordering(Relay):
        """Has every reply fail that follows mail, by an order for a suite below the floor."""

        before_and_after: list[tuple[object, object]]

        def __init__(self, inner: LocalGrid) -> None:
            super().__init__(inner)
            self.before_and_after = []

        def carry(self, message: Message) -> Message:
            orders = orders_of(message)
            if orders and orders.outbox and carries_mail(message):
                suites = ["none"] * len(orders.outbox)
                message.content.config_records["config"]["outbox-suites"] = suites
                before = dict(self.context(message).state)
                reply = self.deliver(message)
                assert reply.has_error()
                self.before_and_after.append((before, dict(self.context(message).state)))
                return reply
            return self.deliver(message)

    run: Outcome[Ordering] = federation(Ordering, **SECRET, eval_every=4)
    assert run.relay.before_and_after
    assert all(before == after for before, after in run.relay.before_and_after)
