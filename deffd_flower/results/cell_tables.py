"""A comparison as tables: on the terminal, in Markdown, and in CSV."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Literal

from deffd_flower.config import Value
from deffd_flower.results.cell_notes import footnotes, reference_name
from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.metrics import amount, difference_heading, heading, plain_name, signed
from deffd_flower.results.statistics import NO_INTERVAL, Difference, Interval, Summary
from deffd_flower.results.table import NOTHING, proper_name
from deffd_flower.results.writer import write_whole
from deffd_flower.sweep.naming import written

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CSV, MARKDOWN = "table.csv", "table.md"

KEY_COLUMNS = 5
"""If cells differ in more keys than that, one column says what each of them sets."""

SETTING = ["setting"]

METRICS_ON_A_LINE, NAME_WIDTH, HEAD_WIDTH = 3, 22, 12
"""What fits 80 columns of a terminal."""


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        title: What it shows.
        head: Its columns' headings; those of keys come first.
        keys: How many columns are keys, which are set to the left.
        rows: Its rows, as long as the head.
    """

    title: str
    head: Sequence[str]
    keys: int
    rows: Sequence[Sequence[str]]


def write_tables(comparison: Comparison, directory: Path, more: Sequence[Grid] = ()) -> list[Path]:
    """Write ``table.csv`` and ``table.md``, and return their paths.

    Args:
        comparison: What they show.
        directory: Where they go.
        more: Further tables of ``table.md``.
    """
    texts = {CSV: as_csv(comparison), MARKDOWN: as_markdown(comparison, more)}
    for name, text in texts.items():
        write_whole(directory / name, text)
    return [directory / name for name in texts]


def grids(comparison: Comparison) -> list[Grid]:
    """Return the table of means, and one of each metric's differences to the reference."""
    keys = key_columns(comparison)
    differences = [_differences(comparison, keys, metric) for metric in _compared(comparison)]
    return [_means(comparison, keys, comparison.metrics), *differences]


def key_columns(comparison: Comparison) -> Sequence[str]:
    """Return the keys that have columns of their own; none where `SETTING` says it all."""
    return comparison.keys if len(comparison.keys) <= KEY_COLUMNS else []


def print_tables(comparison: Comparison, console: "Console") -> None:
    """Print means, and the differences of the first metric, so that they fit 80 columns.

    The other metrics' differences are in ``table.md``, as the last line says.
    """
    metrics, tested = comparison.metrics, _compared(comparison)
    for start in range(0, len(metrics), METRICS_ON_A_LINE):
        block = metrics[start : start + METRICS_ON_A_LINE]
        console.print(_rich(_means(comparison, [], block)))
    if tested:
        console.print(_rich(_differences(comparison, [], tested[0])))
    for note in footnotes(comparison):
        console.print(f"* {note}", markup=False, highlight=False)
    if len(tested) > 1:
        console.print(f"* {MARKDOWN} has the differences of the other metrics, too.")


def _rich(grid: Grid) -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(grid.title), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True
    )
    for place, name in enumerate(grid.head):
        side: Literal["left", "right"] = "left" if place < grid.keys else "right"
        table.add_column(escape(fill(name, HEAD_WIDTH)), justify=side)
    for name, *cells in grid.rows:
        lines = fill(name, NAME_WIDTH, break_on_hyphens=False, break_long_words=False)
        table.add_row(escape(lines), *cells)
    return table


def as_markdown(comparison: Comparison, more: Sequence[Grid] = ()) -> str:
    """Return the tables in Markdown, with their notes below."""
    tables = map(markdown, [*grids(comparison), *more])
    return "\n".join([*tables, listed(footnotes(comparison))])


def markdown(grid: Grid) -> str:
    """Return one table in Markdown."""
    line = "|---" * grid.keys + "|---:" * (len(grid.head) - grid.keys) + "|"
    rows = [_row(grid.head), line, *map(_row, grid.rows)]
    return "\n".join([f"**{grid.title}**", "", *rows]) + "\n"


def listed(notes: Sequence[str]) -> str:
    """Return notes as a Markdown list."""
    return "".join(f"* {note}\n" for note in notes)


def as_csv(comparison: Comparison) -> str:
    """Return a row for each cell and metric; accuracies are fractions, and intervals 95 %."""
    memory = io.StringIO()
    rows = [
        {"cell": number, **{key: _csv_value(cell.value(key)) for key in comparison.keys}, **values}
        for number, cell in enumerate(comparison.cells)
        for values in _csv_values(cell, comparison.metrics)
    ]
    writer = csv.DictWriter(memory, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return memory.getvalue()


def _compared(comparison: Comparison) -> list[str]:
    found = {metric for cell in comparison.cells for metric in cell.differences}
    return [metric for metric in comparison.metrics if metric in found]


def _means(comparison: Comparison, keys: Sequence[str], metrics: Sequence[str]) -> Grid:
    head = [*(keys or SETTING), "seeds", *map(heading, metrics)]
    rows = [
        [
            *setting(cell, keys),
            str(len(cell.trials)),
            *(_mean(cell.summaries.get(metric), metric) for metric in metrics),
        ]
        for cell in comparison.cells
    ]
    return Grid("Mean over seeds", head, len(keys) or 1, rows)


def _differences(comparison: Comparison, keys: Sequence[str], metric: str) -> Grid:
    head = [*(keys or SETTING), "pairs", difference_heading(metric), "95 %", "p", "Holm p"]
    rows = [
        [*setting(cell, keys), *_difference(cell.differences[metric], metric)]
        for cell in comparison.cells
        if metric in cell.differences
    ]
    title = f"{plain_name(metric)}: difference to {reference_name(comparison)}"
    return Grid(title, head, len(keys) or 1, rows)


def setting(cell: Cell, keys: Sequence[str]) -> list[str]:
    """Return the first columns of a cell's row."""
    return [_value(key, cell.value(key)) for key in keys] if keys else [cell.label]


def _value(key: str, value: Value | None) -> str:
    if value is None or value == "":
        return NOTHING
    return proper_name(value) if key in ("strategy", "dataset") else written(value)


def _mean(summary: Summary | None, metric: str) -> str:
    if summary is None:
        return NOTHING
    text = amount(metric, summary.mean)
    varies = math.isfinite(summary.margin) and summary.margin > 0
    return f"{text} ± {amount(metric, summary.margin)}" if varies else text


def _difference(difference: Difference, metric: str) -> list[str]:
    return [
        str(difference.n),
        signed(metric, difference.mean),
        interval_text(metric, difference.bootstrap),
        f"{difference.p:.3g}",
        f"{difference.holm:.3g}",
    ]


def interval_text(metric: str, interval: Interval) -> str:
    """Return an interval of differences of a metric."""
    low, high = interval.low, interval.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return NOTHING
    return f"{signed(metric, low)} to {signed(metric, high)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _csv_values(cell: Cell, metrics: Sequence[str]) -> Iterator[dict[str, object]]:
    for metric in metrics:
        difference = cell.differences.get(metric)
        yield {
            "missing": cell.missing,
            "metric": metric,
            **_csv_summary("", cell.summaries.get(metric)),
            "reference": "" if cell.partner is None else cell.partner,
            **_csv_summary("difference_", difference),
            **_csv_interval("bootstrap_", difference.bootstrap if difference else NO_INTERVAL),
            "p": difference.p if difference else "",
            "holm_p": difference.holm if difference else "",
        }


def _csv_value(value: Value | None) -> Value:
    return "" if value is None else value


def _csv_summary(prefix: str, summary: Summary | None) -> dict[str, object]:
    return {
        f"{prefix}n": summary.n if summary else 0,
        f"{prefix}mean": _known(summary.mean if summary else math.nan),
        f"{prefix}sd": _known(summary.sd if summary else math.nan),
        **_csv_interval(prefix, summary.interval if summary else NO_INTERVAL),
    }


def _csv_interval(prefix: str, interval: Interval) -> dict[str, object]:
    return {f"{prefix}low": _known(interval.low), f"{prefix}high": _known(interval.high)}


def _known(value: float) -> float | str:
    return value if math.isfinite(value) else ""
