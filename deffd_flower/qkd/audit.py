"""The audit of a key ledger: does ``keys.csv`` add up?"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from deffd_flower.errors import DeffdError
from deffd_flower.qkd.ledger import COLUMNS, EVENTS, TOTALS, Totals


def verify_ledger(path: Path) -> int:
    """Check a ``keys.csv`` row by row, knowing nothing but the file.

    Each row must be balanced, follow from the link's previous row, and not go back in time. A
    key_ID must belong to one sender and one receiver, and be used once per link.

    Returns:
        The number of rows. A half line at the end, as a killed process leaves it, is not one.

    Raises:
        DeffdError: The first row that is wrong, or the file cannot be read.
    """
    audit = _Audit()
    number = 0
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(_whole_lines(file))
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DeffdError(f"{path.name}: the first line must be {','.join(COLUMNS)}")
            for number, row in enumerate(reader, 1):
                if problem := audit.problem(row):
                    raise DeffdError(f"{path.name}, row {number}: {problem}")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DeffdError(f"{path.name}, after row {number}: cannot be read ({problem})") from None
    return number


def _whole_lines(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if line.endswith("\n"))


class _Audit:
    def __init__(self) -> None:
        self._totals: dict[str, Totals] = {}
        self._owners: dict[str, tuple[str, str]] = {}
        self._uses: set[tuple[str, str, str]] = set()
        self._latest = (0.0, 0)

    def problem(self, row: dict[str, str]) -> str:
        """Return what is wrong with the next row, or nothing."""
        moment = float(row["time_s"]), int(row["round"])
        if moment[0] < self._latest[0] or moment[1] < self._latest[1]:
            return "is earlier than the row before"
        self._latest = moment
        event, bits = row["event"], int(row["bits"])
        if event not in EVENTS or bits < 0 or (bits > 0 and not EVENTS[event]):
            return f"{event} of {bits} bits is no event"
        return self._unbalanced(row) or self._misused(row)

    def _unbalanced(self, row: dict[str, str]) -> str:
        totals = self._totals.setdefault(row["link"], Totals())
        totals.move(row["event"], int(row["bits"]))
        written = Totals(*(int(row[name]) for name in TOTALS))
        if written != totals:
            return f"totals of link {row['link']} do not follow from its row before"
        return "" if written.balanced else "produced is not delivered + stored + expired + burnt"

    def _misused(self, row: dict[str, str]) -> str:
        key_id, pair = row["key_id"], (row["sender"], row["receiver"])
        if not key_id:
            return ""
        if self._owners.setdefault(key_id, pair) != pair:
            return f"key {key_id} belongs to another sender or receiver"
        use = (key_id, row["link"], row["event"])
        if use in self._uses:
            return f"key {key_id} was used on this link before"
        self._uses.add(use)
        return ""
