"""Who sent what to whom: the rows of ``traffic.csv``."""

from collections.abc import Iterable

from deffd_flower.results.reader import SENT
from deffd_flower.strategy.central import SERVER
from deffd_flower.strategy.consignment import BaseDispatcher
from deffd_flower.strategy.plans import Transfer

Row = dict[str, float | str]


class TrafficLog:
    """Keeps each transfer of a round until the round's models are all sent.

    Args:
        dispatcher: Knows what key has been used, and what was not sent.
    """

    def __init__(self, dispatcher: BaseDispatcher) -> None:
        self._dispatcher = dispatcher
        self._key_bits = 0
        self._sent: list[tuple[Transfer, Row]] = []

    def sent(self, transfer: Transfer, sealed_bytes: int, models: float) -> None:
        """Note a sealed model, or a part of one, whose key the dispatcher has settled."""
        used = self._dispatcher.tally.key_bits
        cost = {"models": models, "bytes": sealed_bytes, "key_bits": used - self._key_bits}
        self._key_bits = used
        self._sent.append((transfer, {**cost, "outcome": SENT}))

    def close_round(self, server_round: int) -> list[Row]:
        """Return a row for each transfer since the last call, ordered by sender and receiver."""
        nothing: Row = {"models": 0, "bytes": 0, "key_bits": 0}
        failed = [(it, {**nothing, "outcome": why}) for it, why in self._dispatcher.unsent]
        # Senders answer in any order, but the same run is to write the same file.
        transfers = sorted([*self._sent, *failed], key=_ends)
        self._sent = []
        self._dispatcher.unsent.clear()
        return list(_rows(server_round, transfers))


def _ends(entry: tuple[Transfer, Row]) -> tuple[int, int]:
    return entry[0].sender, entry[0].receiver


def _rows(server_round: int, transfers: Iterable[tuple[Transfer, Row]]) -> Iterable[Row]:
    for transfer, row in transfers:
        ends = {"sender": _name(transfer.sender), "receiver": _name(transfer.receiver)}
        yield {"round": server_round, **ends, **row}


def _name(partition: int) -> float | str:
    return "server" if partition == SERVER else partition
