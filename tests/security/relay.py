"""A relay between ServerApp and clients that sees everything.

Real ServerApp, real ClientApp, real Flower messages: the relay only stands where Flower's SuperLink
stands, beneath `federate`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from deffd_flower.client_app import blob as flower_array
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.strategy.orders import Orders
from deffd_flower.transport import EnvelopeError, Header, parse
from deffd_flower.transport.mod import SEALED

DROPPED = 999


class Letter(NamedTuple):
    """A sealed model on its way."""

    header: Header
    blob: bytes

    @property
    def body(self) -> bytes:
        return self.blob[len(self.header.encode()) :]


@dataclass
class Knowledge:
    """What a relay learns by listening."""

    partitions: dict[int, int] = field(default_factory=dict)
    kem_keys: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    delivered: dict[int, list[Letter]] = field(default_factory=lambda: defaultdict(list))
    orders: dict[int, list[Orders]] = field(default_factory=lambda: defaultdict(list))


class Relay(Grid):
    """An honest relay; it listens.

    Args:
        inner: Where the clients are.
    """

    def __init__(self, inner: LocalGrid) -> None:
        self.inner = inner
        self.knowledge = Knowledge()
        self._posted: dict[str, Message] = {}

    def carry(self, message: Message) -> Message:
        """Deliver a message and return the client's reply."""
        return self.deliver(message)

    def deliver(self, message: Message) -> Message:
        (message_id,) = self.inner.push_messages([message])
        (reply,) = self.inner.pull_messages([message_id])
        return reply

    def context(self, message: Message) -> Context:
        """Return the receiver's context, at which no relay could look."""
        return self.inner.contexts[message.metadata.dst_node_id]

    def partition(self, message: Message) -> int:
        return self.knowledge.partitions[message.metadata.dst_node_id]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids: list[str] = []
        for message in messages:
            (message_id,) = self.inner.push_messages([message])
            self._posted[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message_id in message_ids:
            message = self._posted.pop(message_id, None)
            if message is not None:
                return [self._answer(message, message_id)]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        for message in messages:
            yield from self.pull_messages(self.push_messages([message]))

    def _answer(self, message: Message, message_id: str) -> Message:
        letters, orders = letters_of(message, "inbox"), orders_of(message)
        reply = self.carry(message)
        reply.metadata.__dict__["_reply_to_message_id"] = message_id
        self._listen(message, reply, letters, orders)
        return reply

    def _listen(
        self, message: Message, reply: Message, inbox: list[Letter], orders: Orders | None
    ) -> None:
        if reply.has_error():
            return
        known = self.knowledge
        if message.metadata.message_type == "query.hello":
            partition = int(str(reply.content.config_records["about"]["partition-id"]))
            known.partitions[message.metadata.dst_node_id] = partition
            kem = reply.content.config_records["transport"]
            public, proof = kem["kem-public"], kem["kem-proof"]
            assert isinstance(public, bytes)
            assert isinstance(proof, bytes)
            known.kem_keys[partition] = public, proof
        known.letters += letters_of(reply, "outbox")
        known.delivered[self.partition(message)] += inbox
        if orders:
            known.orders[self.partition(message)].append(orders)

    def set_run(self, run: Run) -> None:
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        return self.inner.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        return self.inner.get_node_ids()


def error_reply(error: Error, message: Message) -> Message:
    return Message(error, reply_to=message)


def orders_of(message: Message) -> Orders | None:
    config = message.content.config_records.get("config")
    return Orders.read(config) if config else None


def letters_of(message: Message, box: str) -> list[Letter]:
    """Return the sealed models in a record, without what is no envelope."""
    sealed = message.content.array_records.get(box) or ArrayRecord()
    letters: list[Letter] = []
    for array in sealed.values():
        with suppress(EnvelopeError):
            letters.append(Letter(parse(array.data)[0], array.data))
    return letters


def copy_of(message: Message, **records: ArrayRecord | ConfigRecord) -> Message:
    """Return the message with some records replaced or added."""
    about = message.metadata
    content = RecordDict({**message.content, **records})
    return Message(content, about.dst_node_id, about.message_type, group_id=about.group_id)


def with_inbox(message: Message, *blobs: bytes) -> Message:
    return copy_of(message, inbox=boxed(*blobs))


def boxed(*blobs: bytes) -> ArrayRecord:
    return ArrayRecord({str(i): flower_array(blob, SEALED) for i, blob in enumerate(blobs)})


def fingerprint(context: Context) -> str:
    """Return a digest of a client's whole state."""
    digest = hashlib.sha256()
    for name, record in sorted(context.state.items()):
        for key, value in sorted(record.items()):
            digest.update(repr((name, key)).encode())
            digest.update(value.data if isinstance(value, Array) else repr(value).encode())
    return digest.hexdigest()
