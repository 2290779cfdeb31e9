"""Keys that wait at a KME until the SAEs they were made for fetch them, each SAE once."""

import sqlite3
import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from deffd_flower.errors import DeffdError

SCHEMA = """
CREATE TABLE IF NOT EXISTS key (
    id BLOB PRIMARY KEY, master TEXT NOT NULL, born_ns INTEGER NOT NULL, material BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS key_born ON key (born_ns);
CREATE TABLE IF NOT EXISTS recipient (
    key_id BLOB NOT NULL REFERENCES key (id) ON DELETE CASCADE, sae TEXT NOT NULL,
    fetched INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (key_id, sae)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""


class KeyNotFoundError(DeffdError):
    """A key is not there, or no longer."""


class NotAuthorisedError(DeffdError):
    """A key was made for others."""


class StoreFullError(DeffdError):
    """So many keys wait that no more can be taken."""


class NamedKey(NamedTuple):
    """A key between SAEs.

    Attributes:
        key_id: What both ends call it.
        material: Its bytes.
    """

    key_id: UUID
    material: bytes


class Tally(NamedTuple):
    """What has become of waiting keys; a key for two SAEs counts twice.

    Attributes:
        registered: Keys that came.
        waiting: Keys that are here.
        fetched: Keys that were handed out.
        expired: Keys that nobody fetched in time.
    """

    registered: int
    waiting: int
    fetched: int
    expired: int

    @property
    def balanced(self) -> bool:
        """Whether every key is accounted for."""
        return self.registered == self.waiting + self.fetched + self.expired


class WaitingKeys:
    """The rows of keys that wait, within a transaction.

    Args:
        connection: Of the database, in a transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(
        self, keys: Sequence[NamedKey], master: str, slaves: Sequence[str], most_bytes: int
    ) -> None:
        """Let keys wait for each of the slaves.

        Raises:
            StoreFullError: More than ``most_bytes`` would wait.
            DeffdError: A key_ID is taken.
        """
        size = sum(len(key.material) for key in keys)
        if self._count("bytes") + size > most_bytes:
            raise StoreFullError("too many keys wait for the SAEs that they were made for")
        now = time.time_ns()
        try:
            self._connection.executemany(
                "INSERT INTO key VALUES (?, ?, ?, ?)",
                ((key.key_id.bytes, master, now, key.material) for key in keys),
            )
        except sqlite3.IntegrityError:
            raise DeffdError("a key_ID is taken") from None
        self._connection.executemany(
            "INSERT INTO recipient (key_id, sae) VALUES (?, ?)",
            ((key.key_id.bytes, slave) for key in keys for slave in slaves),
        )
        self._add_up("bytes", size)
        self._add_up("registered", len(keys) * len(slaves))

    def fetch(self, key_ids: Sequence[UUID], master: str, sae: str) -> list[NamedKey]:
        """Hand keys out to one of their slaves, all or none, in the order asked for.

        Raises:
            KeyNotFoundError: One of them is not there, is another master's, or was fetched before.
            NotAuthorisedError: One of them was not made for this SAE.
        """
        ids = [key_id.bytes for key_id in key_ids]
        marks = ",".join("?" * len(ids))
        found = self._connection.execute(
            f"SELECT id, master, material FROM key WHERE id IN ({marks})", ids
        ).fetchall()
        mine = self._connection.execute(
            f"SELECT key_id, fetched FROM recipient WHERE sae = ? AND key_id IN ({marks})",
            (sae, *ids),
        ).fetchall()
        if len(mine) < len(found):
            raise NotAuthorisedError("one of the keys was made for others")
        fresh = all(owner == master for _, owner, _ in found) and not any(row[1] for row in mine)
        if len(found) < len(ids) or not fresh:
            raise KeyNotFoundError("one of the keys is not here")
        self._connection.execute(
            f"UPDATE recipient SET fetched = 1 WHERE sae = ? AND key_id IN ({marks})", (sae, *ids)
        )
        self._add_up("fetched", len(ids))
        self._forget(
            f"id IN ({marks}) AND NOT EXISTS"
            " (SELECT 1 FROM recipient WHERE key_id = key.id AND NOT fetched)",
            ids,
        )
        material = {row[0]: row[2] for row in found}
        return [NamedKey(key_id, material[key_id.bytes]) for key_id in key_ids]

    def expire(self, born_before_ns: int) -> None:
        """Throw away what nobody has fetched in time."""
        old = "FROM recipient JOIN key ON key.id = key_id WHERE NOT fetched AND born_ns < ?"
        (count,) = self._connection.execute(f"SELECT COUNT(*) {old}", (born_before_ns,)).fetchone()
        if count:
            self._add_up("expired", count)
            self._forget("born_ns < ?", [born_before_ns])

    def tally(self) -> Tally:
        """Return the books; what waits is counted anew, key by key."""
        (waiting,) = self._connection.execute(
            "SELECT COUNT(*) FROM recipient WHERE NOT fetched"
        ).fetchone()
        return Tally(
            self._count("registered"), waiting, self._count("fetched"), self._count("expired")
        )

    def _forget(self, which: str, values: Sequence[object]) -> None:
        (size,) = self._connection.execute(
            f"SELECT TOTAL(LENGTH(material)) FROM key WHERE {which}", values
        ).fetchone()
        self._connection.execute(f"DELETE FROM key WHERE {which}", values)
        self._add_up("bytes", -int(size))

    def _count(self, name: str) -> int:
        row = self._connection.execute("SELECT count FROM tally WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def _add_up(self, name: str, count: int) -> None:
        self._connection.execute(
            "INSERT INTO tally VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET count = count + ?2",
            (name, count),
        )
