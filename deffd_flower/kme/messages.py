"""What KMEs say to each other over their own channel, as JSON over mutual TLS.

It does what ETSI GS QKD 020 is for, agreeing on key_IDs and relaying keys between KMEs, but it is
this package's own protocol: both ends have to be `deffd` KMEs. Key itself is only ever sent
encrypted with the link's key as a one-time pad.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from deffd_flower.errors import DeffdError

Reason = Literal["busy", "epoch", "exhausted", "late", "lot", "proof", "refused", "unreachable"]
Number = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class PeerError(DeffdError):
    """Another KME cannot be reached, or does not do what it is asked.

    Args:
        reason: What is the matter, for programs.
        message: The same for people.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Message(BaseModel):
    """Something that goes over the channel; fields that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class Advert(Message):
    """What one KME tells the whole network about itself.

    Attributes:
        kme: Its id.
        boot: How often it has been started.
        number: Counts its adverts since.
        saes: Who its SAEs are.
        peers: KMEs that it has links to, whether they work or not.
        stored: Bytes of key it can use towards each neighbour that it hears.
    """

    kme: Name
    boot: Number
    number: Number
    saes: list[Name] = []
    peers: list[Name] = []
    stored: dict[Name, Number] = {}


class Greeting(Message):
    """How two neighbours see that they are alive, and that they agree.

    Attributes:
        boot: How often the sender has been started.
        agreement: What has to be equal in the files of both, by the names of the keys.
        nonce: Drawn when the sender's store was new.
        epoch: The sender's idea of the link's epoch; empty before the two have met.
        floor: The sender will name no byte of its stream below this position.
        adverts: What it knows of the network, itself included.
    """

    boot: Number
    agreement: dict[str, str | int | float]
    nonce: bytes
    epoch: bytes = b""
    floor: Number = 0
    adverts: list[Advert] = []


class LotOffer(Message):
    """Alice to Bob: so much key has come into being.

    Attributes:
        epoch: The link's.
        number: The lot's; 1 is an epoch's first.
        alice: Bytes for Alice's stream, from the lot's start.
        bob: Bytes for Bob's stream, after them.
        proof: Shows that Alice has the same key.
    """

    epoch: bytes
    number: Number
    alice: Number
    bob: Number
    proof: bytes


class LotRecord(Message):
    """Bob to Alice: what he has stored as this lot, now or when it was first offered."""

    number: Number
    alice: Number
    bob: Number


class Delivery(Message):
    """Keys on their way to the KME of those who shall fetch them.

    Attributes:
        epoch: The link's between sender and receiver.
        ranges: Position and length of the link key that belongs to these keys.
        ciphertext: The keys, encrypted with that link key; without it, the link key is the keys.
        relayed: Whether anybody but the two ends of one link has the keys.
        route: KME ids, from the master's to the slaves'.
        master: SAE id.
        slaves: SAE ids.
        key_ids: One for each key.
        max_age_ms: Link key must not be older.
        budget_s: Seconds that are left to deliver them.
    """

    epoch: bytes = b""
    ranges: Annotated[list[tuple[Number, Number]], Field(min_length=1)]
    ciphertext: bytes | None = None
    relayed: bool
    route: Annotated[list[Name], Field(min_length=2)]
    master: Name
    slaves: Annotated[list[Name], Field(min_length=1)]
    key_ids: Annotated[list[UUID], Field(min_length=1)]
    max_age_ms: Number | None = None
    budget_s: Annotated[float, Field(gt=0, le=3600)]


class Accepted(Message):
    """The keys are where they should be, and on the disk there."""


class Refusal(Message):
    """Why not."""

    reason: Reason
    message: str
