"""Clients before their app: Flower's contexts, and messages as a server would send them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from deffd_flower.config import Value
from deffd_flower.request import resolve
from deffd_flower.strategy.orders import Orders, Parcel
from deffd_flower.transport import KeyReference, suites
from deffd_flower.transport.mod import PACKAGE, REFUSED, transport_mod

App = Callable[[Message, Context], Message]

RUN = 77
MODEL = os.urandom(5000)
SEALING = ["aes", "otp", "hybrid", "pqc"]


def become_flower(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one in which Flower runs apps, with a QKD secret of its own."""
    monkeypatch.setenv("DEFFD_QKD_SECRET_FILE", str(secret))
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, 1, 0


def client(partition: int, run: int = RUN, floor: str = "", **keys: Any) -> Context:
    """Return the context of a client in a federation of three."""
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve({"dataset": "digits", "clients": 3, **given}).values()
    node: dict[str, Value] = {"partition-id": partition, "num-partitions": 3}
    if floor:
        node["min-suite"] = floor
    return Context(run, 1000 + partition, node, RecordDict(), config)


def message(kind: str, orders: Orders | None = None, **boxes: list[bytes]) -> Message:
    content = RecordDict()
    for name, blobs in boxes.items():
        content[name] = boxed(blobs)
    if orders:
        content["config"] = orders.record({})
    return Message(content, 1, kind)


def boxed(blobs: list[bytes]) -> ArrayRecord:
    return ArrayRecord({str(i): Array("uint8", (len(b),), PACKAGE, b) for i, b in enumerate(blobs)})


def blobs_in(record: ArrayRecord) -> list[bytes]:
    return [array.data for array in record.values()]


def handing_out(*models: bytes) -> App:
    """Return an app that changes its state and hands out models."""

    def app(asked: Message, context: Context) -> Message:
        context.state["model"] = ConfigRecord({"version": os.urandom(4)})
        content = RecordDict()
        if models:
            content["outgoing"] = boxed(list(models))
        return Message(content, reply_to=asked)

    return app


def keeping(received: list[list[bytes]]) -> App:
    """Return an app that writes down what it receives."""

    def app(asked: Message, context: Context) -> Message:
        received.append(blobs_in(asked.content.array_records["received"]))
        return Message(RecordDict(), reply_to=asked)

    return app


def failing(asked: Message, context: Context) -> Message:
    return Message(Error(42, "no mood"), reply_to=asked)


def never(asked: Message, context: Context) -> Message:
    raise AssertionError("the app was called")


def greeted(context: Context) -> tuple[bytes, bytes]:
    """Greet a client; return its ML-KEM public key and the proof."""
    reply = transport_mod(message("query.hello"), context, handing_out())
    about = reply.content.config_records["transport"]
    public, proof = about["kem-public"], about["kem-proof"]
    assert isinstance(public, bytes)
    assert isinstance(proof, bytes)
    return public, proof


def parcel(suite: str, receiver: Context, size: int = len(MODEL)) -> Parcel:
    """Return what a controller would order: a model for the receiver, and fresh key for it."""
    bits = suites.get(suite)().key_bits(size)
    references = (KeyReference(uuid4(), 0, bits),) if bits else ()
    partition = int(str(receiver.node_config["partition-id"]))
    return Parcel(partition, suite, (), references, *greeted(receiver))


def send(sender: Context, *parcels: Parcel, server_round: int = 1, model: bytes = MODEL) -> Message:
    """Have a client send its model, once for each parcel."""
    orders = Orders(server_round, outbox=parcels)
    return transport_mod(message("train", orders), sender, handing_out(*[model] * len(parcels)))


def sealed(sender: Context, *parcels: Parcel, **about: object) -> list[bytes]:
    reply = send(sender, *parcels, **about)  # type: ignore[arg-type]  # handed on
    return blobs_in(reply.content.array_records["outbox"])


def deliver(receiver: Context, *mail: bytes, app: App | None = None, upto: int = 5) -> Message:
    asked = message("evaluate", Orders(upto), inbox=list(mail))
    return transport_mod(asked, receiver, app or handing_out())


def state(context: Context) -> dict[str, dict[str, object]]:
    return {name: dict(record) for name, record in context.state.items()}


def refusal(reply: Message) -> str:
    assert reply.has_error()
    assert reply.error.code == REFUSED
    return reply.error.reason or ""
