"""Flower client mod: opens the inbox before the app sees it, seals what the app hands out.

Strategies, peers and the ServerApp never see key material; the ServerApp never sees a model.
A message that is refused becomes a short error reply, and the client's state stays as it was.
"""

from flwr.app import Array, ArrayRecord, Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable

from deffd_flower.strategy.orders import Orders
from deffd_flower.transport.desk import Desk
from deffd_flower.transport.refusal import EnvelopeError, KeyUnavailable, Refused

REFUSED = 100
SEALED, PACKAGE = "deffd.sealed.v1", "deffd.package.v1"


def transport_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Stand between Flower and the app.

    In the message, ``inbox`` (sealed) becomes ``received`` (plain). In the reply, ``outgoing``
    (plain, in the outbox's order) becomes ``outbox`` (sealed); it is taken out even when nothing
    can be sealed, so that no plaintext leaves the node.
    """
    desk = Desk(context)
    before = dict(context.state)
    try:
        _open_inbox(message, desk)
        reply = call_next(message, context)
        if reply.has_content():
            if message.metadata.message_type == "query.hello":
                reply.content["transport"] = desk.introduce()
            _seal_outbox(message, reply, desk)
            desk.save(context)
        return reply
    except (Refused, EnvelopeError, KeyUnavailable) as problem:
        context.state.clear()
        context.state.update(before)
        return Message(Error(REFUSED, str(problem)), reply_to=message)


def _open_inbox(message: Message, desk: Desk) -> None:
    inbox = message.content.array_records.get("inbox")
    if inbox is None:
        return
    last_round = _orders(message).server_round
    opened = [desk.open(array.data, last_round) for array in inbox.values()]
    del message.content["inbox"]
    message.content["received"] = _arrays(opened, PACKAGE)


def _seal_outbox(message: Message, reply: Message, desk: Desk) -> None:
    outgoing = reply.content.array_records.get("outgoing")
    if outgoing is None:
        return
    del reply.content["outgoing"]
    orders = _orders(message)
    sealed = [
        desk.seal(array.data, parcel, orders.server_round, orders.clock)
        for array, parcel in zip(outgoing.values(), orders.outbox, strict=True)
    ]
    reply.content["outbox"] = _arrays(sealed, SEALED)


def _orders(message: Message) -> Orders:
    return Orders.read(message.content.config_records["config"])


def _arrays(blobs: list[bytes], stype: str) -> ArrayRecord:
    """Return blobs as Flower Arrays that NumPy refuses to read as numbers."""
    return ArrayRecord(
        {str(index): Array("uint8", (len(blob),), stype, blob) for index, blob in enumerate(blobs)}
    )
