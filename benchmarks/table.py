"""The results in `results/` as the table of the README, so that nobody copies numbers by hand."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import BENCHMARKS

HERE = Path(__file__).parent
RESULTS, README = HERE / "results", HERE / "README.md"
NONE_YET = "No results yet: `deffd bench --save`.\n"

Row = Mapping[str, Any]


def save(name: str, results: Iterable[str]) -> None:
    """Write a benchmark's results, JSON objects, to ``results/NAME.json``, and renew the README."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text("[\n" + ",\n".join(results) + "\n]\n")
    README.write_text(renewed(README.read_text(), saved()))


def saved() -> list[Row]:
    """Return all results that are there, in the order of the benchmarks."""
    files = [RESULTS / f"{name}.json" for name in BENCHMARKS]
    return [row for file in files if file.exists() for row in json.loads(file.read_text())]


def renewed(page: str, rows: Iterable[Row]) -> str:
    """Return the page with the table between its two comments renewed."""
    between = re.compile(r"(<!-- generated: results -->\n).*?(?=<!-- end -->)", re.DOTALL)
    return between.sub(lambda found: found[1] + table(list(rows)), page)


def table(rows: list[Row]) -> str:
    """Return results as a Markdown table, and below it where each was measured."""
    if not rows:
        return NONE_YET
    lines = ["| ratio | median | from | to | turns | of |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        numbers = (row["ratio"], *row["spread"])
        cells = [f"`{row['name']}`", *(f"{each:.3g}" for each in numbers)]
        lines.append(f"| {' | '.join([*cells, str(row['runs']), row['detail']['of']])} |")
    return "\n".join([*lines, "", *_places(rows)]) + "\n"


def _places(rows: list[Row]) -> list[str]:
    """Return a line for every machine, commit and set of versions that results come from."""
    names: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        detail = row["detail"]
        machine = detail["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in detail["versions"].items())
        place = f"{machine['cores']} cores of {machine['cpu']} ({machine['system']}); {versions}; "
        names[place + f"commit {detail['commit']}"].append(row["name"].partition(":")[0])
    return [f"* {', '.join(dict.fromkeys(own))}: {place}." for place, own in names.items()]
