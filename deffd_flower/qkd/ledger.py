"""The key ledger, ``keys.csv``: where every bit of every link's key has gone.

Rows are appended, never changed. Each moves bits of one link; its last five columns are the link's
running totals after it, and in every row produced = delivered + stored + expired + burnt.

===============  ==============================================================================
event            what it moves
===============  ==============================================================================
produced         new key of the blocks since the link's last row, into the store
authentication   key burnt by authenticating those blocks
overflow         key burnt because the store was full
expired          key that grew too old
aborted          nothing; so many blocks gave no key
delivered        key that sealed a message between the link's two ends
relayed          key that carried another key over this hop
unused           key burnt because its message did not need it, or was never heard of again
starved          nothing; a message found too little key, and here was least
===============  ==============================================================================
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from deffd_flower.errors import DeffdError
from deffd_flower.qkd.pool import Books, KeyPool, Lease
from deffd_flower.qkd.production import NANOSECONDS

#: The running total that an event adds to, besides stored, from which all but ``produced`` take.
EVENTS = {
    "produced": "produced",
    "authentication": "burnt",
    "overflow": "burnt",
    "expired": "expired",
    "aborted": "",
    "delivered": "delivered",
    "relayed": "delivered",
    "unused": "burnt",
    "starved": "",
}
TOTALS = ("produced", "delivered", "stored", "expired", "burnt")
USE = ("key_id", "sender", "receiver", "suite", "exposed")
COLUMNS = ("time_s", "round", "link", "event", "bits", "blocks", *USE, "age_s", "qber", *TOTALS)

_ROWS_KEPT = 10_000


@dataclass(slots=True)
class Totals:
    """What has become of a link's key up to a row, in bits."""

    produced: int = 0
    delivered: int = 0
    stored: int = 0
    expired: int = 0
    burnt: int = 0

    def move(self, event: str, bits: int) -> None:
        """Add the bits of an event."""
        total = EVENTS[event]
        if total:
            setattr(self, total, getattr(self, total) + bits)
            self.stored += bits if event == "produced" else -bits

    @property
    def cells(self) -> tuple[int, ...]:
        """The totals in the order of `TOTALS`."""
        return self.produced, self.delivered, self.stored, self.expired, self.burnt

    @property
    def balanced(self) -> bool:
        """Whether every bit produced is accounted for."""
        gone = self.delivered + self.expired + self.burnt
        return self.stored >= 0 and self.produced == gone + self.stored


class Use(NamedTuple):
    """What a key is for; key_ID and SAE are terms of ETSI GS QKD 014.

    Attributes:
        key_id: The end-to-end key's id.
        sender: Partition id.
        receiver: Partition id.
        suite: How the message is sealed.
        exposed: Trusted nodes that see the key, sorted, separated by spaces.
    """

    key_id: str
    sender: int
    receiver: int
    suite: str
    exposed: str = ""


_NO_USE = ("",) * len(USE)


class Ledger:
    """Writes ``keys.csv``.

    Args:
        path: The file; rows are appended to it. ``None`` keeps the totals and writes nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows: list[tuple[object, ...]] = [COLUMNS]
        self._written = 0
        self._totals: dict[str, Totals] = {}
        self._seen: dict[str, Books] = {}
        self._wrong = ""
        self._round = 0

    def begin_round(self, server_round: int) -> None:
        """Write what has come together; rows to come belong to this round."""
        self._round = server_round
        self.flush()

    def catch_up(self, link: str, pool: KeyPool) -> None:
        """Write down what the pool has produced and lost since it was here last."""
        seen, books = self._seen.get(link), pool.books
        if seen is None:
            seen = Books()
            self._totals[link] = Totals()
        elif (seen.blocks, seen.aborted, seen.expired) == (
            books.blocks,
            books.aborted,
            books.expired,
        ):
            return
        for event in ("produced", "authentication", "overflow", "expired"):
            blocks = books.blocks - seen.blocks if event == "produced" else 0
            if bits := getattr(books, event) - getattr(seen, event):
                self._row(link, pool, event, bits, blocks)
        if books.aborted > seen.aborted:
            self._row(link, pool, "aborted", 0, books.aborted - seen.aborted)
        self._seen[link] = replace(books)
        self._compare(link, pool)

    def close_lease(self, link: str, pool: KeyPool, lease: Lease, used: int, use: Use) -> None:
        """Write down that a lease is closed: what it sealed, and what is burnt."""
        event = "relayed" if use.exposed else "delivered"
        age = (pool.time - lease.born) / NANOSECONDS
        if used:
            self._row(link, pool, event, used, 0, use, age)
        if used < lease.bits:
            self._row(link, pool, "unused", lease.bits - used, 0, use, age)
        self._compare(link, pool)

    def starve(self, link: str, pool: KeyPool, use: Use) -> None:
        """Write down that a message found too little key."""
        self._row(link, pool, "starved", 0, 0, use)

    def flush(self) -> None:
        """Append to the file what is not there yet."""
        if self._path is not None and self._rows:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(self._rows)
        self._rows.clear()

    def check(self) -> None:
        """Check that the rows account for every bit that the pools have seen.

        Raises:
            DeffdError: They do not; it names the first row from which on they do not.
        """
        if self._wrong:
            raise DeffdError(f"the key ledger does not add up: {self._wrong}")

    def _row(
        self,
        link: str,
        pool: KeyPool,
        event: str,
        bits: int,
        blocks: int,
        use: tuple[object, ...] = _NO_USE,
        age: float | str = "",
    ) -> None:
        totals = self._totals[link]
        totals.move(event, bits)
        self._written += 1
        time = pool.time / NANOSECONDS
        about = (time, self._round, link, event, bits, blocks, *use, age, round(pool.qber, 6))
        self._rows.append((*about, *totals.cells))
        if len(self._rows) >= _ROWS_KEPT:
            self.flush()

    def _compare(self, link: str, pool: KeyPool) -> None:
        totals, books = self._totals[link], pool.books
        counted = (books.produced, books.delivered, pool.stored, books.expired, books.burnt)
        if not self._wrong and (totals.cells != counted or not totals.balanced):
            self._wrong = f"row {self._written}, link {link}: {totals.cells} is not {counted}"
