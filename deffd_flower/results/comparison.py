"""One self-contained page for a sweep, or for several runs side by side."""

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deffd_flower.errors import RequestError
from deffd_flower.results.cell_names import common_keys
from deffd_flower.results.cell_notes import footnotes
from deffd_flower.results.cell_tables import grids, write_tables
from deffd_flower.results.cells import Comparison, compared
from deffd_flower.results.chart import draw_all
from deffd_flower.results.comparison_figures import drawings
from deffd_flower.results.comparison_template import COMPARISON
from deffd_flower.results.courses import read_courses, write_clients
from deffd_flower.results.gains import gain_grids
from deffd_flower.results.metrics import amount, heading
from deffd_flower.results.page import as_typed, filled, shown
from deffd_flower.results.table import NOTHING, proper_name
from deffd_flower.results.trials import Asked, Trial, is_sweep, read_trials
from deffd_flower.results.writer import write_whole

PAGE = "report.html"


@dataclass(frozen=True)
class TrialRow:
    """One row of the trials' table.

    Attributes:
        name: What its run directory is called.
        link: Its own page, relative to this one; empty if there is none.
        cells: Text of the other columns.
    """

    name: str
    link: str
    cells: list[str]


@dataclass(frozen=True)
class TrialTable:
    """All trials, finished or not."""

    head: list[str]
    rows: list[TrialRow]


def write_comparison(directory: Path) -> Path:
    """Write the tables, figures and page of a sweep into its own directory.

    Returns:
        The page, ``report.html``.

    Raises:
        RequestError: The directory is not a sweep's, or a file in it cannot be understood.
    """
    if not is_sweep(directory):
        raise RequestError("DIR", directory, "is not a sweep's directory; it has no sweep.yaml")
    return compare_runs([directory], directory)


def compare_runs(directories: Sequence[Path], out: Path) -> Path:
    """Compare a sweep's trials, or several runs and sweeps, and write page and figures.

    The same files give the same page.

    Args:
        directories: One sweep's, or several of runs and sweeps.
        out: Where ``report.html``, ``figures/`` and ``table.*`` go.

    Returns:
        The page.

    Raises:
        RequestError: A directory is neither, has no finished trial, or cannot be understood.
    """
    directories = [directory.absolute() for directory in directories]
    asked = read_trials(directories)
    comparison = compared(asked)
    if not any(cell.trials for cell in comparison.cells):
        raise RequestError("DIR", directories[0], "has no finished run to compare")
    out = out.absolute()
    _make(out)
    courses = read_courses(comparison.cells)
    write_clients(comparison, courses, out)
    of_clients = gain_grids(comparison, courses)
    write_tables(comparison, out, of_clients)
    figures = drawings(comparison, courses)
    drawn = draw_all(out, {name: figure.draw for name, figure in figures.items()})
    text = filled(
        COMPARISON,
        title=comparison.title or f"{len(comparison.cells)} settings compared",
        subtitle=_subtitle(comparison, asked),
        notice=_notice(asked),
        tables=grids(comparison),
        gains=of_clients,
        notes=footnotes(comparison),
        figures=[
            shown(name, svg, figures[name].title, figures[name].caption)
            for name, svg in drawn.items()
        ],
        without_courses=not any(course.rounds for of_cell in courses for course in of_cell),
        trials=_trials(comparison, asked, out),
        config=as_typed(common_keys(comparison)),
        commands=_commands(directories, out),
    )
    write_whole(out / PAGE, text)
    return out / PAGE


def comparison_directory(parent: Path) -> Path:
    """Return a new directory for a comparison below ``parent``."""
    return parent / f"comparison-{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}"


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        advice = f"cannot be written ({problem.strerror}); choose another directory"
        raise RequestError("--out", out, advice) from problem
    if (out / "config.yaml").exists():
        raise RequestError("--out", out, "is a run's own directory; choose another one")


def _subtitle(comparison: Comparison, asked: Asked) -> str:
    seeds = comparison.seeds
    each = f"{seeds.start}" if len(seeds) == 1 else f"{seeds.start} to {seeds.stop - 1}"
    trials = sum(map(len, asked.trials))
    counts = f"{len(comparison.cells)} settings · {each} seeds each · {trials} trials"
    known = common_keys(comparison)
    told = [proper_name(known[key]) for key in ("strategy", "dataset") if key in known]
    told += [f"{known[key]} {key}" for key in ("clients", "rounds") if key in known]
    return " ".join(filter(None, [comparison.description, " · ".join([*told, counts])]))


def _notice(asked: Asked) -> str:
    trials = [trial for of_cell in asked.trials for trial in of_cell]
    missing = Counter(trial.status for trial in trials if not trial.results)
    if not missing:
        return ""
    told = ", ".join(f"{number} {status}" for status, number in sorted(missing.items()))
    return f"{missing.total()} of {len(trials)} trials have no results ({told})."


def _trials(comparison: Comparison, asked: Asked, out: Path) -> TrialTable:
    head = ["Trial", "seed", "status", *map(heading, comparison.metrics)]
    trials = [trial for of_cell in asked.trials for trial in of_cell]
    return TrialTable(head, [_trial(trial, comparison.metrics, out) for trial in trials])


def _trial(trial: Trial, metrics: Sequence[str], out: Path) -> TrialRow:
    page = trial.directory / PAGE
    link = Path(os.path.relpath(page, out)).as_posix() if page.is_file() else ""
    numbers = [amount(metric, trial.value(metric)) for metric in metrics]
    name = trial.directory.name or NOTHING
    return TrialRow(name, link, [str(trial.config.seed), trial.status, *numbers])


def _commands(directories: Sequence[Path], out: Path) -> list[str]:
    report = ["deffd", "report", *(os.path.relpath(directory, out) for directory in directories)]
    if directories == [out]:
        again = ["deffd", "sweep", "sweep.yaml", "--out", f"../{out.name}-again"]
        return [shlex.join(again), shlex.join(report)]
    return [shlex.join([*report, "--out", "."])]
