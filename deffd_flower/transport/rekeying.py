"""When a sender takes a fresh QKD key, and what both ends keep when it does not for each message.

By default a key seals one message: nothing secret outlives a message, and a lost state repeats
no nonce, because the next message has another key. A policy that uses a key more often saves key
and costs both: key and sequence number then live in the clients' local state, and the state must
be saved before the message leaves.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from deffd_flower.errors import RequestError
from deffd_flower.transport.keys import KeyMaterial, KeySource
from deffd_flower.transport.references import KeyReference, pack_references, read_references
from deffd_flower.transport.suite import Suite
from deffd_flower.transport.wire import Reader, pack_short, wipe

#: QUIC's confidentiality limit for AES-GCM (RFC 9001, section 6.6).
MAX_MESSAGES = 2**23
#: 2^32 blocks s under one key: GCM's distinguishing advantage s^2 / 2^129 stays below 2^-64.
MAX_BYTES = 2**36
_STREAM = struct.Struct(">Q?")
_USE = struct.Struct(">BIQd")


@dataclass(frozen=True)
class RekeyPolicy:
    """A sender takes a fresh key on the first of these.

    Args:
        messages: Messages sealed under one key.
        bytes: Plaintext bytes sealed under one key.
        seconds: Age of the key, on the clock that the sender goes by.

    Raises:
        RequestError: A limit is out of its range.
    """

    messages: int = 1
    bytes: int = MAX_BYTES
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not 1 <= self.messages <= MAX_MESSAGES:
            raise RequestError("rekey-messages", self.messages, f"must be 1 to {MAX_MESSAGES}")
        if not 1 <= self.bytes <= MAX_BYTES:
            raise RequestError("rekey-bytes", self.bytes, f"must be 1 to {MAX_BYTES}")
        if not self.seconds > 0:
            raise RequestError("rekey-seconds", self.seconds, "must be above 0")


@dataclass
class _KeyInUse:
    """A key that seals more than one message, and what it has sealed."""

    suite_id: int
    references: tuple[KeyReference, ...]
    secret: bytearray = field(repr=False)
    since: float
    messages: int = 0
    plaintext_bytes: int = 0

    def allows(self, policy: RekeyPolicy, suite: Suite, plaintext_bytes: int, now: float) -> bool:
        return (
            self.suite_id == suite.suite_id
            and self.messages < policy.messages
            and self.plaintext_bytes + plaintext_bytes <= policy.bytes
            and 0 <= now - self.since < policy.seconds
        )

    def use(self, plaintext_bytes: int) -> KeyMaterial:
        self.messages += 1
        self.plaintext_bytes += plaintext_bytes
        return KeyMaterial(self.references, bytearray(self.secret))

    def encode(self) -> bytes:
        counts = _USE.pack(self.suite_id, self.messages, self.plaintext_bytes, self.since)
        return counts + pack_references(self.references) + pack_short(bytes(self.secret))

    @classmethod
    def read(cls, reader: Reader) -> "_KeyInUse":
        suite_id, messages, size, since = reader.unpack(_USE)
        references = read_references(reader)
        return cls(suite_id, references, bytearray(reader.short()), since, messages, size)


class KeySchedule:
    """A sender's side of one stream: which sequence number and which key the next message gets.

    Args:
        peer: SAE id of the receiver.
        policy: When to take a fresh key.
    """

    def __init__(self, peer: str, policy: RekeyPolicy) -> None:
        self.peer = peer
        self.policy = policy
        self._sequence = 0
        self._key: _KeyInUse | None = None

    def needs_key(self, suite: Suite, plaintext_bytes: int, now: float) -> bool:
        """Say whether the next message takes fresh QKD key.

        Args:
            suite: The suite that will seal it.
            plaintext_bytes: Its size.
            now: Seconds on the clock that the policy goes by.
        """
        if not suite.key_bits(plaintext_bytes):
            return False
        return not (self._key and self._key.allows(self.policy, suite, plaintext_bytes, now))

    def next_message(
        self,
        suite: Suite,
        plaintext_bytes: int,
        now: float,
        source: KeySource,
        grant: Sequence[KeyReference] = (),
    ) -> tuple[int, KeyMaterial | None]:
        """Return the sequence number and the key of the next message; neither comes again.

        Args:
            suite: The suite that will seal it.
            plaintext_bytes: Its size.
            now: Seconds on the clock that the policy goes by.
            source: Where fresh key comes from.
            grant: Handed on to the source. Fresh key is taken from it even if the key in use would
                still do: whoever grants key has reason to.

        Raises:
            KeyUnavailable: Fresh key is needed and there is too little.
        """
        key = self._next_key(suite, plaintext_bytes, now, source, grant)
        self._sequence += 1
        return self._sequence - 1, key

    def _next_key(
        self,
        suite: Suite,
        plaintext_bytes: int,
        now: float,
        source: KeySource,
        grant: Sequence[KeyReference],
    ) -> KeyMaterial | None:
        bits = suite.key_bits(plaintext_bytes)
        if not bits:
            return None
        if not grant and self._key and self._key.allows(self.policy, suite, plaintext_bytes, now):
            return self._key.use(plaintext_bytes)
        fresh = source.for_sending(self.peer, bits, grant)
        if not suite.reuses_keys or self.policy.messages == 1:
            return fresh
        if self._key:
            wipe(self._key.secret)
        self._key = _KeyInUse(suite.suite_id, fresh.references, fresh.secret, now)
        return self._key.use(plaintext_bytes)

    def to_bytes(self) -> bytes:
        """Return the state; it holds a secret key if the policy uses keys more than once."""
        stream = _STREAM.pack(self._sequence, self._key is not None)
        return stream + self._key.encode() if self._key else stream

    @classmethod
    def from_bytes(cls, data: bytes, peer: str, policy: RekeyPolicy) -> "KeySchedule":
        """Return the schedule that `to_bytes` wrote.

        Raises:
            EnvelopeError: The bytes are not what it writes.
        """
        reader = Reader(data)
        schedule = cls(peer, policy)
        schedule._sequence, in_use = reader.unpack(_STREAM)
        schedule._key = _KeyInUse.read(reader) if in_use else None
        reader.finish()
        return schedule
