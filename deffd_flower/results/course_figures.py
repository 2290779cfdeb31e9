"""How cells came to their values: curves over rounds, traffic and key, mean and band over seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from deffd_flower.results.cell_names import axis, cell_name, value_name
from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.chart import (
    BITS,
    LOOKS,
    far_apart,
    finish_curves,
    fitting_unit,
    new_figure,
    take_literally,
    use_log_scale,
)
from deffd_flower.results.courses import Courses
from deffd_flower.results.intervals import draw_band, keep_fractions, sole_reference
from deffd_flower.results.reader import Course, column
from deffd_flower.results.statistics import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROUND, BYTES, KEY = "round", "bytes_sent", "key_bits"
MOST_PANELS = 12
OTHERS = "#9a9a9a"
NAME_WIDTH = 40


@dataclass(frozen=True)
class Curve:
    """A metric of one cell over the evaluated rounds that all of its seeds have.

    Attributes:
        places: Mean over seeds of what it is drawn against.
        summaries: The metric over seeds.
    """

    places: Sequence[float]
    summaries: Sequence[Summary]


@dataclass(frozen=True)
class Panel:
    """Some of the cells, side by side.

    Attributes:
        title: What they have in common.
        names: What each is called within the panel, by number of the cell; the empty name is
            that of cells which are only background.
    """

    title: str
    names: dict[int, str]


def curves(comparison: Comparison, courses: Courses, metric: str, against: str) -> "Figure | None":
    """Return a metric's course in all cells.

    Args:
        comparison: The cells.
        courses: How their trials went.
        metric: A column of ``rounds.csv``.
        against: Another one: `ROUND`, `BYTES` or `KEY`.

    Returns:
        None where no cell has both, or none has ever spent what it is drawn against.
    """
    from matplotlib.ticker import MaxNLocator

    drawn = {n: curve(course, metric, against) for n, course in enumerate(courses)}
    found = {n: one for n, one in drawn.items() if any(one.places)}
    if not found:
        return None
    label, unit = _unit(against, found.values())
    # Looks go by all cells, so that each keeps its own in all figures.
    panels = arrange(comparison, metric)
    names = dict.fromkeys(name for panel in panels for name in panel.names.values() if name)
    looks = dict(zip(names, LOOKS, strict=False))
    panels = [panel for panel in panels if not found.keys().isdisjoint(panel.names)]
    figure, grid = _grid(len(panels))
    shown = set()
    for axes, panel in zip(grid, panels, strict=True):
        for number in sorted(found.keys() & panel.names.keys()):
            name = panel.names[number]
            _draw(axes, found[number], axis(metric)[1], unit, looks.get(name))
            shown.add(name)
        finish_curves(axes, max(len(one.places) for one in found.values()), label)
        if far_apart(max(one.places) for one in found.values()):
            use_log_scale(axes, "x")
        else:
            ticks = MaxNLocator(6, steps=[1, 2, 5, 10], integer=against == ROUND)
            axes.xaxis.set_major_locator(ticks)
        axes.set_xlabel("")
        if panel.title:
            axes.set_title(panel.title, fontsize=10.5)
            take_literally([axes.title])
        keep_fractions(axes, metric, upright=True)
    figure.supxlabel(label, fontsize=11)
    figure.supylabel(axis(metric)[0], fontsize=11)
    _name(figure, {name: look for name, look in looks.items() if name in shown}, "" in shown)
    return figure


def curve(courses: Sequence[Course], metric: str, against: str) -> Curve:
    """Return one cell's curve; an empty one where its trials have no such course."""
    by_seed = [_points(course, metric, against) for course in courses if course.rounds]
    rounds = set.intersection(*map(set, by_seed)) if by_seed else set()
    points = [[seed[one] for seed in by_seed] for one in sorted(rounds)]
    places = [math.fsum(x for x, _ in of_round) / len(of_round) for of_round in points]
    return Curve(places, [summarise([y for _, y in of_round]) for of_round in points])


def arrange(comparison: Comparison, metric: str) -> list[Panel]:
    """Return cells in as few panels as give each curve of a panel a look of its own.

    Where no key divides them so, the best ones and the reference stand out from all others.
    """
    cells = comparison.cells
    if len(cells) <= len(LOOKS):
        return [Panel("", {n: cell_name(cell) for n, cell in enumerate(cells)})]
    divided = [_divided(comparison, key) for key in comparison.keys]
    legible = [panels for panels in divided if _legible(panels)]
    if legible:
        return min(legible, key=len)
    chosen = _standing_out(comparison, metric)
    return [Panel("", {n: cell_name(c) if n in chosen else "" for n, c in enumerate(cells)})]


def _divided(comparison: Comparison, key: str) -> list[Panel]:
    """Return a panel for each value of a key; the reference is in all of them if it has none."""
    reference, everywhere = sole_reference(comparison), {}
    panels: dict[str, dict[int, str]] = {}
    for n, cell in enumerate(comparison.cells):
        if cell is reference and key not in cell.keys:
            everywhere[n] = cell_name(cell)
            continue
        title = value_name(key, cell.keys[key]) if key in cell.keys else f"no {key}"
        panels.setdefault(title, {})[n] = cell_name(cell, without=[key])
    return [Panel(title, {**everywhere, **names}) for title, names in panels.items()]


def _legible(panels: Sequence[Panel]) -> bool:
    names = {name for panel in panels for name in panel.names.values()}
    several = max(len(panel.names) for panel in panels) > 1
    return several and len(names) <= len(LOOKS) and len(panels) <= MOST_PANELS


def _standing_out(comparison: Comparison, metric: str) -> list[int]:
    """Return the references, as far as they are few, and the cells with the highest values.

    Of cells with equal results only the first stands out: the others' curves lie under its own.
    """
    partners = sorted({cell.partner for cell in comparison.cells if cell.partner is not None})[:2]
    means = {
        n: cell.summaries[metric].mean
        for n, cell in enumerate(comparison.cells)
        if metric in cell.summaries and n not in partners
    }
    chosen = {_results(comparison.cells[n]): n for n in reversed(partners)}
    for n in sorted(means, key=lambda n: -means[n]):
        chosen.setdefault(_results(comparison.cells[n]), n)
    return list(chosen.values())[: len(LOOKS)]


def _results(cell: Cell) -> tuple[tuple[str, float], ...]:
    return tuple((metric, summary.mean) for metric, summary in cell.summaries.items())


def _points(course: Course, metric: str, against: str) -> dict[float, tuple[float, float]]:
    columns = (column(course.rounds, name) for name in (ROUND, against, metric))
    rows = zip(*columns, strict=True)
    return {number: (x, y) for number, x, y in rows if math.isfinite(x) and math.isfinite(y)}


def _unit(against: str, drawn: Iterable[Curve]) -> tuple[str, float]:
    """Return the axis label, and what its values are divided by."""
    if against == ROUND:
        return "round", 1.0
    if against == BYTES:
        return "sent by all clients so far (MB)", 1e6
    unit, size = fitting_unit(BITS, [max(one.places) for one in drawn])
    return f"key used by all models so far ({unit})", size


def _draw(
    axes: "Axes",
    drawn: Curve,
    factor: float,
    unit: float,
    look: tuple[str, str] | None,
) -> None:
    places = [place / unit for place in drawn.places]
    if look is None:
        means = [factor * summary.mean for summary in drawn.summaries]
        axes.plot(places, means, color=OTHERS, lw=0.8, alpha=0.7, zorder=1.5)
        return
    colour, marker = look
    draw_band(axes, places, drawn.summaries, factor, color=colour, marker=marker, markersize=4)


def _grid(panels: int) -> "tuple[Figure, list[Axes]]":
    columns = 1 if panels <= 3 else 2
    rows = -(-panels // columns)
    figure = new_figure(4.4 if panels == 1 else 1.0 + 2.1 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for spare in axes[panels:]:
        spare.set_visible(False)
    return figure, axes[:panels]


def _name(figure: "Figure", looks: Mapping[str, tuple[str, str]], others: bool) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=colour, marker=marker, label=fill(name, NAME_WIDTH))
        for name, (colour, marker) in looks.items()
    ]
    lines += [Line2D([], [], color=OTHERS, lw=0.8, label="All others")] if others else []
    longest = max(map(len, looks), default=0)
    columns = 3 if longest <= 12 else 2 if longest <= 22 else 1
    shown = figure.legend(handles=lines, loc="outside upper left", ncols=columns)
    take_literally(shown.get_texts())
