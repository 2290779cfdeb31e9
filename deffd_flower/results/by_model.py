"""The accuracies of a run's last evaluation by model, where clients have different ones."""

from collections.abc import Sequence

from deffd_flower.results.accuracy import ACCURACIES, mean
from deffd_flower.results.reader import Row, column
from deffd_flower.results.table import QUANTITIES, count, percent

HEAD = ["Model", "Clients", *(QUANTITIES[name][0] for name in ACCURACIES)]


def by_model(clients: Sequence[Row]) -> list[list[str]]:
    """Return a row of cells for each model, below `HEAD`; none where all clients have the same.

    Values are plain means over the clients with the model, in the order of its first client.

    Args:
        clients: A row per client, whose ``model`` says what it has.
    """
    groups: dict[str, list[Row]] = {}
    for row in clients:
        groups.setdefault(str(row.get("model", "")), []).append(row)
    if len(groups) < 2:
        return []
    return [
        [model, count(len(rows)), *(percent(mean(column(rows, name))) for name in ACCURACIES)]
        for model, rows in groups.items()
    ]
