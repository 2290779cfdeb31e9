"""The trials of a sweep, or several run directories, read back to be compared."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deffd_flower.config import FIELDS, RunConfig, Value, parse
from deffd_flower.errors import RequestError
from deffd_flower.request import unread_keys
from deffd_flower.results.metrics import with_ratios
from deffd_flower.results.reader import read_run
from deffd_flower.strategy.presets import OPTIONS, strategies
from deffd_flower.sweep.cells import expand
from deffd_flower.sweep.document import read_document
from deffd_flower.sweep.naming import trial_names
from deffd_flower.sweep.source import Source

SWEEP, ROWS = "sweep.yaml", "sweep.csv"
FINISHED = "finished"
METRICS = ("global_accuracy", "local_accuracy")

SEEDS = ("seed", "partition-seed", "init-seed", "pairing-seed")
NO_SETTING = {*SEEDS, "out-dir", "data-dir", "workers", "message-timeout"}
"""Keys in which two trials of one cell may differ."""


@dataclass(frozen=True)
class Trial:
    """One run that was asked for.

    Attributes:
        config: Its keys, resolved.
        results: The numbers of its summary, with their ratios; empty unless it has finished.
        status: ``finished``, or what became of it instead.
        directory: Its run directory, which may be gone where only a sweep's table was kept.
    """

    config: RunConfig
    results: Mapping[str, float]
    status: str
    directory: Path

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds it followed; trials of two cells that have the same are a pair."""
        own = (self.config.seed_of(draws) for draws in ("partition", "init", "pairing"))
        return (self.config.seed, *own)

    def value(self, metric: str) -> float:
        """Return one of the results, NaN if it has none."""
        return self.results.get(metric, math.nan)


@dataclass(frozen=True)
class Asked:
    """What was to be shown, with the trials cell by cell.

    Attributes:
        title: What it is called.
        description: What it is for.
        metrics: What tables show, by name in ``summary.json``, the most important first.
        reference: Values of some keys, by which to find the cell others are compared with.
        cells: What each cell sets.
        trials: Those of each cell, at least one.
    """

    title: str
    description: str
    metrics: Sequence[str]
    reference: Mapping[str, Value]
    cells: Sequence[Mapping[str, Value]]
    trials: Sequence[Sequence[Trial]]


def read_trials(directories: Sequence[Path]) -> Asked:
    """Read one sweep's directory, or several of runs and sweeps, whose trials go together.

    Of a sweep, ``sweep.yaml`` and ``sweep.csv`` suffice.

    Raises:
        RequestError: A directory is neither, or cannot be understood.
    """
    if len(directories) == 1 and is_sweep(directories[0]):
        return _sweep(directories[0])
    trials = [trial for directory in directories for trial in _trials(directory)]
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        setting = {k: v for k, v in trial.config.values().items() if k not in NO_SETTING}
        groups.setdefault(repr(setting), []).append(trial)
    cells = _apart([_setting(group[0].config) for group in groups.values()])
    return Asked("", "", METRICS, {}, cells, [_once(group) for group in groups.values()])


def is_sweep(directory: Path) -> bool:
    """Say whether a directory is that of a sweep."""
    return (directory / SWEEP).is_file()


def _sweep(directory: Path) -> Asked:
    source = Source(directory / SWEEP)
    document = read_document(source)
    grid = expand(document.grid, source)
    cells = [{key: setting.value for key, setting in cell.items()} for cell in grid]
    trials = dict(_rows(directory))
    try:
        ordered = [
            [trials[n] for n in names] for names in trial_names(cells, document.seeds or [0])
        ]
    except KeyError as missing:
        advice = f"its {ROWS} has no trial {missing}; go on with the sweep by --resume"
        raise RequestError("DIR", directory, advice) from None
    return Asked(
        title=document.title,
        description=document.description,
        metrics=document.metrics,
        reference=document.reference,
        cells=cells,
        trials=ordered,
    )


def _trials(directory: Path) -> list[Trial]:
    if is_sweep(directory):
        return [trial for _, trial in _rows(directory)]
    run = read_run(directory)
    status = FINISHED if run.summary else "interrupted"
    return [Trial(_config(run.config, directory), _numbers(run.summary), status, run.directory)]


def _rows(directory: Path) -> list[tuple[str, Trial]]:
    """Return the name and the trial of each row of ``sweep.csv``."""
    try:
        with (directory / ROWS).open(newline="", encoding="utf-8") as file:
            return [(row["trial"], _row(row, directory)) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, csv.Error) as problem:
        reason = f"{type(problem).__name__}: {problem}"
        advice = f"its {ROWS} cannot be read ({reason})"
        raise RequestError("DIR", directory, advice) from problem


def _row(row: Mapping[str, str], directory: Path) -> Trial:
    status = row["status"]
    results = _numbers(row) if status == FINISHED else {}
    return Trial(_config(row, directory), results, status, directory / row["run_dir"])


def _config(values: Mapping[str, object], directory: Path) -> RunConfig:
    """Return the keys among some values; other versions of the program have others."""
    try:
        return parse({key: value for key, value in values.items() if key in FIELDS})
    except RequestError as problem:
        raise RequestError("DIR", directory, f"cannot be read as a run ({problem})") from problem


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    numbers = {key: _number(value) for key, value in values.items()}
    return with_ratios({key: number for key, number in numbers.items() if math.isfinite(number)})


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        return math.nan


def unread(config: RunConfig) -> frozenset[str]:
    """Return the keys that a run does not read, or that its strategy sets by its name."""
    try:
        return unread_keys(config) | (OPTIONS - strategies.get(config.strategy)().reads)
    except RequestError:
        # A strategy or suite of a plugin that is not there; a report shows all its keys.
        return frozenset()


def _setting(config: RunConfig) -> dict[str, Value]:
    left_out = NO_SETTING | unread(config)
    return {key: value for key, value in config.values().items() if key not in left_out}


def _apart(settings: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """Return the keys of each that differ among those that have them."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    values = {key: {repr(s[key]) for s in settings if key in s} for key in keys}
    return [{key: s[key] for key in keys if key in s and len(values[key]) > 1} for s in settings]


def _once(trials: Sequence[Trial]) -> list[Trial]:
    """Return one trial for each set of seeds: the same run again is no second observation."""
    first: dict[tuple[int, ...], Trial] = {}
    for trial in sorted(trials, key=lambda trial: not trial.results):
        first.setdefault(trial.seeds, trial)
    return list(first.values())
