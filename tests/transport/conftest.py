"""Two peers that share key, and everything needed to write to each other."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from uuid import UUID

import pytest

from deffd_flower.transport import (
    Direction,
    Expectation,
    KemKeyPair,
    KeptKeys,
    KeyMaterial,
    KeyReference,
    Opened,
    ReplayGuard,
    Route,
    generate_kem_keypair,
    open_sealed,
    seal,
    suites,
)

RUN = 0x0102030405060708
RECEIVER_KEYS = generate_kem_keypair(bytes(range(64)))
EXPECTED = Expectation(
    run=RUN,
    receiver="bob",
    senders={"alice", "carol"},
    direction=Direction.MODEL,
    min_suite=suites.get("none"),
    rounds=range(5, 9),
)


@dataclass
class LinkKeys:
    """One SAE's key source: key bits are a hash of the link and the reference.

    It has key for every reference it is asked for, so that a changed reference is caught by
    authentication and by nothing earlier. It remembers what it gave out.
    """

    owner: str
    ids: "count[int]" = field(default_factory=lambda: count(1))
    given: list[KeyMaterial] = field(default_factory=list)

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        references = tuple(grant) or (KeyReference(UUID(int=next(self.ids)), 0, bits),)
        return self._key(self.owner, peer, references)

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        return self._key(peer, self.owner, references)

    def _key(self, sender: str, receiver: str, references: Sequence[KeyReference]) -> KeyMaterial:
        link = f"{sender}>{receiver}".encode()
        bits = [self.bits(link, reference) for reference in references]
        self.given.append(KeyMaterial(references, b"".join(bits)))
        return self.given[-1]

    @staticmethod
    def bits(link: bytes, reference: KeyReference) -> bytes:
        place = struct.pack(">16sQ", reference.key_id.bytes, reference.offset)
        return hashlib.shake_256(link + place).digest(reference.length // 8)


@dataclass
class Mail:
    """Alice writes to Bob."""

    alice: LinkKeys = field(default_factory=lambda: LinkKeys("alice"))
    bob: LinkKeys = field(default_factory=lambda: LinkKeys("bob"))
    guard: ReplayGuard = field(default_factory=lambda: ReplayGuard(RUN))
    expect: Expectation = EXPECTED
    kem: KemKeyPair = RECEIVER_KEYS
    sequences: "count[int]" = field(default_factory=count)

    def route(self, **changes: object) -> Route:
        route = Route(RUN, "alice", "bob", Direction.MODEL, 7, next(self.sequences))
        return replace(route, **changes)  # type: ignore[arg-type]  # names checked by replace

    def seal(
        self,
        suite_name: str,
        plaintext: bytes = b"weights of alice's model",
        route: Route | None = None,
        grant: Sequence[KeyReference] = (),
    ) -> bytes:
        suite = suites.get(suite_name)()
        route = route or self.route()
        bits = suite.key_bits(len(plaintext))
        key = self.alice.for_sending(route.receiver, bits, grant) if bits else None
        return seal(suite, route, plaintext, key, self.kem.public)

    def open(
        self, blob: bytes, expect: Expectation | None = None, kept: KeptKeys | None = None
    ) -> Opened:
        expect = expect or self.expect
        return open_sealed(blob, expect, self.bob, self.guard, self.kem.private, kept)


@pytest.fixture
def mail() -> Mail:
    return Mail()
