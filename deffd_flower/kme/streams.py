"""One stream of a link's key on disk: bytes that are appended, taken by position, and counted.

For each stream, ``generated = stored + reserved + delivered + relayed + burnt + expired`` at every
moment, in bytes:

=========  =====================================================================================
reserved   taken by its owner for a key that has not reached its receiver yet
delivered  became a key between SAEs at the two ends of this link
relayed    became or carried a key that goes over more than one link, or to more than one KME
burnt      taken for a key that never arrived, or skipped by its owner, or left over from an epoch
expired    grew too old
=========  =====================================================================================
"""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

SEGMENT_BYTES = 4096
USES = ("reserved", "delivered", "relayed", "burnt", "expired")

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS stream (
    peer TEXT NOT NULL, way TEXT NOT NULL,
    tail INTEGER NOT NULL DEFAULT 0, generated INTEGER NOT NULL DEFAULT 0,
    {", ".join(f"{use} INTEGER NOT NULL DEFAULT 0 CHECK ({use} >= 0)" for use in USES)},
    PRIMARY KEY (peer, way)
);
CREATE TABLE IF NOT EXISTS segment (
    peer TEXT NOT NULL, way TEXT NOT NULL, position INTEGER NOT NULL,
    born_ns INTEGER NOT NULL, material BLOB NOT NULL, UNIQUE (peer, way, position)
);
"""


class Way(StrEnum):
    """Which of a link's two streams, seen from this end."""

    OUT = "out"
    IN = "in"


class Range(NamedTuple):
    """Bytes of a stream.

    Attributes:
        position: Of the first byte, from the start of the epoch.
        length: Number of bytes.
    """

    position: int
    length: int

    @property
    def end(self) -> int:
        """Position after the last byte."""
        return self.position + self.length


class Segment(NamedTuple):
    """Bytes of a stream that were made at once.

    Attributes:
        row: Where it is in the database.
        position: Of its first byte.
        born_ns: When it was made (Unix time).
        material: The bytes.
    """

    row: int
    position: int
    born_ns: int
    material: bytes

    @property
    def end(self) -> int:
        """Position after the last byte."""
        return self.position + len(self.material)


class Taken(NamedTuple):
    """Bytes that are no longer stored.

    Attributes:
        ranges: Where they were.
        material: The bytes.
    """

    ranges: tuple[Range, ...]
    material: bytes


@dataclass(frozen=True)
class Balance:
    """The books of one stream, in bytes; see the module."""

    peer: str
    way: str
    generated: int
    reserved: int
    delivered: int
    relayed: int
    burnt: int
    expired: int
    stored: int

    @property
    def balanced(self) -> bool:
        """Whether every byte is accounted for."""
        gone = self.delivered + self.relayed + self.burnt + self.expired
        return self.generated == self.stored + self.reserved + gone


def balances(connection: sqlite3.Connection) -> list[Balance]:
    """Return the books of all streams; what is stored is counted anew, segment by segment."""
    rows = connection.execute(
        f"SELECT peer, way, generated, {', '.join(USES)}, CAST((SELECT TOTAL(LENGTH(material))"
        " FROM segment WHERE segment.peer = stream.peer AND segment.way = stream.way) AS INTEGER)"
        " FROM stream ORDER BY peer, way"
    )
    return [Balance(*row) for row in rows]


class Stream:
    """The rows of one stream, within a transaction.

    Args:
        connection: Of the database, in a transaction.
        peer: KME id of the link's other end.
        way: Which of the link's streams.
    """

    def __init__(self, connection: sqlite3.Connection, peer: str, way: Way) -> None:
        self._connection = connection
        self._which = peer, way.value

    def open(self) -> None:
        """Make the stream if it is not there; burn what was reserved when the process ended."""
        self._execute("INSERT OR IGNORE INTO stream (peer, way) VALUES (?, ?)")
        self._execute(
            "UPDATE stream SET burnt = burnt + reserved, reserved = 0 WHERE peer = ? AND way = ?"
        )

    @property
    def stored(self) -> int:
        """How many bytes are stored."""
        used = " - ".join(USES)
        return self._number(f"SELECT generated - {used} FROM stream WHERE peer = ? AND way = ?")

    @property
    def lowest(self) -> int:
        """The position below which no byte is stored."""
        return self._number(
            "SELECT COALESCE(MIN(position), (SELECT tail FROM stream WHERE peer = ?1 AND way = ?2))"
            " FROM segment WHERE peer = ?1 AND way = ?2"
        )

    def append(self, material: bytes) -> None:
        """Store new key."""
        tail = self._number("SELECT tail FROM stream WHERE peer = ? AND way = ?")
        now = time.time_ns()
        starts = range(0, len(material), SEGMENT_BYTES)
        self._insert(
            (tail + start, now, material[start : start + SEGMENT_BYTES]) for start in starts
        )
        self._execute(
            "UPDATE stream SET tail = tail + ?3, generated = generated + ?3"
            " WHERE peer = ?1 AND way = ?2",
            len(material),
        )

    def oldest(self, length: int, born_after_ns: int) -> list[Segment]:
        """Return segments from the oldest that is young enough; fewer bytes if there are fewer."""
        rows = self._execute(
            "SELECT rowid, position, born_ns, material FROM segment"
            " WHERE peer = ? AND way = ? AND born_ns >= ? ORDER BY position",
            born_after_ns,
        )
        found: list[Segment] = []
        while length > 0 and (row := rows.fetchone()):
            found.append(Segment(*row))
            length -= len(found[-1].material)
        return found

    def overlapping(self, wanted: Range) -> list[Segment]:
        """Return the segments that have bytes of a range."""
        rows = self._execute(
            "SELECT rowid, position, born_ns, material FROM segment"
            " WHERE peer = ? AND way = ? AND position > ? AND position < ?"
            " AND position + LENGTH(material) > ? ORDER BY position",
            wanted.position - SEGMENT_BYTES,
            wanted.end,
            wanted.position,
        )
        return [Segment(*row) for row in rows]

    def cut(self, segments: Sequence[Segment], span: Range, use: str) -> Taken:
        """Take what segments hold within a span, and count it; the rest of them stays."""
        parts: list[bytes] = []
        rest: list[tuple[int, int, bytes]] = []
        ranges: list[Range] = []
        for segment in segments:
            left = max(0, span.position - segment.position)
            right = max(left, min(len(segment.material), span.end - segment.position))
            parts.append(segment.material[left:right])
            _extend(ranges, Range(segment.position + left, right - left))
            for start, end in ((0, left), (right, len(segment.material))):
                if start < end:
                    piece = segment.material[start:end]
                    rest.append((segment.position + start, segment.born_ns, piece))
        rows = [(segment.row,) for segment in segments]
        self._connection.executemany("DELETE FROM segment WHERE rowid = ?", rows)
        self._insert(rest)
        taken = Taken(tuple(ranges), b"".join(parts))
        self.count(use, len(taken.material))
        return taken

    def expire(self, born_before_ns: int) -> None:
        """Throw away what was made before a moment."""
        old = "FROM segment WHERE peer = ? AND way = ? AND born_ns < ?"
        length = self._number(f"SELECT TOTAL(LENGTH(material)) {old}", born_before_ns)
        if length:
            self._execute(f"DELETE {old}", born_before_ns)
            self.count("expired", length)

    def clear(self) -> None:
        """Burn all that is stored; positions start from 0 again."""
        self.count("burnt", self.stored)
        self._execute("DELETE FROM segment WHERE peer = ? AND way = ?")
        self._execute("UPDATE stream SET tail = 0 WHERE peer = ? AND way = ?")

    def count(self, use: str, length: int) -> None:
        """Add to one of `USES`."""
        self._execute(f"UPDATE stream SET {use} = {use} + ?3 WHERE peer = ?1 AND way = ?2", length)

    def _insert(self, rows: Iterable[tuple[int, int, bytes]]) -> None:
        self._connection.executemany(
            "INSERT INTO segment (peer, way, position, born_ns, material) VALUES (?, ?, ?, ?, ?)",
            ((*self._which, *row) for row in rows),
        )

    def _number(self, query: str, *values: int) -> int:
        return int(self._execute(query, *values).fetchone()[0])

    def _execute(self, statement: str, *values: int) -> sqlite3.Cursor:
        """Execute a statement whose first parameters are peer and way."""
        return self._connection.execute(statement, (*self._which, *values))


def _extend(ranges: list[Range], more: Range) -> None:
    """Add a range to a list, as part of the last one if it goes on there."""
    if ranges and ranges[-1].end == more.position:
        last = ranges.pop()
        more = Range(last.position, last.length + more.length)
    ranges.append(more)
