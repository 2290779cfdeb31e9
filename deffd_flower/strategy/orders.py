"""What server and client tell each other beside mail and metrics.

The server's ``config`` record of a message holds the client's orders. In a reply, the ``refusals``
record says what the client had no key for, and ``nominations`` whom it prefers to meet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from deffd_flower.transport.references import KeyReference, pack_references, read_references
from deffd_flower.transport.wire import Reader


@dataclass(frozen=True)
class Parcel:
    """One entry of a client's outbox.

    Attributes:
        receiver: Partition id of the peer to write to.
        suite: Name of the suite to seal with.
        segments: Segments of the model to send; empty for all of it.
        references: Key that the network's controller has set aside for it.
        kem_public: The receiver's ML-KEM public key, for suites that use one.
        kem_proof: Proof that it is the receiver's.
    """

    receiver: int
    suite: str
    segments: tuple[int, ...] = ()
    references: tuple[KeyReference, ...] = ()
    kem_public: bytes = b""
    kem_proof: bytes = b""


@dataclass(frozen=True)
class Orders:
    """The orders of one message.

    Attributes:
        server_round: The round.
        mail_round: The round in which the mail in the inbox was sent; 0 without mail.
        trains: Whether to train for the local epochs.
        evaluates: Whether to evaluate after that.
        clock: Simulated seconds, by which keys grow old.
        outbox: What to hand out, in this order.
    """

    server_round: int
    mail_round: int = 0
    trains: bool = False
    evaluates: bool = False
    clock: float = 0.0
    outbox: tuple[Parcel, ...] = ()

    def record(self, more: Mapping[str, Any]) -> ConfigRecord:
        """Return the orders as Flower sends them, with the user's own ``more`` beside them."""
        own: dict[str, Any] = {
            "server-round": self.server_round,
            "mail-round": self.mail_round,
            "trains": self.trains,
            "evaluates": self.evaluates,
            "clock": self.clock,
            "outbox-peers": [parcel.receiver for parcel in self.outbox],
            "outbox-suites": [parcel.suite for parcel in self.outbox],
            "outbox-segments": [" ".join(map(str, parcel.segments)) for parcel in self.outbox],
            "outbox-keys": [pack_references(parcel.references) for parcel in self.outbox],
            "outbox-kem-keys": [parcel.kem_public for parcel in self.outbox],
            "outbox-kem-proofs": [parcel.kem_proof for parcel in self.outbox],
        }
        return ConfigRecord({**more, **own})

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Orders":
        """Return the orders in a record; a central strategy's hold no more than the round.

        Raises:
            EnvelopeError: The key references are none.
        """
        return cls(
            server_round=int(record["server-round"]),
            mail_round=int(record.get("mail-round", 0)),
            trains=bool(record.get("trains", False)),
            evaluates=bool(record.get("evaluates", False)),
            clock=float(record.get("clock", 0.0)),
            outbox=tuple(_parcels(record)) if "outbox-peers" in record else (),
        )


@dataclass(frozen=True)
class Refusals:
    """What a client had no key for, now at least; why is between it and its key manager.

    Attributes:
        starved: Places in the outbox of what it could not seal.
        unopened: Places in the inbox of what it could not open.
    """

    starved: tuple[int, ...] = ()
    unopened: tuple[int, ...] = ()

    def write(self, reply: RecordDict) -> None:
        """Put a record into a reply, if there is anything to say."""
        if self.starved or self.unopened:
            told = ConfigRecord({"starved": list(self.starved), "unopened": list(self.unopened)})
            reply["refusals"] = told

    @classmethod
    def read(cls, reply: RecordDict) -> "Refusals":
        """Return what a reply says; nothing where it says nothing."""
        record: Mapping[str, Any] = reply.config_records.get("refusals", ConfigRecord())
        return cls(tuple(record.get("starved", ())), tuple(record.get("unopened", ())))


@dataclass(frozen=True)
class Nominations:
    """Whom a client prefers to be paired with; why is between it and its peers.

    Attributes:
        preferred: Partition ids of the peers it has heard from, the best first.
    """

    preferred: tuple[int, ...] = ()

    def write(self, reply: RecordDict) -> None:
        """Put a record into a reply."""
        reply["nominations"] = ConfigRecord({"preferred-peers": list(self.preferred)})

    @classmethod
    def read(cls, reply: RecordDict) -> "Nominations":
        """Return what a reply says; nobody where it says nothing."""
        record: Mapping[str, Any] = reply.config_records.get("nominations", ConfigRecord())
        told = record.get("preferred-peers", ())
        return cls(tuple(peer for peer in told if isinstance(peer, int)))


def _parcels(record: Mapping[str, Any]) -> list[Parcel]:
    columns = ("peers", "suites", "segments", "keys", "kem-keys", "kem-proofs")
    rows = zip(*(record[f"outbox-{name}"] for name in columns), strict=True)
    return [
        Parcel(
            receiver=int(peer),
            suite=str(suite),
            segments=tuple(int(number) for number in segments.split()),
            references=_references(keys),
            kem_public=kem_public,
            kem_proof=kem_proof,
        )
        for peer, suite, segments, keys, kem_public, kem_proof in rows
    ]


def _references(packed: bytes) -> tuple[KeyReference, ...]:
    reader = Reader(packed)
    references = read_references(reader)
    reader.finish()
    return references
