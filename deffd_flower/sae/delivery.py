"""What a key manager can be asked, whatever the protocol, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from deffd_flower.transport.refusal import KeyUnavailable
from deffd_flower.transport.wire import wipe


class KeyManagerError(KeyUnavailable):
    """A key manager refuses, is not the right one, or answers what cannot be understood.

    Unlike `NoKeyNow`, asking again would not help. The text names no address and no key.
    """


class KeyNotFound(KeyUnavailable):
    """The key manager has no such key: not yet, or not any more."""


@dataclass(frozen=True)
class LinkStatus:
    """What a key manager says of the keys for one peer (ETSI GS QKD 014, table 9).

    Attributes:
        key_size: Bits of a key when none are named.
        stored_keys: Keys of that size that can be had.
        keys_per_request: The most that one request may ask for.
        min_key_size: Bits.
        max_key_size: Bits.
    """

    key_size: int
    stored_keys: int
    keys_per_request: int
    min_key_size: int
    max_key_size: int


@dataclass(frozen=True)
class DeliveredKey:
    """One key from a key manager.

    Attributes:
        key_id: What both ends call it.
        secret: Its bits, 8 to a byte; to be wiped.
    """

    key_id: UUID
    secret: bytearray = field(repr=False)


class KeyDelivery(Protocol):
    """The connection of one SAE to its key manager.

    Every method raises `NoKeyNow` when the key manager is out of key, too busy or silent, and
    `KeyManagerError` when it refuses for good.
    """

    def status(self, peer: str) -> LinkStatus:
        """Return what there is for a peer.

        Args:
            peer: SAE id.
        """

    def fresh_keys(self, peer: str, number: int, size: int) -> list[DeliveredKey]:
        """Return keys nobody has had; ``peer`` can fetch the same ones by their ids.

        Args:
            peer: SAE id of the one that will fetch them.
            number: How many. There may come fewer or more.
            size: Bits of each. They may have more or less.
        """

    def keys_named(self, peer: str, key_ids: Sequence[UUID]) -> list[DeliveredKey]:
        """Return the keys with these ids, in any order; the key manager then forgets them.

        Args:
            peer: SAE id of the one that has asked for fresh keys.
            key_ids: Their ids.

        Raises:
            KeyNotFound: One of them is not there.
        """


def wipe_all(keys: Sequence[DeliveredKey]) -> None:
    """Overwrite keys with zeros."""
    for key in keys:
        wipe(key.secret)
