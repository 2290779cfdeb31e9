"""What the server tells a client beside its mail: the ``config`` record of a message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord


@dataclass(frozen=True)
class Parcel:
    """One entry of a client's outbox.

    Attributes:
        receiver: Partition id of the peer to write to.
        segments: Segments of the model to send; empty for all of it.
    """

    receiver: int
    segments: tuple[int, ...] = ()


@dataclass(frozen=True)
class Orders:
    """The orders of one message.

    Attributes:
        server_round: The round.
        mail_round: The round in which the mail in the inbox was sent; 0 without mail.
        trains: Whether to train for the local epochs.
        outbox: What to hand out, in this order.
    """

    server_round: int
    mail_round: int = 0
    trains: bool = False
    outbox: tuple[Parcel, ...] = ()

    def record(self, more: Mapping[str, Any]) -> ConfigRecord:
        """Return the orders as Flower sends them, with the user's own ``more`` beside them."""
        own: dict[str, Any] = {
            "server-round": self.server_round,
            "mail-round": self.mail_round,
            "trains": self.trains,
            "outbox-peers": [parcel.receiver for parcel in self.outbox],
            "outbox-segments": [" ".join(map(str, parcel.segments)) for parcel in self.outbox],
        }
        return ConfigRecord({**more, **own})

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Orders":
        """Return the orders in a record; a central strategy's hold no more than the round."""
        receivers: Sequence[int] = record.get("outbox-peers", [])
        segments: Sequence[str] = record.get("outbox-segments", [])
        return cls(
            server_round=int(record["server-round"]),
            mail_round=int(record.get("mail-round", 0)),
            trains=bool(record.get("trains", False)),
            outbox=tuple(
                Parcel(int(receiver), tuple(int(number) for number in numbers.split()))
                for receiver, numbers in zip(receivers, segments, strict=True)
            ),
        )
