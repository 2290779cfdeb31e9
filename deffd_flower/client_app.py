"""Flower messages to Peer verbs.

PyTorch is imported inside the verbs: on a real node every message starts a process, and a
greeting need not wait for it.

Wire format, after the transport mod has opened the message:

* in: ``config``, the `Orders`, and ``received``, an ArrayRecord of packages in arrival order, with
  their ``senders``;
* out: ``metrics`` and ``outgoing``, an ArrayRecord of packages in the outbox's order; sometimes
  `Nominations`.

A message with ``arrays`` comes from a central strategy such as Flower's FedAvg.
"""

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from deffd_flower.ahead import take_over
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.node import client_config, partition_id, tells_label_counts
from deffd_flower.randomness import numpy_generator
from deffd_flower.state import (
    forget_weights,
    load_acquaintances,
    load_weights,
    save_acquaintances,
    save_weights,
)
from deffd_flower.strategy.orders import Nominations, Orders
from deffd_flower.strategy.partners import nominates
from deffd_flower.transport.mod import PACKAGE, SENDERS, transport_mod

if TYPE_CHECKING:
    from deffd_flower.peer import Peer

FAILED, WRONG_REQUEST = 101, 102

Metrics = dict[str, float | list[float]]
Verb = Callable[[Message, Context], Message]

app = ClientApp(mods=[transport_mod])


def blob(content: bytes, stype: str = PACKAGE) -> Array:
    """Return bytes as one Flower Array: two objects on the wire instead of one per tensor."""
    return Array("uint8", (len(content),), stype, content)


def answering(verb: Verb) -> Verb:
    """Turn exceptions into short error replies, alike on every engine and without traceback."""

    @functools.wraps(verb)
    def answer(message: Message, context: Context) -> Message:
        try:
            return verb(message, context)
        except RequestError as problem:
            return Message(Error(WRONG_REQUEST, str(problem)), reply_to=message)
        except DeffdError as problem:
            return Message(Error(FAILED, str(problem)), reply_to=message)
        except Exception as problem:
            reason = f"{type(problem).__name__}: {problem}"
            return Message(Error(FAILED, reason), reply_to=message)

    return answer


@app.query("hello")
@answering
def hello(message: Message, context: Context) -> Message:
    """Introduce this client: who it is and how much data it has."""
    peer = peer_of(context)
    peer.check()
    about = ConfigRecord(
        {
            "partition-id": peer.partition,
            "num-partitions": context.node_config.get("num-partitions", peer.config.clients),
            "train-samples": len(peer.data.train),
            "test-samples": len(peer.data.held_out),
            "evaluation-samples": peer.evaluation_samples,
            "package-bytes": len(peer.package([])),
        }
    )
    if tells_label_counts(context, peer.config):
        about["label-counts"] = peer.data.label_counts.tolist()
    return Message(RecordDict({"about": about}), reply_to=message)


@app.train()
@answering
def train(message: Message, context: Context) -> Message:
    """Fuse what came in, train if asked to, hand out the model, evaluate if asked to."""
    started = time.perf_counter()
    peer = peer_of(context)
    if "arrays" in message.content:
        return _train_centrally(message, context, peer, started)
    orders = _orders(message)
    metrics = _fuse(message, peer)
    if orders.trains:
        metrics |= take_over(peer, context) or peer.train(orders.server_round)
    outgoing = ArrayRecord(
        {
            str(index): blob(peer.package(parcel.segments))
            for index, parcel in enumerate(orders.outbox)
        }
    )
    if orders.evaluates:
        metrics |= _judged(peer)
    return _reply(message, context, peer, metrics, started, {"outgoing": outgoing})


@app.evaluate()
@answering
def evaluate(message: Message, context: Context) -> Message:
    """Fuse what came in, so that nobody is judged with unread mail, then evaluate."""
    started = time.perf_counter()
    peer = peer_of(context)
    if "arrays" in message.content:
        peer.adopt(message.content.array_records["arrays"].to_torch_state_dict())
        metrics = {}
    else:
        metrics = _fuse(message, peer)
    return _reply(message, context, peer, metrics | _judged(peer), started)


@app.query("finish")
@answering
def finish(message: Message, context: Context) -> Message:
    """Tell the final weights' digest and forget everything."""
    digest = ConfigRecord({"sha256": peer_of(context).digest()})
    forget_weights(context)
    context.state.clear()
    return Message(RecordDict({"digest": digest}), reply_to=message)


def peer_of(context: Context) -> "Peer":
    """Return the client whom a context belongs to."""
    import torch

    from deffd_flower.data.client import client_data
    from deffd_flower.peer import Peer

    # One thread and one algorithm add up in one order, so equal seeds give equal weights; and
    # float32 is to be float32 on a GPU, too.
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    config = client_config(context)
    partition = partition_id(context.node_config, config.clients)
    data = client_data(config, partition)
    return Peer(partition, data, config, load_weights(context), load_acquaintances(context))


def _judged(peer: "Peer") -> Metrics:
    metrics: Metrics = dict(peer.evaluate())
    if peer.config.consensus_distance:
        metrics["projection"] = peer.projection()
    return metrics


def _fuse(message: Message, peer: "Peer") -> Metrics:
    from deffd_flower.fusion.package import Package

    mail = message.content.array_records.get("received")
    if not mail:
        return {}
    packages = [Package.decode(array.data) for array in mail.values()]
    if nominates(peer.config):
        senders = cast("list[int]", message.content.config_records[SENDERS]["partitions"])
        peer.acquaintances.meet(senders, packages)
    return dict(peer.fuse(packages, _orders(message).mail_round))


def _orders(message: Message) -> Orders:
    return Orders.read(message.content.config_records["config"])


def _train_centrally(message: Message, context: Context, peer: "Peer", started: float) -> Message:
    peer.adopt(message.content.array_records["arrays"].to_torch_state_dict())
    metrics: Metrics = dict(peer.train(_orders(message).server_round))
    arrays = ArrayRecord({k: v.contiguous() for k, v in peer.model.state_dict().items()})
    return _reply(message, context, peer, metrics, started, {"arrays": arrays})


def _reply(
    message: Message,
    context: Context,
    peer: "Peer",
    metrics: Metrics,
    started: float,
    records: dict[str, ArrayRecord] | None = None,
) -> Message:
    """Answer, and only then let what is new become this client's state."""
    ahead = metrics.pop("ahead-s", 0.0)
    seconds = time.perf_counter() - started + (ahead if isinstance(ahead, float) else 0.0)
    metrics |= {"num-examples": float(len(peer.data.train)), "compute-s": seconds}
    content = RecordDict({"metrics": MetricRecord(dict(metrics)), **(records or {})})
    if peer.acquaintances.changed:
        _nominations(message, peer).write(content)
    reply = Message(content, reply_to=message)
    if peer.changed:
        save_weights(context, peer.weights(), peer.config.client_state)
    if peer.acquaintances.changed:
        save_acquaintances(context, peer.acquaintances.known)
    return reply


def _nominations(message: Message, peer: "Peer") -> Nominations:
    """Return whom the client prefers to meet, now that it has heard of somebody's classes.

    What decides among equals is keyed by the round in which the mail was sent, which does not
    depend on the message that it came with.
    """
    seed, mail_round = peer.config.seed_of("pairing"), _orders(message).mail_round
    generator = numpy_generator(seed, "preference", peer.partition, mail_round)
    return Nominations(tuple(peer.acquaintances.preference(generator)))
