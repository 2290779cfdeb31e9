"""The files of a run directory, written while the run goes on."""

import csv
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from deffd_flower.errors import RequestError

DRAWING = {"jinja2", "markupsafe", "matplotlib"}

LOG = logging.getLogger(__name__)


class RunWriter:
    """Writes one run directory, each result as soon as it is known.

    Every append opens, writes and closes its file, so whatever was handed over survives an
    interrupt or a crash of the process.

    Args:
        directory: The run directory; made, with its parents, unless it exists and is empty.
        config: Every config key with its resolved value, in the order to be shown.
        figures: Draw the figures and the report in the end.

    Raises:
        RequestError: The directory holds something already or cannot be written.
    """

    def __init__(self, directory: Path, config: Mapping[str, object], figures: bool = True) -> None:
        self.directory = directory.absolute()
        self._figures = figures
        self._headers: dict[str, list[str]] = {}
        _make_empty(self.directory)
        entries = {key.replace("_", "-"): _plain(value) for key, value in config.items()}
        text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
        try:
            write_whole(self.directory / "config.yaml", text)
        except OSError as problem:
            raise _unwritable(self.directory, problem) from problem

    def round_row(self, row: Mapping[str, float | int | None]) -> None:
        """Append one evaluated round to ``rounds.csv``.

        Accuracies are fractions in [0, 1]. Models, bytes, key bits, failures and seconds count
        from the start of the run, so that a row says what its accuracy has cost.

        Raises:
            ValueError: The row's keys are not those of the first row.
        """
        self._append("rounds.csv", [row])

    def client_rows(self, rows: Sequence[Mapping[str, float | int | str | None]]) -> None:
        """Append one evaluated round's clients to ``clients.csv``, a row per client.

        Raises:
            ValueError: A row's keys are not those of the first row.
        """
        self._append("clients.csv", rows)

    def pool_rows(self, rows: Sequence[Mapping[str, float | str]]) -> None:
        """Append one round's key pools to ``pools.csv``: a row per link, and one for ``all``."""
        self._append("pools.csv", rows)

    def traffic_rows(self, rows: Sequence[Mapping[str, float | str]]) -> None:
        """Append one round's transfers to ``traffic.csv``: who sent what to whom.

        ``models`` is a fraction where segments travel. ``outcome`` is ``sent``, or why it was not:
        ``no key`` or ``no reply``. ``key_bits`` is 0 under a key that an earlier row has counted.
        """
        self._append("traffic.csv", rows)

    def partition(self, counts: Sequence[Sequence[int]]) -> None:
        """Write ``partition.csv``.

        Args:
            counts: Samples by client and class, shape (clients, classes).
        """
        rows = [
            {"client": client, **{f"class_{label}": count for label, count in enumerate(held)}}
            for client, held in enumerate(counts)
        ]
        self._append("partition.csv", rows)

    def finish(self, summary: Mapping[str, object]) -> Path | None:
        """Write ``summary.json``, then the figures and ``report.html``.

        Returns:
            The report, or None where none was wanted or the libraries that draw it are missing.
        """
        write_whole(self.directory / "summary.json", as_json(summary, indent=2) + "\n")
        if not self._figures:
            return None
        try:
            # Matplotlib and Jinja2 come with an extra a bare server may lack, and load slowly.
            from deffd_flower.results.report import render

            return render(self.directory)
        except ModuleNotFoundError as missing:
            if str(missing.name).partition(".")[0] not in DRAWING:
                raise
            advice = "no report: %s is not installed. pip install 'deffd-flower[sim]', then: %s"
            LOG.warning(advice, missing.name, f"deffd report {self.directory}")
            return None

    def _append(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        if not rows:
            return
        first = name not in self._headers
        header = self._headers.setdefault(name, list(rows[0]))
        for row in rows:
            if odd := set(header) ^ set(row):
                raise ValueError(f"{name}: keys differ from the first row's: {sorted(odd)}")
        with (self.directory / name).open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def as_json(summary: Mapping[str, object], indent: int | None = None) -> str:
    """Return a summary as JSON, with null for what is no finite number."""
    plain = _plain(summary, null=True)
    return json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)


def _make_empty(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
    except FileExistsError as problem:
        raise RequestError("out-dir", directory, "is a file; choose a new directory") from problem
    except OSError as problem:
        raise _unwritable(directory, problem) from problem
    if occupied:
        advice = "is not empty; choose a new directory, or remove this one if it may go"
        raise RequestError("out-dir", directory, advice)


def _unwritable(directory: Path, problem: OSError) -> RequestError:
    advice = f"cannot be written ({problem.strerror}); choose a directory you may write to"
    return RequestError("out-dir", directory, advice)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader finds all of it or none of it."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _plain(value: object, *, null: bool = False) -> object:
    """Return the value in YAML's and JSON's own types; ``null`` turns NaN and infinity to None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, null=null) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, null=null) for entry in value]
    if isinstance(value, float) and null and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _cell(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
