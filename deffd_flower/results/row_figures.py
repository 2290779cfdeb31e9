"""Cells row by row: their values, how they differ from the reference, and what clients get."""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from deffd_flower.results.cell_names import axis, reference_name
from deffd_flower.results.cells import Comparison, paired_values
from deffd_flower.results.chart import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    VERMILION,
    known,
    percentages,
)
from deffd_flower.results.figures import worst_tenth
from deffd_flower.results.intervals import (
    BELOW,
    LEGEND_WIDTH,
    MEAN,
    draw_cells,
    draw_means,
    draw_reference,
    draw_seeds,
    keep_fractions,
    name_all,
    row_axes,
)
from deffd_flower.results.metrics import difference_in, plain_name
from deffd_flower.results.reader import Course, Row
from deffd_flower.results.statistics import summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY_CLIENTS = 300
"""From so many on, a row's clients are not drawn one by one."""

HELD = {"held_accuracy": ("Held", GREEN, "^"), "absent_accuracy": ("Absent", PURPLE, "v")}


def values(comparison: Comparison, metric: str) -> "Figure | None":
    """Return a metric's mean, interval and single seeds of each cell."""
    cells = [cell for cell in comparison.cells if metric in cell.summaries]
    if not cells:
        return None
    figure, axes, places = row_axes(comparison, cells)
    draw_reference(axes, comparison, metric)
    draw_cells(axes, places, cells, metric, BELOW, label=MEAN)
    axes.set_xlabel(axis(metric)[0])
    keep_fractions(axes, metric)
    name_all(figure)
    return figure


def differences(comparison: Comparison, metric: str) -> "Figure | None":
    """Return the paired differences to the reference as a forest plot, with their p-values."""
    cells = [cell for cell in comparison.cells if metric in cell.differences]
    if not cells:
        return None
    name, factor = axis(metric)
    figure, axes, places = row_axes(comparison, cells)
    axes.axvline(0, color=INK, linewidth=1)
    found = [cell.differences[metric] for cell in cells]
    label = "Mean, 95 % bootstrap interval"
    draw_means(axes, places, found, factor, [one.bootstrap for one in found], label=label)
    partners = [comparison.cells[cell.partner or 0] for cell in cells]
    singles = [
        [own - theirs for own, theirs in paired_values(cell, partner, metric)]
        for cell, partner in zip(cells, partners, strict=True)
    ]
    draw_seeds(axes, [place + BELOW for place in places], singles, factor)
    levels = axes.secondary_yaxis("right")
    levels.set_yticks(places, [f"{one.holm:.2g}" for one in found], fontsize=10)
    levels.set_ylabel("p (Holm)")
    levels.spines["right"].set_visible(False)
    levels.tick_params(length=0)
    to = f"difference to {reference_name(comparison)}"
    what = difference_in(name).replace("difference", to, 1)
    axes.set_xlabel(fill(f"{plain_name(metric)}: {what}", LEGEND_WIDTH))
    name_all(figure)
    return figure


def held_and_absent(comparison: Comparison) -> "Figure | None":
    """Return the accuracy on classes that clients hold, and on those they do not."""
    found = {
        key: [known(trial.value(key) for trial in cell.trials) for cell in comparison.cells]
        for key in HELD
    }
    shown = [n for n in range(len(comparison.cells)) if all(found[key][n] for key in HELD)]
    if not shown:
        return None
    figure, axes, places = row_axes(comparison, [comparison.cells[n] for n in shown])
    for key, (name, colour, marker) in HELD.items():
        summaries = [summarise(found[key][n]) for n in shown]
        label = f"{name} classes"
        draw_means(axes, places, summaries, 100.0, label=label, color=colour, marker=marker)
    axes.set_xlabel("accuracy (%): mean, 95 % interval")
    keep_fractions(axes, "held_accuracy")
    name_all(figure)
    return figure


def clients(comparison: Comparison, courses: Sequence[Sequence[Course]]) -> "Figure | None":
    """Return how global accuracy is spread over the clients of each cell, all seeds together."""
    split = [[_split(course.clients) for course in of_cell] for of_cell in courses]
    worst, others = ([[v for run in row for v in run[part]] for row in split] for part in (0, 1))
    shown = [n for n in range(len(split)) if worst[n]]
    if not shown:
        return None
    figure, axes, places = row_axes(comparison, [comparison.cells[n] for n in shown])
    _draw_quantiles(axes, places, [worst[n] + others[n] for n in shown])
    few = {n: at for n, at in zip(shown, places, strict=True) if len(others[n]) < MANY_CLIENTS}
    look = {"color": BLUE, "marker": "o", "label": "Client"}
    _draw_clients(axes, [(at, others[n]) for n, at in few.items()], look)
    look = {"color": VERMILION, "marker": "v", "label": "Worst tenth of its run"}
    _draw_clients(axes, [(at, worst[n]) for n, at in few.items()], look)
    axes.set_xlabel("Global accuracy of a client (%)")
    name_all(figure)
    return figure


def _split(rows: list[Row]) -> tuple[list[float], list[float]]:
    """Return the global accuracies of the worst tenth of the clients, and of the others."""
    accuracies, worst = percentages(rows, "global_accuracy"), set(worst_tenth(rows))
    low = [value for place, value in enumerate(accuracies) if place in worst]
    return known(low), known(v for place, v in enumerate(accuracies) if place not in worst)


def _draw_quantiles(axes: "Axes", places: Sequence[float], rows: Sequence[Sequence[float]]) -> None:
    cuts = [np.quantile(row, [0, 0.25, 0.5, 0.75, 1]) for row in rows]
    low, quarter, median, three_quarters, high = np.transpose(cuts)
    axes.hlines(places, low, high, color=INK, alpha=0.4, linewidth=1)
    thick: dict[str, Any] = {"linewidth": 10, "label": "Middle half"}
    axes.hlines(places, quarter, three_quarters, color=INK, alpha=0.2, **thick)
    axes.plot(median, places, "|", color=INK, ms=14, mew=2, label="Median")


def _draw_clients(
    axes: "Axes", rows: Sequence[tuple[float, Sequence[float]]], look: dict[str, Any]
) -> None:
    # Steps of the golden ratio keep neighbours apart, and are the same every time.
    heights = [at + 0.4 * (0.618034 * n % 1 - 0.5) for at, row in rows for n in range(len(row))]
    if heights:
        dots = [value for _, row in rows for value in sorted(row)]
        axes.plot(dots, heights, linestyle="none", alpha=0.7, ms=3.6, mew=0, **look)
