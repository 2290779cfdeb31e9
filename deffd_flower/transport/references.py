"""Names of QKD key bits, which anyone may read."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from deffd_flower.transport.refusal import EnvelopeError
from deffd_flower.transport.wire import COUNT, Reader, check_range

_REFERENCE = struct.Struct(">16sQQ")
REFERENCE_BYTES = _REFERENCE.size


@dataclass(frozen=True, slots=True)
class KeyReference:
    """A piece of a QKD key, in whole bytes.

    Args:
        key_id: The key's id (key_ID of ETSI GS QKD 014).
        offset: First bit of the piece.
        length: Size of the piece in bits.

    Raises:
        EnvelopeError: Not whole bytes, empty, or beyond 2^64 bits.
    """

    key_id: UUID
    offset: int
    length: int

    def __post_init__(self) -> None:
        check_range("key offset", self.offset, 0, 2**64 - 1)
        check_range("key length", self.length, 1, 2**64 - 1 - self.offset)
        if self.offset % 8 or self.length % 8:
            raise EnvelopeError("key offset and length must be multiples of 8 bits")

    @property
    def end(self) -> int:
        """First bit after the piece."""
        return self.offset + self.length

    def encode(self) -> bytes:
        """Return the reference's 32 bytes."""
        return _REFERENCE.pack(self.key_id.bytes, self.offset, self.length)

    @classmethod
    def read(cls, reader: Reader) -> "KeyReference":
        """Return the next reference.

        Raises:
            EnvelopeError: It is cut short or no reference.
        """
        key_id, offset, length = reader.unpack(_REFERENCE)
        return cls(UUID(bytes=key_id), offset, length)


def pack_references(references: tuple[KeyReference, ...]) -> bytes:
    """Return a two-byte count and the references, in their order."""
    return COUNT.pack(len(references)) + b"".join(each.encode() for each in references)


def read_references(reader: Reader) -> tuple[KeyReference, ...]:
    """Return what `pack_references` packed.

    Raises:
        EnvelopeError: The list is cut short or holds what is no reference.
    """
    (count,) = reader.unpack(COUNT)
    return tuple(KeyReference.read(reader) for _ in range(count))


def disjoint(references: Iterable[KeyReference]) -> bool:
    """Say whether no bit is named twice."""
    ordered = sorted((each.key_id.bytes, each.offset, each.end) for each in references)
    return all(one[0] != two[0] or one[2] <= two[1] for one, two in pairwise(ordered))
