"""The books of a whole key store, and whether they add up."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from deffd_flower.errors import DeffdError
from deffd_flower.kme.streams import Balance, balances
from deffd_flower.kme.waiting_keys import Tally, WaitingKeys


@dataclass(frozen=True)
class Ledger:
    """Where every byte of link key and every waiting key has gone.

    Attributes:
        balances: The books of each stream of each link, in bytes.
        tally: The books of the keys that wait for their SAEs.
    """

    balances: list[Balance]
    tally: Tally

    @property
    def balanced(self) -> bool:
        """Whether everything is accounted for."""
        return self.tally.balanced and all(balance.balanced for balance in self.balances)

    def check(self) -> None:
        """Check that everything is accounted for.

        Raises:
            DeffdError: It is not; says where.
        """
        everything: list[Balance | Tally] = [*self.balances, self.tally]
        for books in everything:
            if not books.balanced:
                raise DeffdError(f"the key store does not add up: {books}")


def ledger(connection: sqlite3.Connection) -> Ledger:
    """Return the books, with what is stored counted anew."""
    return Ledger(balances(connection), WaitingKeys(connection).tally())


def read_ledger(store: Path) -> Ledger:
    """Return the books of a store that no KME is using, however its last one has ended.

    Raises:
        DeffdError: It cannot be read.
    """
    try:
        connection = sqlite3.connect(f"{store.absolute().as_uri()}?mode=rw", uri=True, timeout=1.0)
        try:
            return ledger(connection)
        finally:
            connection.close()
    except sqlite3.Error as problem:
        raise DeffdError(f"key store {store}: {problem}") from problem
