"""A relay that cheats the server: what it changes in clients' replies is found by other clients."""

import functools
from collections.abc import Callable, Sequence

import pytest
from flwr.app import ConfigRecord, Error, Message

from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.transport import generate_kem_keypair
from tests.security.cheat import Cheat, nothing
from tests.security.conftest import Federation, Outcome
from tests.security.relay import (
    DROPPED,
    Letter,
    Relay,
    boxed,
    error_reply,
    letters_of,
    orders_of,
)

Garble = Callable[[Letter, Letter], bytes]


class Garbling(Relay):
    """Changes every second model that leaves a client, on its way to the server.

    Args:
        inner: Where the clients are.
        garble: Each of them changes one model, given the one before it. Without them the models
            pass, and the messages that carry them down are dropped.
    """

    def __init__(self, inner: LocalGrid, garble: Sequence[Garble]) -> None:
        super().__init__(inner)
        self.dropped = 0
        self._garble = list(garble)
        self._drops = not garble
        self._letters: list[Letter] = []

    def carry(self, message: Message) -> Message:
        marked = self._letters[1 : 2 * len(GARBLES) : 2]
        if self._drops and any(letter in marked for letter in letters_of(message, "inbox")):
            self.dropped += 1
            return error_reply(Error(DROPPED, "dropped"), message)
        reply = self.deliver(message)
        if reply.has_content() and (letters := letters_of(reply, "outbox")):
            self._letters += letters
            if len(self._letters) % 2 == 0 and self._garble:
                garbled = self._garble.pop(0)(self._letters[-1], self._letters[-2])
                reply.content["outbox"] = boxed(garbled)
        return reply


def a_bit_flipped(letter: Letter, other: Letter) -> bytes:
    return letter.blob[:-1] + bytes([letter.blob[-1] ^ 1])


def another_senders(letter: Letter, other: Letter) -> bytes:
    return other.blob


def cut_in_the_header(letter: Letter, other: Letter) -> bytes:
    return letter.blob[:50]


def nothing_at_all(letter: Letter, other: Letter) -> bytes:
    return b""


GARBLES = [a_bit_flipped, another_senders, cut_in_the_header, nothing_at_all]


@pytest.mark.parametrize("suite", ["aes", "otp", "hybrid", "pqc"])
def test_a_model_changed_on_its_way_to_the_server_is_refused_by_its_receiver(
    suite: str, federation: Federation
) -> None:
    dropped: Outcome[Garbling] = federation(functools.partial(Garbling, garble=[]), suite=suite)
    garbled = federation(functools.partial(Garbling, garble=GARBLES), suite=suite)
    assert dropped.relay.dropped == dropped.summary["failures"] >= 3
    assert garbled.summary["sealed_failures"] == garbled.summary["failures"]
    assert garbled.summary["failures"] == dropped.summary["failures"]
    assert garbled.state == dropped.state


class Impostor(Relay):
    """Introduces client 2 with another ML-KEM key: one of its own, or client 0's."""

    def __init__(self, inner: LocalGrid, whose: str) -> None:
        super().__init__(inner)
        own = generate_kem_keypair().public
        self._keys = {"the relay's": ConfigRecord({"kem-public": own, "kem-proof": bytes(48)})}
        self._whose = whose

    def carry(self, message: Message) -> Message:
        reply = self.deliver(message)
        if message.metadata.message_type == "query.hello":
            partition = reply.content.config_records["about"]["partition-id"]
            if partition == 0:
                self._keys["another client's"] = reply.content.config_records["transport"]
            if partition == 2:
                reply.content["transport"] = self._keys[self._whose]
        return reply


def writes_to_client_2(message: Message) -> bool:
    orders = orders_of(message)
    return orders is not None and 2 in {parcel.receiver for parcel in orders.outbox}


@pytest.mark.parametrize("whose", ["the relay's", "another client's"])
@pytest.mark.parametrize("suite", ["hybrid", "pqc"])
def test_nobody_seals_for_an_ml_kem_key_in_another_clients_name(
    suite: str, whose: str, federation: Federation
) -> None:
    cheated = federation(functools.partial(Impostor, whose=whose), suite=suite)
    dropped: Outcome[Cheat] = federation(
        functools.partial(Cheat, target=writes_to_client_2, forge=nothing, when="instead"),
        suite=suite,
    )
    assert cheated.summary["sealed_failures"] == cheated.summary["failures"] > 0
    assert cheated.summary["failures"] == len(dropped.relay.struck)
    assert cheated.state == dropped.state
    log = (cheated.directory / "run.log").read_text()
    assert "the ML-KEM key in client-2's name is not proven" in log
