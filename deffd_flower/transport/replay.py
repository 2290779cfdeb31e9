"""What a receiver remembers, so that no message and no key opens twice."""

import struct
from bisect import bisect_left, insort
from dataclasses import dataclass
from uuid import UUID

from deffd_flower.transport.envelope import Header
from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.refusal import Reason, Refused
from deffd_flower.transport.wire import Reader, pack_short, pack_text

#: Messages of one sender that may overtake each other, as in IPsec (RFC 4303, section 3.4.3).
WINDOW = 1024
#: Key references remembered. A replayed message falls to the window however old it is; this
#: memory is against a sender that seals a new message under an old key, which its key manager
#: would have to hand out twice.
REMEMBERED_REFERENCES = 4096

_COUNT = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")


@dataclass
class SequenceWindow:
    """The highest sequence number seen, and which of the 1,024 up to it were.

    Args:
        highest: -1 before the first message.
        seen: Bit i stands for the number ``highest - i``.
    """

    highest: int = -1
    seen: int = 0

    def accepts(self, sequence: int) -> bool:
        """Say whether the number is new: ahead of the window, or in it and not seen."""
        age = self.highest - sequence
        return age < 0 or (age < WINDOW and not self.seen >> age & 1)

    def add(self, sequence: int) -> None:
        """Mark an accepted number as seen."""
        ahead = sequence - self.highest
        if ahead > 0:
            kept = self.seen << ahead if ahead < WINDOW else 0
            self.seen = (kept | 1) % 2**WINDOW
            self.highest = sequence
        else:
            self.seen |= 1 << -ahead


class ReplayGuard:
    """A receiver's memory of one run: a window per sender, and the key that was used.

    Its size is bounded. A sender takes at most 393 bytes (only senders the receiver expects get a
    window), a key reference 36; the last 4,096 references are kept, or all of the last message
    if it has more: at most 65,535, for one-time pads pieced together from small keys.

    Args:
        run: Flower's run id; messages of other runs are refused.
    """

    def __init__(self, run: int) -> None:
        self.run = run
        self._windows: dict[str, SequenceWindow] = {}
        self._uses: dict[KeyReference, int] = {}
        self._pieces: dict[UUID, list[tuple[int, int]]] = {}

    def check(self, header: Header, uses: int = 1) -> None:
        """Refuse a message seen before, or sealed under key that opened another.

        Args:
            header: The message's header. It is not authenticated, so nothing is written down.
            uses: How many messages one and the same key reference may open; its sequence
                numbers keep them apart.

        Raises:
            Refused: `Reason.WRONG_RUN`, `Reason.REPLAYED` or `Reason.KEY_REUSED`.
        """
        if header.route.run != self.run:
            raise Refused(Reason.WRONG_RUN)
        window = self._windows.get(header.route.sender)
        if window and not window.accepts(header.route.sequence):
            raise Refused(Reason.REPLAYED)
        if any(self._used_up(reference, uses) for reference in header.references):
            raise Refused(Reason.KEY_REUSED)

    def commit(self, header: Header, uses: int = 1) -> None:
        """Write down a message that was authenticated and opened.

        Raises:
            Refused: As `check`; nothing is written down then.
        """
        self.check(header, uses)
        self._windows.setdefault(header.route.sender, SequenceWindow()).add(header.route.sequence)
        for reference in header.references:
            self._remember(reference, self._uses.get(reference, 0) + 1)
        self._forget(max(REMEMBERED_REFERENCES, len(header.references)))

    def _used_up(self, reference: KeyReference, uses: int) -> bool:
        used = self._uses.get(reference, 0)
        return used >= uses or (not used and self._overlaps(reference))

    def _overlaps(self, reference: KeyReference) -> bool:
        pieces = self._pieces.get(reference.key_id, [])
        before = bisect_left(pieces, (reference.end,))
        return before > 0 and pieces[before - 1][1] > reference.offset

    def _remember(self, reference: KeyReference, uses: int) -> None:
        if reference not in self._uses:
            insort(self._pieces.setdefault(reference.key_id, []), (reference.offset, reference.end))
        self._uses[reference] = uses

    def _forget(self, keep: int) -> None:
        while len(self._uses) > keep:
            oldest = next(iter(self._uses))
            del self._uses[oldest]
            pieces = self._pieces[oldest.key_id]
            pieces.remove((oldest.offset, oldest.end))
            if not pieces:
                del self._pieces[oldest.key_id]

    def to_bytes(self) -> bytes:
        """Return the whole memory; equal memories have equal bytes."""
        parts = [_NUMBER.pack(self.run), _COUNT.pack(len(self._windows))]
        for sender, window in sorted(self._windows.items()):
            seen = window.seen.to_bytes((window.seen.bit_length() + 7) // 8, "big")
            parts += [pack_text(sender), _NUMBER.pack(window.highest), pack_short(seen)]
        parts.append(_COUNT.pack(len(self._uses)))
        parts += [each.encode() + _COUNT.pack(uses) for each, uses in self._uses.items()]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ReplayGuard":
        """Return the guard that `to_bytes` wrote.

        Raises:
            EnvelopeError: The bytes are not what it writes.
        """
        reader = Reader(data)
        guard = cls(reader.unpack(_NUMBER)[0])
        for _ in range(reader.unpack(_COUNT)[0]):
            sender = reader.text()
            (highest,) = reader.unpack(_NUMBER)
            guard._windows[sender] = SequenceWindow(highest, int.from_bytes(reader.short(), "big"))
        for _ in range(reader.unpack(_COUNT)[0]):
            guard._remember(KeyReference.read(reader), reader.unpack(_COUNT)[0])
        reader.finish()
        return guard
