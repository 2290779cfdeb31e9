"""The files of a run directory, read back to be shown."""

import csv
import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

import yaml

from deffd_flower.errors import RequestError
from deffd_flower.results.accuracy import ACCURACIES, mean

Cell = float | str
Row = dict[str, Cell]

SENT = "sent"
"""What became of a model in ``traffic.csv``, if nothing prevented it."""

TRAFFIC = ("models", "bytes", "key_bits")
"""What is counted of each model there."""

ALL_LINKS = "all"
"""Stands in ``pools.csv`` for the sum or mean over all links."""


@dataclass(frozen=True)
class Run:
    """A run directory as read back; what was never written is empty.

    Attributes:
        directory: Where it lies, absolute.
        config: Every config key, resolved.
        rounds: A row per evaluated round; an empty cell reads as NaN.
        clients: A row per client, of the last evaluated round alone.
        partition: Samples by client and class, shape (clients, classes).
        summary: The closing summary; empty when the run did not finish.
        pools: A row per round: the key pools of all links as the round ended, with their number
            as ``links``, and of single links ``qber_lowest``, ``qber_highest`` and
            ``available_lowest``; NaN where they were too many to be written down one by one.
        links: The last row of each link in the key ledger, with the number of blocks that gave
            no key as ``aborted``, and how often a message found too little as ``starved``.
        traffic: A row for each sender and receiver: ``models``, ``bytes`` and ``key_bits`` of the
            whole run, and ``unsent``, how often nothing was sent that should have been.
    """

    directory: Path
    config: dict[str, object]
    rounds: list[Row]
    clients: list[Row]
    partition: list[list[float]]
    summary: dict[str, object]
    pools: list[Row] = field(default_factory=list)
    links: list[Row] = field(default_factory=list)
    traffic: list[Row] = field(default_factory=list)


def read_run(directory: Path) -> Run:
    """Read a run directory, finished or interrupted.

    Raises:
        RequestError: The directory is not one, or a file in it cannot be understood.
    """
    directory = directory.absolute()
    if not (directory / "config.yaml").is_file():
        raise RequestError("DIR", directory, "is not a run directory; it has no config.yaml")
    try:
        return Run(
            directory=directory,
            config=_mapping(yaml.safe_load((directory / "config.yaml").read_text("utf-8"))),
            rounds=_rows(_lines(directory / "rounds.csv")),
            clients=_last_evaluated(directory),
            partition=_counts(_lines(directory / "partition.csv")),
            summary=_summary(directory / "summary.json"),
            pools=_pools(_lines(directory / "pools.csv")),
            links=_links(_lines(directory / "keys.csv")),
            traffic=_traffic(_lines(directory / "traffic.csv")),
        )
    except (OSError, ValueError, csv.Error, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split())
        raise RequestError("DIR", directory, f"cannot be read as a run ({reason})") from problem


@dataclass(frozen=True)
class Course:
    """How a run went: what a comparison needs of a run directory, without its long ledgers.

    Attributes:
        rounds: As in `Run`.
        clients: A row per client: its accuracies are means of the run's last evaluations.
    """

    rounds: list[Row]
    clients: list[Row]


def read_course(directory: Path, evaluations: int = 1) -> Course:
    """Read how a run went; nothing, where its directory is gone.

    Args:
        directory: The run directory.
        evaluations: Over how many of the last evaluations clients' accuracies are averaged.

    Raises:
        RequestError: A file in it cannot be understood.
    """
    try:
        rounds = _rows(_lines(directory / "rounds.csv"))
        return Course(rounds, _final_clients(directory, evaluations))
    except (OSError, ValueError, csv.Error) as problem:
        reason = " ".join(str(problem).split())
        raise RequestError("DIR", directory, f"cannot be read as a run ({reason})") from problem


def read_rows(path: Path) -> list[Row]:
    """Read a CSV file; nothing, where there is none.

    Raises:
        RequestError: It cannot be understood.
    """
    try:
        return _rows(_lines(path))
    except (OSError, ValueError, csv.Error) as problem:
        reason = " ".join(str(problem).split())
        raise RequestError("DIR", path.parent, f"its {path.name} cannot be read ({reason})") from (
            problem
        )


def column(rows: Iterable[Row], name: str) -> list[float]:
    """Return one column as numbers; NaN where it is missing, empty or not a number."""
    cells = (row.get(name, math.nan) for row in rows)
    return [cell if isinstance(cell, float) else math.nan for cell in cells]


def _lines(path: Path) -> Iterator[dict[str, str]]:
    """Yield a CSV file's rows, without the half line a killed process may have left."""
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(line for line in file if line.endswith("\n"))


def _last_evaluated(directory: Path) -> list[Row]:
    return [row for rows in _last_evaluations(directory, 1) for row in rows]


def _final_clients(directory: Path, evaluations: int) -> list[Row]:
    by_client: dict[Cell, list[Row]] = {}
    for row in chain.from_iterable(_last_evaluations(directory, evaluations)):
        by_client.setdefault(row.get("client", ""), []).append(row)
    return [
        {**rows[-1], **{name: mean(column(rows, name)) for name in ACCURACIES if name in rows[-1]}}
        for rows in by_client.values()
    ]


def _last_evaluations(directory: Path, evaluations: int) -> list[list[Row]]:
    """Return the clients' rows of the last evaluations; only so many are ever held."""
    lines = groupby(_lines(directory / "clients.csv"), lambda row: row.get("round"))
    return [_rows(rows) for rows in deque((list(rows) for _, rows in lines), evaluations)]


def _rows(lines: Iterable[dict[str, str]]) -> list[Row]:
    return [{name: _parsed(cell) for name, cell in line.items()} for line in lines]


def _parsed(cell: str) -> Cell:
    try:
        return float(cell or math.nan)
    except ValueError:
        return cell


def _counts(lines: Iterable[dict[str, str]]) -> list[list[float]]:
    return [[float(n) for name, n in line.items() if name != "client"] for line in lines]


def _pools(lines: Iterable[dict[str, str]]) -> list[Row]:
    rows: list[Row] = []
    for _, group in groupby(lines, lambda line: line.get("round")):
        of_round = _rows(group)
        of_links = [row for row in of_round if row.get("link") != ALL_LINKS]
        about_links: Row = {
            "links": float(len(of_links)) or math.nan,
            "qber_lowest": min(column(of_links, "qber"), default=math.nan),
            "qber_highest": max(column(of_links, "qber"), default=math.nan),
            "available_lowest": min(column(of_links, "available"), default=math.nan),
        }
        rows += [{**about_links, **row} for row in of_round if row.get("link") == ALL_LINKS]
    return rows


def _links(lines: Iterable[dict[str, str]]) -> list[Row]:
    """Return one row per link; the ledger may be long, so only these are ever held."""
    latest: dict[str, dict[str, str]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        link, event = line.get("link", ""), line.get("event", "")
        latest[link] = line
        counts[link, event] += int(line.get("blocks") or 0) if event == "aborted" else 1
    return [
        {**row, **{event: float(counts[link, event]) for event in ("aborted", "starved")}}
        for link, row in zip(latest, _rows(latest.values()), strict=True)
    ]


def _traffic(lines: Iterable[dict[str, str]]) -> list[Row]:
    """Return one row per sender and receiver, with the sums over all rounds."""
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for line in lines:
        before = sums.setdefault((line["sender"], line["receiver"]), {})
        counts = {name: float(line[name]) for name in TRAFFIC}
        counts["unsent"] = float(line["outcome"] != SENT)
        before.update({name: more + before.get(name, 0.0) for name, more in counts.items()})
    return [{"sender": one, "receiver": other, **sum_} for (one, other), sum_ in sums.items()]


def _summary(path: Path) -> dict[str, object]:
    return _mapping(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _mapping(content: object) -> dict[str, object]:
    if not isinstance(content, dict):
        raise ValueError("a file that should hold keys and values holds something else")
    return content
