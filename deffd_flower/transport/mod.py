"""Flower client mod: opens the inbox before the app sees it, seals what the app hands out.

Strategies, peers and the ServerApp never see key material; the ServerApp never sees a model.
A message that is refused becomes a short error reply, and the client's state stays as it was.

Want of key is no reason to refuse a message. What cannot be sealed or opened now is left out, and
`Refusals` in the reply say which. What becomes of it is for the server to decide.
"""

import re
from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from deffd_flower.errors import DeffdError
from deffd_flower.strategy.orders import Orders, Refusals
from deffd_flower.transport.desk import Desk, sent_order
from deffd_flower.transport.refusal import (
    EnvelopeError,
    KeyUnavailable,
    NoKeyNow,
    Reason,
    Refused,
)
from deffd_flower.transport.supply import partition_of

REFUSED, FAILED = 100, 101
#: Characters of an error's text that reach the server.
REASON_LENGTH = 500
_QUOTED = re.compile(r"[-+]?\d*\.\d+(?:e[-+]?\d+)?|\b[0-9a-f]{16,}\b", re.IGNORECASE)
SEALED, PACKAGE = "deffd.sealed.v1", "deffd.package.v1"
#: Names the record of who has sent what was received.
SENDERS = "senders"


def transport_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Stand between Flower and the app.

    In the message, ``inbox`` (sealed) becomes ``received`` (plain), with the ``senders`` that the
    envelopes name, whatever the server says. In the reply, ``outgoing``
    (plain, in the outbox's order) becomes ``outbox`` (sealed); it is taken out even when nothing
    can be sealed, so that no plaintext leaves the node. Other arrays neither come nor go, unless
    the run's suite is ``none``: a central strategy's ``arrays`` are plaintext, too.
    """
    before = dict(context.state)
    try:
        desk = Desk(context)
        _refuse_arrays(message.content, "inbox", desk)
        unopened = _open_inbox(message, desk)
        reply = call_next(message, context)
        if reply.has_error():
            reply.error = Error(reply.error.code, _harmless(reply.error.reason or ""))
        else:
            starved = _seal_outbox(message, reply, desk)
            _refuse_arrays(reply.content, "outbox", desk)
            Refusals(tuple(starved), tuple(unopened)).write(reply.content)
            _keep_state(message, reply, desk)
        return reply
    except DeffdError as problem:
        refused = isinstance(problem, Refused | EnvelopeError | KeyUnavailable)
        context.state.clear()
        context.state.update(before)
        return Message(Error(REFUSED if refused else FAILED, str(problem)), reply_to=message)


def _refuse_arrays(content: RecordDict, sealed: str, desk: Desk) -> None:
    allowed = {sealed, "arrays"} if desk.takes_plaintext else {sealed}
    if not allowed.issuperset(content.array_records):
        raise Refused(Reason.DOWNGRADED)


def _harmless(reason: str) -> str:
    """Return an error's text without what an exception may have quoted of a model or a key.

    A backslash is how Python writes a byte that is no character; numbers with a point are how it
    writes tensors, long runs of hexadecimal digits how it writes keys.
    """
    return _QUOTED.sub("#", reason.partition("\\")[0])[:REASON_LENGTH]


def _open_inbox(message: Message, desk: Desk) -> list[int]:
    """Replace the inbox by what it held; return the places of what there is no key for now."""
    inbox = message.content.array_records.get("inbox")
    if inbox is None:
        return []
    last_round = _orders(message).server_round
    opened, unopened = [], []
    for place, array in enumerate(inbox.values()):
        try:
            opened.append(desk.open(array.data, last_round))
        except NoKeyNow:
            unopened.append(place)
    del message.content["inbox"]
    opened.sort(key=sent_order)
    packages = dict(enumerate(each.plaintext for each in opened))
    message.content["received"] = _arrays(packages, PACKAGE)
    senders = [partition_of(each.header.route.sender) for each in opened]
    message.content[SENDERS] = ConfigRecord({"partitions": senders})
    return unopened


def _seal_outbox(message: Message, reply: Message, desk: Desk) -> list[int]:
    """Replace what the app hands out; return the places of what there is no key for now."""
    outgoing = reply.content.array_records.get("outgoing")
    if outgoing is None:
        return []
    del reply.content["outgoing"]
    orders = _orders(message)
    sealed, starved = {}, []
    parcels = zip(outgoing.values(), orders.outbox, strict=True)
    for place, (array, parcel) in enumerate(parcels):
        try:
            blob = desk.seal(array.data, parcel, orders.server_round, orders.clock)
        except NoKeyNow:
            starved.append(place)
        else:
            sealed[place] = blob
    reply.content["outbox"] = _arrays(sealed, SEALED)
    return starved


def _keep_state(message: Message, reply: Message, desk: Desk) -> None:
    """Let the desk's memory become the client's state, with what a greeting or a farewell does."""
    if message.metadata.message_type == "query.finish":
        desk.close()
        return
    if message.metadata.message_type == "query.hello":
        reply.content["transport"] = desk.introduce()
    desk.save()


def _orders(message: Message) -> Orders:
    try:
        return Orders.read(message.content.config_records["config"])
    except (KeyError, TypeError, ValueError):
        raise Refused(Reason.MALFORMED) from None


def _arrays(blobs: Mapping[int, bytes], stype: str) -> ArrayRecord:
    """Return blobs, by their places, as Flower Arrays that NumPy refuses to read as numbers."""
    return ArrayRecord(
        {str(place): Array("uint8", (len(blob),), stype, blob) for place, blob in blobs.items()}
    )
