"""How the trials of a comparison went, and what a sweep keeps of their clients."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.reader import Course, Row, read_course, read_rows
from deffd_flower.results.trials import Trial
from deffd_flower.results.writer import write_whole

CLIENTS = "clients.csv"

Courses = Sequence[Sequence[Course]]
"""How the trials of each cell went."""


def read_courses(cells: Sequence[Cell]) -> Courses:
    """Read how the trials went.

    Where run directories are gone, there are no rounds, but the clients that `write_clients` kept.

    Raises:
        RequestError: A file cannot be understood.
    """
    sweeps = {_sweep(trial) for cell in cells for trial in cell.trials}
    kept = {sweep: _kept(sweep / CLIENTS) for sweep in sweeps}
    return [[_course(trial, kept[_sweep(trial)]) for trial in cell.trials] for cell in cells]


def write_clients(comparison: Comparison, courses: Courses, directory: Path) -> None:
    """Write ``clients.csv``: a row for each client of each trial, with its final accuracies."""
    rows = [
        {"cell": number, "trial": trial.directory.name, **_as_counted(row)}
        for number, cell in enumerate(comparison.cells)
        for trial, course in zip(cell.trials, courses[number], strict=True)
        for row in course.clients
    ]
    if rows:
        memory = io.StringIO()
        head = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(memory, head, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(directory / CLIENTS, memory.getvalue())


def _as_counted(row: Row) -> Row:
    """Return a row whose counts are whole numbers again."""
    counts = ("round", "client", "train_samples", "test_samples")
    return {name: f"{value:g}" if name in counts else value for name, value in row.items()}


def _sweep(trial: Trial) -> Path:
    return trial.directory.parent.parent


def _kept(path: Path) -> dict[str, list[Row]]:
    """Return the rows of each trial, by its name."""
    trials: dict[str, list[Row]] = {}
    for row in read_rows(path):
        of_client = {name: cell for name, cell in row.items() if name not in ("cell", "trial")}
        trials.setdefault(str(row.get("trial", "")), []).append(of_client)
    return trials


def _course(trial: Trial, kept: dict[str, list[Row]]) -> Course:
    course = read_course(trial.directory, trial.config.final_evaluations)
    return Course(course.rounds, course.clients or kept.get(trial.directory.name, []))
