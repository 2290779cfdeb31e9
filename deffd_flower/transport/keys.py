"""QKD key as the transport sees it: references anyone may read, and bits nobody may print."""

from collections.abc import Sequence
from typing import NoReturn, Protocol

from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.refusal import KeyUnavailable
from deffd_flower.transport.wire import wipe

__all__ = ["KeyMaterial", "KeyReference", "KeySource", "KeyUnavailable"]


class KeyMaterial:
    """Key bits for one message, and what they are called at the key managers.

    It is good for one message: sealing and opening wipe it. It can be neither copied nor pickled,
    and its ``repr`` holds no key. Wiping overwrites this object's memory; that no other copy is
    left in the process is more than CPython can promise.

    Args:
        references: Where the bits come from, in order.
        secret: The bits, 8 to a byte; a bytearray is taken over, bytes are copied.

    Raises:
        KeyUnavailable: There are more or fewer bits than the references name.
    """

    def __init__(self, references: Sequence[KeyReference], secret: bytes | bytearray) -> None:
        self.references = tuple(references)
        self.bits = sum(each.length for each in self.references)
        if 8 * len(secret) != self.bits:
            raise KeyUnavailable(f"{8 * len(secret)} key bits came for references to {self.bits}")
        self._secret = secret if isinstance(secret, bytearray) else bytearray(secret)
        self._wiped = False

    @property
    def secret(self) -> bytearray:
        """The key bits.

        Raises:
            KeyUnavailable: They have been wiped.
        """
        if self._wiped:
            raise KeyUnavailable("this key has been used already")
        return self._secret

    def wipe(self) -> None:
        """Overwrite the key bits; the material is of no further use."""
        self._wiped = True
        wipe(self._secret)

    def __repr__(self) -> str:
        return f"KeyMaterial({len(self.references)} references, {self.bits} bits)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("key material is neither copied nor pickled")


class KeySource(Protocol):
    """Where a client gets its QKD keys: the key supply agent (ITU-T Y.3800) of its site."""

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        """Return fresh key shared with ``peer``, never given out before.

        Args:
            peer: SAE id of the receiver.
            bits: How many bits, a multiple of 8.
            grant: What the network's controller set aside for this message; empty where the
                source chooses its own key ids.

        Raises:
            KeyUnavailable: There is too little key.
        """

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        """Return the key that ``peer`` named in a message.

        Args:
            peer: SAE id of the sender.
            references: The key references of its header, not authenticated yet.

        Raises:
            KeyUnavailable: There is no such key between the two.
        """
