"""Training several clients at once, just ahead of the messages that ask for it.

An engine that holds several training messages hands them over here. What has been learnt lies in
the clients' states when their messages are delivered, as if each had just trained; everything else,
sealing too, happens as ever, one message at a time.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from flwr.app import ConfigRecord, Context, Message, MessageType

from deffd_flower.strategy.orders import Orders

if TYPE_CHECKING:
    from deffd_flower.config import RunConfig
    from deffd_flower.peer import Peer

TRAINED = "trained-ahead"

Letter = tuple[Message, Context]
"""A message and a copy of its receiver's context."""


def can_be_trained_ahead(message: Message) -> bool:
    """Say whether a message asks for training and for nothing before it."""
    content = message.content
    orders = content.config_records.get("config")
    alone = "inbox" not in content and "arrays" not in content
    return message.metadata.message_type == MessageType.TRAIN and alone and _trains(orders)


def train_ahead(letters: Sequence[Letter]) -> list[ConfigRecord | None]:
    """Train the receivers of some messages at once.

    Returns:
        What each has learnt, for its state under the name `TRAINED`; ``None`` where its model
        cannot be trained so.
    """
    from deffd_flower.client_app import peer_of
    from deffd_flower.together import train_together
    from deffd_flower.training import arithmetic

    peers = [peer_of(context) for _, context in letters]
    config, device = peers[0].config, peers[0].data.device
    if not trains_together(config):
        return [None] * len(letters)
    started = time.perf_counter()
    server_round = _orders(letters[0][0]).server_round
    pupils = [peer.pupil(server_round) for peer in peers]
    with arithmetic(config.precision, device):
        losses = train_together(pupils, config.in_round(server_round))
    seconds = (time.perf_counter() - started) / len(letters)
    return [
        ConfigRecord({"weights": peer.weights(), "train": loss, "seconds": seconds})
        for peer, loss in zip(peers, losses, strict=True)
    ]


def take_over(peer: "Peer", context: Context) -> dict[str, float]:
    """Let a peer take over what was learnt ahead, if anything was.

    Returns:
        The mean loss as ``train`` and the seconds it took as ``ahead-s``; nothing if nothing was.
    """
    from deffd_flower.transport.codec import decode_tensors

    record = context.state.pop(TRAINED, None)
    if not isinstance(record, ConfigRecord):
        return {}
    peer.adopt(decode_tensors(cast("bytes", record["weights"])))
    loss, seconds = (cast("float", record[name]) for name in ("train", "seconds"))
    return {"train": loss, "ahead-s": seconds}


@lru_cache(maxsize=4)
def trains_together(config: "RunConfig") -> bool:
    """Say whether the models of a run can be trained together."""
    from deffd_flower.data.client import client_data
    from deffd_flower.peer import Peer
    from deffd_flower.together import can_be_stacked

    data = client_data(config, 0)
    return can_be_stacked(Peer(0, data, config).model, data.train.spec.shape, data.device)


def _trains(orders: ConfigRecord | None) -> bool:
    return orders is not None and bool(orders.get("trains", False))


def _orders(message: Message) -> Orders:
    return Orders.read(message.content.config_records["config"])
