"""A metric of all cells: in groups, along a number, or else row by row."""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from deffd_flower.config import Value
from deffd_flower.results import row_figures
from deffd_flower.results.cell_names import axis, cell_name, value_name
from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.chart import LOOKS, far_apart, new_axes, take_literally, use_log_scale
from deffd_flower.results.intervals import (
    MEAN,
    draw_band,
    draw_cells,
    draw_reference,
    draw_seeds,
    keep_fractions,
    name_all,
    sole_reference,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_NUMBERS = 4
"""Numbers of a key from which on a curve says more than groups do."""

MOST_DOTS = 30
LINE = 42
"""Means, and characters of the groups' names on one line, that fit side by side."""


def values(comparison: Comparison, metric: str) -> "Figure | None":
    """Return a metric of all cells: the mean over seeds, its interval, and the single seeds.

    Along a key with many numbers, such as gamma, it is a line; for two keys with few values each,
    groups of dots, as in the paper's figure 3; in all other cases a row for each cell. A reference
    that has none of these keys, such as Def-KT among weights of Def-FD, is a line across.
    """
    if not any(metric in cell.summaries for cell in comparison.cells):
        return None
    cells = _alike(comparison)
    if key := _number_key(cells):
        figure = _along(cells, metric, key)
    elif keys := _two_keys(cells):
        figure = _grouped(cells, metric, *keys)
    else:
        return row_figures.values(comparison, metric)
    axes = figure.axes[0]
    draw_reference(axes, comparison, metric, upright=True)
    axes.set_ylabel(axis(metric)[0])
    keep_fractions(axes, metric, upright=True)
    name_all(figure)
    return figure


def _alike(comparison: Comparison) -> list[Cell]:
    """Return the cells without the reference, if that has other keys than they have."""
    reference = sole_reference(comparison)
    others = [cell for cell in comparison.cells if cell is not reference]
    if reference and all(cell.keys.keys().isdisjoint(reference.keys) for cell in others):
        return others
    return list(comparison.cells)


def _along(cells: Sequence[Cell], metric: str, key: str) -> "Figure":
    """Draw a line for all cells that differ in one number alone, with a band for the interval."""
    factor = axis(metric)[1]
    figure, axes = new_axes(4.4)
    lines = _lines(cells, key)
    for (name, line), (colour, marker) in zip(lines, LOOKS, strict=False):
        known = [cell for cell in line if metric in cell.summaries]
        places = [float(cell.keys[key]) for cell in known]
        summaries = [cell.summaries[metric] for cell in known]
        label = name if len(lines) > 1 else MEAN
        draw_band(axes, places, summaries, factor, color=colour, marker=marker, label=label)
        singles = [[trial.value(metric) for trial in cell.trials] for cell in known]
        draw_seeds(axes, places, singles, factor, upright=True, color=colour)
    _scale(axes, [float(cell.keys[key]) for cell in cells])
    axes.set_xlabel(key)
    return figure


def _grouped(cells: Sequence[Cell], metric: str, outer: str, inner: str) -> "Figure":
    """Draw groups for the values of one key, side by side in them those of the other."""
    groups, members = (_distinct(cells, key) for key in (outer, inner))
    figure, axes = new_axes(4.4)
    for order, (member, (colour, marker)) in enumerate(zip(members, LOOKS, strict=False)):
        own = [cell for cell in cells if cell.keys[inner] == member and metric in cell.summaries]
        shift = 0.74 * ((order + 0.5) / len(members) - 0.5)
        places = [groups.index(cell.keys[outer]) + shift for cell in own]
        draw_cells(
            axes, places, own, metric, 0.2 / len(members), upright=True,
            label=value_name(inner, member), color=colour, marker=marker,
        )  # fmt: skip
    names = [fill(value_name(outer, group), LINE // len(groups)) for group in groups]
    axes.set_xticks(range(len(groups)), names)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color="#888888", linewidth=0.6, alpha=0.5)
    take_literally(axes.get_xticklabels())
    axes.set_xlabel(outer)
    return figure


def _number_key(cells: Sequence[Cell]) -> str:
    """Return the key that all cells have a number of, if its numbers are many enough."""
    for key in _varying(cells):
        if all(_is_number(cell.keys.get(key)) for cell in cells):
            enough = len(_distinct(cells, key)) >= FEWEST_NUMBERS
            if enough and len(_lines(cells, key)) <= len(LOOKS):
                return key
    return ""


def _two_keys(cells: Sequence[Cell]) -> tuple[str, str] | None:
    """Return the key of groups and the key within groups, if that makes a legible figure."""
    keys = _varying(cells)
    if len(keys) != 2 or any(key not in cell.keys for key in keys for cell in cells):
        return None
    outer, inner = sorted(keys, key=lambda key: all(map(_is_number, _distinct(cells, key))))
    groups, members = _distinct(cells, outer), _distinct(cells, inner)
    words = [word for group in groups for word in value_name(outer, group).split()]
    fits = max(map(len, words)) <= LINE // len(groups)
    few = len(members) <= len(LOOKS) and len(groups) * len(members) <= MOST_DOTS
    return (outer, inner) if fits and few else None


def _lines(cells: Sequence[Cell], key: str) -> list[tuple[str, list[Cell]]]:
    """Return the cells that differ in one key alone, by that number, with what they share."""
    lines: dict[str, list[Cell]] = {cell_name(cell, without=[key]): [] for cell in cells}
    for cell in sorted(cells, key=lambda cell: float(cell.keys[key])):
        lines[cell_name(cell, without=[key])].append(cell)
    return list(lines.items())


def _varying(cells: Sequence[Cell]) -> list[str]:
    keys = dict.fromkeys(key for cell in cells for key in cell.keys)
    return [key for key in keys if len({cell.keys.get(key) for cell in cells}) > 1]


def _distinct(cells: Sequence[Cell], key: str) -> list[Value]:
    return list(dict.fromkeys(cell.keys[key] for cell in cells if key in cell.keys))


def _is_number(value: Value | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scale(axes: "Axes", numbers: Sequence[float]) -> None:
    if far_apart(numbers) and min(numbers) > 0:
        use_log_scale(axes, "x")
    elif far_apart(numbers):
        axes.set_xscale("symlog", linthresh=min(n for n in numbers if n > 0))
