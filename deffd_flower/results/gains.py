"""What each client gains: its accuracy minus that of the same client in the reference.

With the same seed a client has the same data there, so that a gain does not depend on how good its
data are. A mean over clients may rise while some of them lose; these tables tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from deffd_flower.results.accuracy import ACCURACIES
from deffd_flower.results.cell_notes import reference_name
from deffd_flower.results.cell_tables import SETTING, Grid, interval_text, key_columns, setting
from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.chart import known
from deffd_flower.results.courses import Courses
from deffd_flower.results.metrics import amount, difference_heading, plain_name, signed
from deffd_flower.results.reader import Course, column
from deffd_flower.results.statistics import Summary, bootstrap_interval, summarise

Seeds = tuple[int, ...]


@dataclass(frozen=True)
class Gain:
    """What one client of a cell gains.

    Attributes:
        client: Its number.
        model: Its architecture; empty where all clients have the same.
        by_seed: Its gain in each run, by the run's seeds.
        summary: The same over seeds.
    """

    client: int
    model: str
    by_seed: dict[Seeds, float]
    summary: Summary


def gains(comparison: Comparison, courses: Courses, metric: str) -> dict[int, list[Gain]]:
    """Return what the clients of each cell gain, by the cell's number.

    Args:
        comparison: The cells; those without a reference have no gains.
        courses: How their trials went.
        metric: One of a client's accuracies.
    """
    found = {}
    for number, cell in enumerate(comparison.cells):
        if cell.partner is not None:
            partner = comparison.cells[cell.partner]
            own = _by_client(cell, courses[number], metric)
            found[number] = _gains(own, _by_client(partner, courses[cell.partner], metric))
    return {number: clients for number, clients in found.items() if clients}


def gain_grids(comparison: Comparison, courses: Courses) -> list[Grid]:
    """Return a table for each of the metrics that clients have.

    It has a row for each cell; where clients have different architectures, one for each of these.
    """
    metrics = [metric for metric in comparison.metrics if metric in ACCURACIES]
    found = {metric: gains(comparison, courses, metric) for metric in metrics}
    return [_grid(comparison, metric, cells) for metric, cells in found.items() if cells]


def _grid(comparison: Comparison, metric: str, cells: dict[int, list[Gain]]) -> Grid:
    keys = key_columns(comparison)
    several = any(gain.model for of_cell in cells.values() for gain in of_cell)
    unit = difference_heading(metric).removeprefix("difference")
    numbers = ["clients that gain", "in single runs", f"mean gain{unit}", "95 %"]
    numbers += [f"smallest gain{unit}"]
    rows = [
        [*setting(comparison.cells[number], keys), *([group[0].model] if several else []), *texts]
        for number, of_cell in cells.items()
        for group in _by_model(of_cell)
        for texts in [_texts(group, metric)]
    ]
    title = f"{plain_name(metric)}: what each client gains on {reference_name(comparison)}"
    head = [*(keys or SETTING), *(["model"] if several else []), *numbers]
    return Grid(title, head, (len(keys) or 1) + several, rows)


def _texts(group: Sequence[Gain], metric: str) -> list[str]:
    single = [value for gain in group for value in gain.by_seed.values()]
    least = min(group, key=lambda gain: gain.summary.mean)
    margin = least.summary.margin
    spread = f" ± {amount(metric, margin)}" if margin > 0 else ""
    return [
        f"{sum(gain.summary.mean > 0 for gain in group)} of {len(group)}",
        f"{sum(value > 0 for value in single)} of {len(single)}",
        signed(metric, fmean(gain.summary.mean for gain in group)),
        interval_text(metric, bootstrap_interval(_over_clients(group))),
        f"{signed(metric, least.summary.mean)}{spread} (client {least.client})",
    ]


def _over_clients(group: Sequence[Gain]) -> list[float]:
    """Return the mean gain of some clients in each run."""
    seeds = dict.fromkeys(seeds for gain in group for seeds in gain.by_seed)
    return [fmean(known(g.by_seed[s] for g in group if s in g.by_seed)) for s in seeds]


def _by_model(clients: Sequence[Gain]) -> list[list[Gain]]:
    groups: dict[str, list[Gain]] = {}
    for gain in clients:
        groups.setdefault(gain.model, []).append(gain)
    return list(groups.values())


Values = dict[int, dict[Seeds, float]]


def _by_client(cell: Cell, courses: Sequence[Course], metric: str) -> tuple[Values, dict[int, str]]:
    """Return a metric of each client in each run, and the clients' architectures."""
    values: Values = {}
    models: dict[int, str] = {}
    for trial, course in zip(cell.trials, courses, strict=True):
        measured = column(course.clients, metric)
        for row, value in zip(course.clients, measured, strict=True):
            client = int(float(row["client"]))
            models[client] = str(row.get("model", ""))
            values.setdefault(client, {})[trial.seeds] = value
    return values, models


def _gains(
    own: tuple[Values, dict[int, str]], reference: tuple[Values, dict[int, str]]
) -> list[Gain]:
    found = []
    for client, by_seed in own[0].items():
        theirs = reference[0].get(client, {})
        pairs = {
            seeds: value - theirs[seeds] for seeds, value in by_seed.items() if seeds in theirs
        }
        pairs = {seeds: value for seeds, value in pairs.items() if known([value])}
        if pairs:
            summary = summarise(list(pairs.values()))
            found.append(Gain(client, own[1][client], pairs, summary))
    return found
