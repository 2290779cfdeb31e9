"""Sweep directories with made-up results, written by the program's own writers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import yaml

from deffd_flower.config import RunConfig
from deffd_flower.results.writer import RunWriter, as_json
from deffd_flower.sweep.directory import Filed
from deffd_flower.sweep.load import load_sweep
from deffd_flower.sweep.plan import Sweep
from deffd_flower.sweep.rows import row, write_rows

Outcome = Callable[[RunConfig], Mapping[str, object] | None]
"""The summary of a run; ``None`` if it has failed."""


def write_sweep(directory: Path, text: str, outcome: Outcome) -> Path:
    """Write ``sweep.yaml`` and ``sweep.csv`` of a sweep file, and return the directory."""
    directory.mkdir()
    (directory / "asked.yaml").write_text(dedent(text), "utf-8")
    sweep = load_sweep(directory / "asked.yaml", {})
    (directory / "asked.yaml").unlink()
    return file_sweep(directory, sweep, outcome)


def file_sweep(directory: Path, sweep: Sweep, outcome: Outcome) -> Path:
    """Write the two files of a sweep that has been read into a directory, and return it."""
    document = yaml.safe_dump(sweep.document(), sort_keys=False)
    (directory / "sweep.yaml").write_text(document, "utf-8")
    rows = []
    for trial in sweep.trials:
        summary = outcome(trial.config)
        filed = Filed("finished", Path("runs") / trial.name, summary or {})
        rows.append(row(trial, filed if summary else None))
    write_rows(directory / "sweep.csv", rows)
    return directory


def write_run(directory: Path, config: RunConfig, summary: Mapping[str, object]) -> Path:
    """Write a run directory with nothing but its config and its summary."""
    writer = RunWriter(directory, config.values())
    (writer.directory / "summary.json").write_text(as_json(summary), "utf-8")
    return directory
