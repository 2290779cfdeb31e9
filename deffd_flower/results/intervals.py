"""How a cell's mean, interval and single seeds are drawn, and axes with a row for each cell."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from deffd_flower.config import Value
from deffd_flower.results.cell_names import (
    SEPARATOR,
    axis,
    cell_name,
    reference_name,
    value_name,
)
from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.chart import BLUE, INK, has, known, new_axes, take_literally
from deffd_flower.results.statistics import Interval, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_BREAK = "\N{NO-BREAK SPACE}"

NAME_WIDTH = 23
"""Characters on a line of a row's name."""

ROW_INCHES = 0.34
LINE_HEIGHT = 0.5
"""What a further line of a name adds to its row's height, in rows."""

LEGEND_WIDTH = 44
"""Characters on a line of a legend, in both columns together."""

MEAN, ONE_SEED = "Mean, 95 % interval", "One seed"

BELOW = 0.26
"""How far below its row's middle a seed's own value stands, in rows."""

WHISKER: dict[str, Any] = {"linestyle": "none", "capsize": 3.5, "linewidth": 1.6}
REFERENCE: dict[str, Any] = {"color": INK, "linestyle": "--", "linewidth": 1, "zorder": 0.9}
SEED: dict[str, Any] = {
    **{"marker": "o", "linestyle": "none", "markersize": 3.2, "markeredgewidth": 0},
    "alpha": 0.5,
}


def row_axes(
    comparison: Comparison, cells: Sequence[Cell], least: float = 1.0
) -> "tuple[Figure, Axes, list[float]]":
    """Return axes with a row for each cell, the first on top, and where the rows are.

    A row is as high as the lines of its name. What several cells have in common stands once above
    them, and a gap sets them apart from the others.

    Args:
        comparison: What the cells are of.
        cells: Those to be drawn.
        least: Height of a row at least, in names of one line.
    """
    from matplotlib.ticker import MaxNLocator

    shared = _shared_keys(comparison, cells)
    groups = [_group(cell, shared or comparison.keys[:1]) for cell in cells]
    gap = 0.5 if any(one == other for one, other in pairwise(groups)) else 0.0
    edge, places = -0.5, []
    ticks: dict[float, str] = {}
    headings: list[str] = []
    for before, group, cell in zip([None, *groups], groups, cells, strict=False):
        edge += gap if before not in (None, group) else 0.0
        alone = groups.count(group) == 1
        if shared and group != before and not alone:
            headings.append(_on_lines(SEPARATOR.join(value_name(*each) for each in group)))
            height = 1 + LINE_HEIGHT * headings[-1].count("\n")
            ticks[edge + height / 2] = headings[-1]
            edge += height
        name = _on_lines(cell_name(cell, without=() if alone else shared))
        height = max(least, 1 + LINE_HEIGHT * name.count("\n"))
        places.append(edge + height / 2)
        ticks[places[-1]] = name
        edge += height
    figure, axes = new_axes(1.1 + ROW_INCHES * (edge + 0.7))
    axes.set_yticks([*ticks], [*ticks.values()], fontsize=10)
    axes.set_ylim(edge + 0.1, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    # Matplotlib's own choice depends on the width, which depends on the labels it leads to.
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    take_literally(axes.get_yticklabels())
    for label in axes.get_yticklabels():
        if label.get_text() in headings:
            label.set_fontweight("bold")
    return figure, axes, places


def _shared_keys(comparison: Comparison, cells: Sequence[Cell]) -> list[str]:
    """Return the first keys whose values most cells share with their neighbours, if any.

    All cells set them, and others as well, by which they are told apart.
    """
    found: list[str] = []
    for number in range(1, len(comparison.keys)):
        keys = list(comparison.keys[:number])
        complete = all(cell.keys.keys() > set(keys) for cell in cells)
        groups = [group for group, _ in groupby(_group(cell, keys) for cell in cells)]
        if complete and len(groups) == len(set(groups)) and len(cells) >= 2 * len(groups):
            found = keys
    return found


def _group(cell: Cell, keys: Sequence[str]) -> tuple[tuple[str, Value], ...]:
    return tuple((key, cell.keys[key]) for key in keys if key in cell.keys)


def _on_lines(name: str) -> str:
    """Break a name between its parts where that is possible, not within ``lr 0.02``."""
    parts = [_kept_together(part) for part in name.split(SEPARATOR)]
    whole = f"{NO_BREAK}{SEPARATOR.strip()} ".join(parts)
    return fill(whole, NAME_WIDTH, break_on_hyphens=False).replace(NO_BREAK, " ")


def _kept_together(part: str) -> str:
    return part.replace(" ", NO_BREAK) if len(part) <= NAME_WIDTH - len(SEPARATOR) else part


def draw_means(
    axes: "Axes",
    places: Sequence[float],
    summaries: Sequence[Summary],
    factor: float,
    intervals: Sequence[Interval] | None = None,
    *,
    upright: bool = False,
    **look: Any,
) -> None:
    """Draw means with their intervals, where there are any.

    Args:
        axes: Where.
        places: Where each stands on the other axis.
        summaries: What has a mean.
        factor: What all values are multiplied by.
        intervals: Those to draw; otherwise the summaries' own.
        upright: Let the values go upwards, not to the right.
        look: Colour, marker and label.
    """
    spans = intervals or [summary.interval for summary in summaries]
    means = factor * np.array([summary.mean for summary in summaries])
    lows, highs = factor * np.array([(span.low, span.high) for span in spans]).T
    # Rounding may put a mean outside an interval of no width, which Matplotlib refuses.
    errors = np.clip([means - lows, highs - means], 0, None)
    style = {"color": BLUE, "marker": "o", **WHISKER, **look}
    if upright:
        axes.errorbar(places, means, yerr=errors, **style)
    else:
        axes.errorbar(means, places, xerr=errors, **style)


def draw_band(
    axes: "Axes",
    places: Sequence[float],
    summaries: Sequence[Summary],
    factor: float,
    *,
    color: str,
    **look: Any,
) -> None:
    """Draw means as a line, and their intervals, where there are any, as a band around it."""
    means = [factor * summary.mean for summary in summaries]
    axes.plot(places, means, color=color, **look)
    spans = [summary.interval for summary in summaries]
    if has(span.low for span in spans):
        lows, highs = [factor * s.low for s in spans], [factor * s.high for s in spans]
        axes.fill_between(places, lows, highs, color=color, alpha=0.14, lw=0)


def draw_seeds(
    axes: "Axes",
    places: Sequence[float],
    values: Sequence[Sequence[float]],
    factor: float,
    *,
    upright: bool = False,
    color: str = INK,
) -> None:
    """Draw the single values behind means, if any place has more than one."""
    rows = zip(places, map(known, values), strict=True)
    dots = [(place, factor * value) for place, row in rows for value in row]
    if len(dots) > len(places):
        at, heights = zip(*dots, strict=True)
        named = axes.get_legend_handles_labels()[1]
        label = "_" if ONE_SEED in named else ONE_SEED
        xs, ys = (at, heights) if upright else (heights, at)
        axes.plot(xs, ys, color=color, label=label, **SEED)


def draw_cells(
    axes: "Axes",
    places: Sequence[float],
    cells: Sequence[Cell],
    metric: str,
    aside: float,
    *,
    upright: bool = False,
    label: str,
    **look: Any,
) -> None:
    """Draw a metric's mean, interval and single seeds of some cells, all of which have it.

    Args:
        axes: Where.
        places: Where each cell stands on the other axis.
        cells: The cells.
        metric: Its name.
        aside: How far beside the mean the single seeds stand.
        upright: Let the values go upwards, not to the right.
        label: What the means are called in the legend.
        look: Colour and marker.
    """
    factor = axis(metric)[1]
    summaries = [cell.summaries[metric] for cell in cells]
    draw_means(axes, places, summaries, factor, upright=upright, label=label, **look)
    singles = [[trial.value(metric) for trial in cell.trials] for cell in cells]
    draw_seeds(axes, [p + aside for p in places], singles, factor, upright=upright)


def sole_reference(comparison: Comparison) -> Cell | None:
    """Return the cell that others are compared with, if it is one alone."""
    partners = {cell.partner for cell in comparison.cells} - {None}
    return comparison.cells[partners.pop() or 0] if len(partners) == 1 else None


def draw_reference(
    axes: "Axes", comparison: Comparison, metric: str, *, upright: bool = False
) -> None:
    """Draw a line at the mean of the cell that others are compared with, if it is one alone."""
    cell = sole_reference(comparison)
    if cell and metric in cell.summaries:
        mean = axis(metric)[1] * cell.summaries[metric].mean
        style = {**REFERENCE, "label": f"Mean of {reference_name(comparison)}"}
        _ = axes.axhline(mean, **style) if upright else axes.axvline(mean, **style)


def name_all(figure: "Figure") -> None:
    """Draw the legend in two columns: means first, then what helps to read them."""
    from matplotlib.container import Container

    entries = list(zip(*figure.axes[0].get_legend_handles_labels(), strict=True))
    entries.sort(key=lambda entry: not isinstance(entry[0], Container))
    lengths = [len(label) for _, label in entries]
    middle = -(-len(entries) // 2)
    needed = max(lengths[:middle]) + max(lengths[middle:], default=0)
    width = LEGEND_WIDTH if needed <= LEGEND_WIDTH else LEGEND_WIDTH // 2
    names = [fill(label, width) for _, label in entries]
    handles = [handle for handle, _ in entries]
    shown = figure.legend(handles, names, loc="outside upper left", ncols=2)
    take_literally(shown.get_texts())


def keep_fractions(axes: "Axes", metric: str, *, upright: bool = False) -> None:
    """Let the axis of an accuracy not go below 0 % or above 100 %, where an interval would."""
    if "accuracy" in metric and "per" not in metric:
        low, high = axes.get_ylim() if upright else axes.get_xlim()
        limits = max(low, -1.0), min(high, 101.0)
        _ = axes.set_ylim(limits) if upright else axes.set_xlim(limits)
