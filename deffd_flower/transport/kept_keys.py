"""The receiver's side of a policy that seals several messages under one key."""

import struct

from deffd_flower.transport.keys import KeyMaterial
from deffd_flower.transport.references import KeyReference, pack_references, read_references
from deffd_flower.transport.rekeying import RekeyPolicy
from deffd_flower.transport.wire import Reader, pack_short, pack_text, wipe

#: Per sender: the key in use, and the one before it for messages still on their way.
KEYS_PER_SENDER = 2

_COUNT = struct.Struct(">I")

_Kept = tuple[tuple[KeyReference, ...], bytearray]


class KeptKeys:
    """Keys that opened a message and may open another, because a key manager gives them once.

    Holds nothing under the default policy. Otherwise at most two keys of 256 bits per sender,
    secret, in the receiver's local state; a key goes when its sender's second next one comes.

    Args:
        policy: The policy of the run, the same for senders and receivers.
    """

    def __init__(self, policy: RekeyPolicy) -> None:
        self.policy = policy
        self._keys: dict[str, list[_Kept]] = {}

    def get(self, sender: str, references: tuple[KeyReference, ...]) -> KeyMaterial | None:
        """Return a copy of the key with these references, if ``sender`` used it before."""
        for kept, secret in self._keys.get(sender, []):
            if kept == references:
                return KeyMaterial(kept, bytearray(secret))
        return None

    def keep(self, sender: str, key: KeyMaterial) -> None:
        """Keep a copy of a key that opened a message of ``sender``."""
        if self.policy.messages == 1 or self.get(sender, key.references):
            return
        keys = self._keys.setdefault(sender, [])
        keys.append((key.references, bytearray(key.secret)))
        for _, secret in keys[:-KEYS_PER_SENDER]:
            wipe(secret)
        del keys[:-KEYS_PER_SENDER]

    def to_bytes(self) -> bytes:
        """Return the state, secret keys included."""
        flat = [(sender, *kept) for sender, keys in sorted(self._keys.items()) for kept in keys]
        return _COUNT.pack(len(flat)) + b"".join(
            pack_text(sender) + pack_references(references) + pack_short(bytes(secret))
            for sender, references, secret in flat
        )

    @classmethod
    def from_bytes(cls, data: bytes, policy: RekeyPolicy) -> "KeptKeys":
        """Return what `to_bytes` wrote.

        Raises:
            EnvelopeError: The bytes are not what it writes.
        """
        reader = Reader(data)
        kept = cls(policy)
        for _ in range(reader.unpack(_COUNT)[0]):
            keys = kept._keys.setdefault(reader.text(), [])
            keys.append((read_references(reader), bytearray(reader.short())))
        reader.finish()
        return kept
