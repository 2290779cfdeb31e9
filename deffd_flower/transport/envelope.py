"""The envelope: one canonical binary header, authenticated in full, then the body.

====================  ==============  ======================================================
field                 bytes           meaning
====================  ==============  ======================================================
magic                 4               ``DEFD``
version               1               1
suite                 1               id of the suite; up to 127 are this package's
direction             1               role of the message, see `Direction`
run                   8               Flower's run id
round                 4               round of the federation
sequence              8               counts up per sender and receiver within a run
chunk index, count    4, 4            0, 1: version 1 sends a model in one piece
plaintext length      8               in bytes
sender, receiver      1 + n each      SAE ids, UTF-8
nonce                 1 + n           empty unless the suite has one
ML-KEM ciphertext     2 + n           empty unless the suite has one
key references        2 + 32 each     key_ID (16), offset and length in bits (8, 8)
body                  rest            ciphertext and tag, or the plaintext under suite `none`
====================  ==============  ======================================================

SAE (secure application entity), key_ID and the sizes in bits are terms of ETSI GS QKD 014.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from deffd_flower.transport.references import (
    REFERENCE_BYTES,
    KeyReference,
    disjoint,
    pack_references,
    read_references,
)
from deffd_flower.transport.refusal import EnvelopeError
from deffd_flower.transport.wire import (
    COUNT,
    Buffer,
    Reader,
    check_range,
    pack_long,
    pack_short,
    pack_text,
)

MAGIC = b"DEFD"
VERSION = 1

#: One GiB, 268 million float32 weights: a body is sealed by one call of the cipher, and OpenSSL
#: takes less than 2 GiB in one.
MAX_PLAINTEXT_BYTES = 2**30
#: An SAE id is a certificate's name: 255 bytes, as in the length byte before it.
MAX_NAME_BYTES = 255
#: AES-GCM takes 12; 24 leaves room for an extended-nonce cipher.
MAX_NONCE_BYTES = 24
#: ML-KEM-1024's ciphertext, the largest of FIPS 203; ML-KEM-768's is 1088.
MAX_KEM_BYTES = 1568
#: All that the two-byte count can say. At ETSI 014's usual 1024 bits a key they carry a one-time
#: pad of 8 MiB; a larger model needs a key manager with larger keys.
MAX_REFERENCES = 2**16 - 1

_FIXED = struct.Struct(">4sBBBQIQIIQ")
_CHUNK = (0, 1)


class Direction(IntEnum):
    """The role of a message, so that it cannot pass for one of another role."""

    MODEL = 1
    """A model handed to a neighbour."""
    ANSWER = 2
    """A model handed back for one received (push-pull exchange)."""


_DIRECTIONS = frozenset(Direction)


@dataclass(frozen=True, slots=True)
class Route:
    """Who writes to whom, as what, and when.

    Args:
        run: Flower's run id.
        sender: SAE id of the peer that seals.
        receiver: SAE id of the peer that opens.
        direction: Role of the message.
        round: Round of the federation.
        sequence: Number of the message from this sender to this receiver in this run.

    Raises:
        EnvelopeError: A field is out of its range, or sender and receiver are one.
    """

    run: int
    sender: str
    receiver: str
    direction: Direction
    round: int
    sequence: int

    def __post_init__(self) -> None:
        check_range("run", self.run, 0, 2**64 - 1)
        check_range("round", self.round, 0, 2**32 - 1)
        check_range("sequence", self.sequence, 0, 2**64 - 1)
        for name in (self.sender, self.receiver):
            check_range("length of an SAE id", len(pack_text(name)) - 1, 1, MAX_NAME_BYTES)
        if self.sender == self.receiver:
            raise EnvelopeError("sender and receiver are the same SAE")


@dataclass(frozen=True, slots=True)
class Header:
    """Everything but the body.

    Args:
        suite: Id of the suite.
        route: Who writes to whom, as what, and when.
        plaintext_bytes: Size of the plaintext.
        nonce: The cipher's nonce, or empty.
        kem_ciphertext: ML-KEM ciphertext, or empty.
        references: Pieces of QKD key that seal this message, in order and disjoint.

    Raises:
        EnvelopeError: A field is out of its range.
    """

    suite: int
    route: Route
    plaintext_bytes: int
    nonce: bytes = b""
    kem_ciphertext: bytes = b""
    references: tuple[KeyReference, ...] = ()

    def __post_init__(self) -> None:
        check_range("suite", self.suite, 0, 255)
        check_range("size of the plaintext", self.plaintext_bytes, 0, MAX_PLAINTEXT_BYTES)
        check_range("length of the nonce", len(self.nonce), 0, MAX_NONCE_BYTES)
        check_range("length of the ML-KEM ciphertext", len(self.kem_ciphertext), 0, MAX_KEM_BYTES)
        check_range("number of key references", len(self.references), 0, MAX_REFERENCES)
        if not disjoint(self.references):
            raise EnvelopeError("key references overlap")

    @property
    def key_bits(self) -> int:
        """QKD key bits that the references name."""
        return sum(each.length for each in self.references)

    def encode(self) -> bytes:
        """Return the header's only encoding; it is the associated data of the body."""
        route = self.route
        fixed = _FIXED.pack(
            MAGIC,
            VERSION,
            self.suite,
            route.direction,
            route.run,
            route.round,
            route.sequence,
            *_CHUNK,
            self.plaintext_bytes,
        )
        names = pack_text(route.sender) + pack_text(route.receiver)
        sealing = pack_short(self.nonce) + pack_long(self.kem_ciphertext)
        return fixed + names + sealing + pack_references(self.references)


def header_bytes(names: int, nonce: int, kem: int, references: int) -> int:
    """Return the size of a header from the sizes of its variable parts.

    Args:
        names: Bytes of both SAE ids together.
        nonce: Bytes of the nonce.
        kem: Bytes of the ML-KEM ciphertext.
        references: Number of key references.
    """
    lengths = 3 + 2 * COUNT.size
    return _FIXED.size + lengths + names + nonce + kem + references * REFERENCE_BYTES


#: No header is longer, so a receiver reads at most this before it checks a tag.
MAX_HEADER_BYTES = header_bytes(2 * MAX_NAME_BYTES, MAX_NONCE_BYTES, MAX_KEM_BYTES, MAX_REFERENCES)


def parse(blob: Buffer) -> tuple[Header, memoryview]:
    """Take an envelope apart; nothing in it is authenticated yet.

    Args:
        blob: The envelope.

    Returns:
        The header, and a view of the body behind it.

    Raises:
        EnvelopeError: The bytes are no envelope; nothing else is ever raised.
    """
    reader = Reader(blob)
    magic, version, suite, direction, run, round_, sequence, *chunk, size = reader.unpack(_FIXED)
    if (magic, version) != (MAGIC, VERSION):
        raise EnvelopeError("not an envelope of version 1")
    if tuple(chunk) != _CHUNK:
        raise EnvelopeError("version 1 sends a model in one piece")
    if direction not in _DIRECTIONS:
        raise EnvelopeError("unknown direction")
    sender, receiver = reader.text(), reader.text()
    route = Route(run, sender, receiver, Direction(direction), round_, sequence)
    header = Header(suite, route, size, reader.short(), reader.long(), read_references(reader))
    return header, reader.rest()
