"""What one end of a quantum link keeps on disk: whom it has met, and the link's key.

The key of a link is two streams of bytes, one for each way, so that no byte serves two directions
and each end can hand out its own stream (``out``) without asking the other. The other end keeps
the mirror image (``in``) and gives each byte up once, when its owner names it. Positions count the
bytes of a stream in an epoch; an epoch ends when an end has lost its store, or part of its past.
"""

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from deffd_flower.kme import streams
from deffd_flower.kme.streams import Range, Stream, Taken, Way
from deffd_flower.transport.refusal import KeyUnavailable

NONCE_BYTES = 16

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS link (
    peer TEXT PRIMARY KEY, nonce BLOB NOT NULL, peer_nonce BLOB NOT NULL DEFAULT x'',
    lot INTEGER NOT NULL DEFAULT 0, lot_out INTEGER NOT NULL DEFAULT 0,
    lot_in INTEGER NOT NULL DEFAULT 0, simulated_ns INTEGER NOT NULL DEFAULT -1
);
{streams.SCHEMA}"""


@dataclass(frozen=True)
class LinkState:
    """One end's view of a link.

    Attributes:
        nonce: Drawn by this end when its store was new.
        peer_nonce: The other end's; empty before the two have met.
        lot: Number of the last lot of key that was stored; 0 for none in this epoch.
        lot_out: Bytes of that lot that went to the stream ``out``.
        lot_in: Bytes of that lot that went to the stream ``in``.
        simulated_ns: Simulated time up to which key was made; -1 for never.
    """

    nonce: bytes
    peer_nonce: bytes
    lot: int
    lot_out: int
    lot_in: int
    simulated_ns: int


@dataclass(frozen=True)
class Lot:
    """Key that comes into being at both ends at once.

    Attributes:
        number: Counts from 1 in each epoch.
        outward: Bytes for the stream ``out`` of the end that stores them.
        inward: Bytes for its stream ``in``.
    """

    number: int
    outward: bytes
    inward: bytes


class LinkKeys:
    """One link's rows, within a transaction.

    Args:
        connection: Of the database, in a transaction.
        peer: KME id of the other end.

    Attributes:
        outward: The stream that this end hands out.
        inward: The stream that the other end hands out.
    """

    def __init__(self, connection: sqlite3.Connection, peer: str) -> None:
        self._connection = connection
        self._peer = peer
        self.outward = Stream(connection, peer, Way.OUT)
        self.inward = Stream(connection, peer, Way.IN)

    def open(self) -> LinkState:
        """Return the link's state, and burn what was under way when the process ended."""
        self._execute("INSERT OR IGNORE INTO link (nonce, peer) VALUES (?, ?)", _nonce())
        self.outward.open()
        self.inward.open()
        return self.state()

    def state(self) -> LinkState:
        """Return the link's state."""
        columns = "nonce, peer_nonce, lot, lot_out, lot_in, simulated_ns"
        return LinkState(*self._execute(f"SELECT {columns} FROM link WHERE peer = ?").fetchone())

    def meet(self, peer_nonce: bytes) -> LinkState:
        """Begin a new epoch if the other end is not the one that was met before."""
        if self.state().peer_nonce != peer_nonce:
            self._execute("UPDATE link SET peer_nonce = ? WHERE peer = ?", peer_nonce)
            self._begin_epoch()
        return self.state()

    def renew(self) -> LinkState:
        """Begin a new epoch, because the two ends do not agree on what has happened."""
        self._begin_epoch()
        self._execute("UPDATE link SET nonce = ? WHERE peer = ?", _nonce())
        return self.state()

    def store(self, lot: Lot, simulated_ns: int) -> LinkState:
        """Store a lot's key in both streams."""
        self.outward.append(lot.outward)
        self.inward.append(lot.inward)
        self._execute(
            "UPDATE link SET lot = ?, lot_out = ?, lot_in = ?, simulated_ns = ? WHERE peer = ?",
            lot.number,
            len(lot.outward),
            len(lot.inward),
            simulated_ns,
        )
        return self.state()

    def reserve(self, length: int, born_after_ns: int = 0) -> Taken:
        """Take the oldest bytes of the stream ``out`` that are young enough.

        Raises:
            KeyUnavailable: There are not so many.
        """
        segments = self.outward.oldest(length, born_after_ns)
        missing = length - sum(len(segment.material) for segment in segments)
        if missing > 0:
            raise KeyUnavailable(f"{length} bytes of key wanted, {missing} are missing")
        first = segments[0].position
        span = Range(first, segments[-1].end + missing - first)
        return self.outward.cut(segments, span, "reserved")

    def settle(self, length: int, use: str) -> None:
        """Say what has become of reserved bytes: delivered, relayed or burnt."""
        self.outward.count("reserved", -length)
        self.outward.count(use, length)

    def accept(self, ranges: Sequence[Range], use: str) -> bytes:
        """Take the bytes of the stream ``in`` that the other end names.

        Raises:
            KeyUnavailable: They are not stored: used before, expired, or never made.
        """
        return b"".join(self._accept(each, use) for each in ranges)

    def drop_below(self, position: int) -> None:
        """Burn what the owner of the stream ``in`` has gone past without naming it."""
        passed = Range(0, position)
        segments = self.inward.overlapping(passed)
        if segments:
            self.inward.cut(segments, passed, "burnt")

    def _accept(self, wanted: Range, use: str) -> bytes:
        segments = self.inward.overlapping(wanted)
        there = sum(
            min(wanted.end, segment.end) - max(wanted.position, segment.position)
            for segment in segments
        )
        if wanted.length < 1 or there != wanted.length:
            raise KeyUnavailable(f"{wanted.length - there} of the bytes named are not stored")
        return self.inward.cut(segments, wanted, use).material

    def _begin_epoch(self) -> None:
        if self.state().lot:
            # Key was made in the epoch that ends, so that it must never come back.
            self._execute("UPDATE link SET nonce = ? WHERE peer = ?", _nonce())
        self.outward.clear()
        self.inward.clear()
        self._execute("UPDATE link SET lot = 0, lot_out = 0, lot_in = 0 WHERE peer = ?")

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Execute a statement whose last parameter is the peer."""
        return self._connection.execute(statement, (*values, self._peer))


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)
