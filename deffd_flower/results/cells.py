"""Trials grouped into cells, one for each setting, and what their seeds say about each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deffd_flower.config import RunConfig, Value
from deffd_flower.results.statistics import Difference, Summary, compare, holm, summarise
from deffd_flower.results.table import proper_name
from deffd_flower.results.trials import Asked, Trial, read_trials, unread
from deffd_flower.sweep.naming import varying, written
from deffd_flower.sweep.reference import partners


@dataclass(frozen=True)
class Cell:
    """One setting, run with several seeds.

    Attributes:
        keys: What it sets of the comparison's keys; the others are as in the base, or follow from
            its strategy.
        config: Its first trial's keys, resolved.
        trials: Its finished trials, in the order of their seeds.
        missing: Trials that failed, were stopped early, or are yet to come.
        summaries: Each metric over the seeds; one that no trial has a value of is left out.
        partner: Number of the cell it is compared with; ``None`` for a reference.
        differences: Each metric minus the partner's, paired by seeds. Left out where no seed has
            both, or where the metric does not vary with the seed at all, as a count of models.
    """

    keys: Mapping[str, Value]
    config: RunConfig
    trials: Sequence[Trial]
    missing: int
    summaries: Mapping[str, Summary]
    partner: int | None = None
    differences: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it sets, as ``key=value``s, with strategies by their names; or ``base``."""
        return told(self.keys) or "base"

    def value(self, key: str) -> Value | None:
        """Return its value of a key, set or not; ``None`` if its strategy does not read it."""
        if key in self.keys:
            return self.keys[key]
        return None if key in unread(self.config) else self.config.values()[key]


@dataclass(frozen=True)
class Comparison:
    """Cells side by side.

    Attributes:
        title: What it is called.
        description: What it is for.
        metrics: What is shown, by name in ``summary.json``, the most important first.
        reference: What the others are compared with, as values of some keys; may be empty.
        keys: The keys in which the cells differ, in the order in which they first come up.
        cells: All cells, in the order of the sweep.
        implied: What each strategy's cells set alike, unlike other strategies': no cell's name says
            it again.
    """

    title: str
    description: str
    metrics: Sequence[str]
    reference: Mapping[str, Value]
    keys: Sequence[str]
    cells: Sequence[Cell]
    implied: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def seeds(self) -> range:
        """The smallest and the largest number of finished trials of a cell, as a range."""
        counts = [len(cell.trials) for cell in self.cells]
        return range(min(counts), max(counts) + 1)


def told(keys: Mapping[str, Value]) -> str:
    """Return keys as ``key=value``s, with strategies and data sets by their names."""
    parts = [
        proper_name(value) if key in ("strategy", "dataset") else f"{key}={written(value)}"
        for key, value in keys.items()
    ]
    return ", ".join(parts)


def read_comparison(directories: Sequence[Path]) -> Comparison:
    """Read a sweep's directory, or several run directories, and compare their cells.

    Of a sweep, ``sweep.yaml`` and ``sweep.csv`` suffice.

    Raises:
        RequestError: A directory is neither, or cannot be understood.
    """
    return compared(read_trials(directories))


def compared(asked: Asked) -> Comparison:
    """Return the statistics of all cells, and of their differences to the reference.

    Holm's correction is made for each metric over all cells that have a partner.
    """
    varied = varying(asked.cells)
    implied = _implied(asked.cells, varied)
    keys = [key for key in varied if not any(key in of_one for of_one in implied.values())]
    cells = [
        _cell({key: setting[key] for key in keys if key in setting}, trials, asked.metrics)
        for setting, trials in zip(asked.cells, asked.trials, strict=True)
    ]
    chosen = partners([cell.config.values() for cell in cells], asked.reference)
    cells = [replace(cell, partner=partner) for cell, partner in zip(cells, chosen, strict=True)]
    for metric in asked.metrics:
        cells = _with_differences(cells, metric)
    return Comparison(
        asked.title, asked.description, asked.metrics, asked.reference, keys, cells, implied
    )


def _implied(
    settings: Sequence[Mapping[str, Value]], keys: Sequence[str]
) -> dict[str, dict[str, Value]]:
    """Return, by strategy, the keys that a cell's strategy tells the value of."""
    groups: dict[str, list[Mapping[str, Value]]] = {}
    for setting in settings:
        groups.setdefault(str(setting.get("strategy", "")), []).append(setting)
    if len(groups) < 2:
        return {}
    base = groups.pop("", [])
    told = [
        key
        for key in keys
        if key != "strategy"
        and not any(key in setting for setting in base)
        and all(len({setting.get(key) for setting in group}) == 1 for group in groups.values())
    ]
    found = {
        name: {k: group[0][k] for k in told if k in group[0]} for name, group in groups.items()
    }
    return {name: of_one for name, of_one in found.items() if of_one}


def _cell(keys: Mapping[str, Value], trials: Sequence[Trial], metrics: Sequence[str]) -> Cell:
    finished = sorted((trial for trial in trials if trial.results), key=lambda trial: trial.seeds)
    columns = {metric: _known([trial.value(metric) for trial in finished]) for metric in metrics}
    summaries = {metric: summarise(values) for metric, values in columns.items() if values}
    missing = len(trials) - len(finished)
    return Cell(keys, trials[0].config, finished, missing, summaries)


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _with_differences(cells: Sequence[Cell], metric: str) -> list[Cell]:
    if not any(cell.summaries[metric].sd > 0 for cell in cells if metric in cell.summaries):
        return list(cells)
    found = {
        number: _difference(cell, cells[cell.partner], metric)
        for number, cell in enumerate(cells)
        if cell.partner is not None
    }
    family = {number: one for number, one in found.items() if one is not None}
    adjusted = dict(zip(family, holm([one.p for one in family.values()]), strict=True))
    return [
        replace(cell, differences={**cell.differences, metric: replace(one, holm=adjusted[number])})
        if (one := family.get(number))
        else cell
        for number, cell in enumerate(cells)
    ]


def paired_values(cell: Cell, partner: Cell, metric: str) -> list[tuple[float, float]]:
    """Return a metric of a cell and of its partner for each seed that has both."""
    theirs = {trial.seeds: trial.value(metric) for trial in partner.trials}
    pairs = [
        (trial.value(metric), theirs[trial.seeds]) for trial in cell.trials if trial.seeds in theirs
    ]
    return [pair for pair in pairs if all(map(math.isfinite, pair))]


def _difference(cell: Cell, partner: Cell, metric: str) -> Difference | None:
    both = paired_values(cell, partner, metric)
    return compare([own for own, _ in both], [other for _, other in both]) if both else None
