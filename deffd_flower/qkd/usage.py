"""``keys.csv`` of a run with key managers: the key that models were sealed with, as headers tell.

The server of such a run sees key when it has sealed a model, and not before: what the key managers
have in store, lose or let expire is in their own books. So each key is ``produced`` and
``delivered`` in one go, and a link's store is empty after every pair of rows.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from deffd_flower.qkd.ledger import COLUMNS, USE, Totals, Use
from deffd_flower.transport.references import KeyReference


class UsageLedger:
    """Appends to ``keys.csv``.

    Args:
        path: The file; ``None`` writes none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows: list[tuple[object, ...]] = [COLUMNS]
        self._totals: defaultdict[str, Totals] = defaultdict(Totals)

    def used(
        self, time_s: float, server_round: int, use: Use, references: Iterable[KeyReference]
    ) -> None:
        """Write down the key that sealed a model; its ids are those of the references."""
        for reference in references:
            named = use._replace(key_id=str(reference.key_id))
            nobody = ("",) * len(USE)
            self._row(time_s, server_round, use, "produced", reference.length, nobody)
            self._row(time_s, server_round, use, "delivered", reference.length, named)

    def starved(self, time_s: float, server_round: int, use: Use) -> None:
        """Write down that a model found too little key."""
        self._row(time_s, server_round, use, "starved", 0, use)

    def flush(self) -> None:
        """Append to the file what is not there yet."""
        if self._path is not None and self._rows:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(self._rows)
        self._rows.clear()

    def _row(
        self,
        time_s: float,
        server_round: int,
        use: Use,
        event: str,
        bits: int,
        about: tuple[object, ...],
    ) -> None:
        link = f"{min(use.sender, use.receiver)}-{max(use.sender, use.receiver)}"
        totals = self._totals[link]
        totals.move(event, bits)
        head = (round(time_s, 6), server_round, link, event, bits, 0)
        self._rows.append((*head, *about, "", "", *totals.cells))
