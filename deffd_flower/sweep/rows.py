"""``sweep.csv``: a row for each trial."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from deffd_flower.config import FIELDS
from deffd_flower.results.metrics import with_ratios
from deffd_flower.results.table import number
from deffd_flower.results.writer import write_whole
from deffd_flower.sweep.directory import Filed
from deffd_flower.sweep.document import METRICS
from deffd_flower.sweep.plan import Trial

PENDING = "pending"

Row = dict[str, object]


def row(trial: Trial, filed: Filed | None) -> Row:
    """Return a trial's row: its keys, what has become of it, and the numbers of its summary."""
    own: Row = {**trial.config.values()}
    own |= {"status": filed.status if filed else PENDING, "trial": trial.name}
    own["run_dir"] = filed.directory.as_posix() if filed else ""
    return own | (numbers(filed.summary) if filed else {})


def numbers(summary: Mapping[str, object]) -> Row:
    """Return what a summary tells beyond the config: single values, and what it was made with."""
    single = {
        key: value
        for key, value in summary.items()
        if key not in FIELDS
        and (key in METRICS or key.replace("_", "-") not in FIELDS)
        and not isinstance(value, dict | list)
    }
    versions = summary.get("versions")
    made_with = versions.items() if isinstance(versions, dict) else ()
    return single | {f"version_{name}": version for name, version in made_with}


def measured(summary: Mapping[str, object]) -> dict[str, float]:
    """Return what a summary has of the metrics, with their ratios."""
    known = {key: number(summary.get(key)) for key in METRICS}
    return with_ratios({key: value for key, value in known.items() if math.isfinite(value)})


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the table whole; a column that a row lacks is empty there."""
    header = list(dict.fromkeys(key for each in rows for key in each))
    memory = io.StringIO()
    writer = csv.DictWriter(memory, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, memory.getvalue())
