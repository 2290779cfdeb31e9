"""What all figures have in common: colours, sizes, units, and how an accuracy is drawn.

Matplotlib is loaded when something is drawn, and only through its objects: no global figure, no
window.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from deffd_flower.results.reader import Row, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# M. Okabe and K. Ito, "Color Universal Design", 2008.
BLUE, VERMILION, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7"

INK = "#1b1d22"
PAPER = "#ffffff"
"""Used for text and axes, and for the background, and for nothing else: a page that shows the
SVG can put its own colours in their place."""

WIDTH = 4.8
"""Inches. Narrow, so that the text stays readable when a phone scales the figure down."""

STYLE: dict[str, Any] = {
    "font.size": 11,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.markersize": 5,
    "svg.fonttype": "none",
}

ACCURACIES = {
    "global_accuracy": ("Global", BLUE, "o", "full"),
    "local_accuracy": ("Local", VERMILION, "s", "full"),
    "local_accuracy_prior": ("Local with prior", ORANGE, "D", "none"),
    "held_accuracy": ("Held classes", GREEN, "^", "full"),
    "absent_accuracy": ("Absent classes", PURPLE, "v", "full"),
}
"""Label, colour, marker and filling of each accuracy, the same in every figure.

Both Local values agree where the prior changes nothing: hollow markers let the other show.
"""

FAR_APART = 30
"""Values further apart than by this factor are drawn on a logarithmic scale."""


def new_axes(height: float) -> "tuple[Figure, Axes]":
    """Return a figure of so many inches in height, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_subplot()


def known(values: Iterable[float]) -> list[float]:
    """Return the values that are numbers."""
    return [value for value in values if math.isfinite(value)]


def has(values: Iterable[float]) -> bool:
    """Say whether there is a number among the values."""
    return bool(known(values))


def percentages(rows: list[Row], key: str) -> list[float]:
    """Return a column of fractions in percent."""
    return [100 * fraction for fraction in column(rows, key)]


def far_apart(values: Iterable[float]) -> bool:
    """Say whether positive values are best seen on a logarithmic scale."""
    positive = [value for value in known(values) if value > 0]
    return bool(positive) and max(positive) > FAR_APART * min(positive)


def accuracies_against(
    rows: list[Row], places: list[float], label: str, keys: Sequence[str] = tuple(ACCURACIES)
) -> "Figure | None":
    """Return accuracies of the evaluated rounds against something; None where there is neither."""
    if not has(places) or not any(has(column(rows, key)) for key in keys):
        return None
    figure, axes = new_axes(4.2)
    draw_accuracies(axes, rows, places, keys)
    finish_curves(axes, len(rows), label)
    draw_spread(axes, rows, places)
    axes.set_ylabel("accuracy (%)")
    return figure


def draw_accuracies(
    axes: "Axes", rows: list[Row], places: list[float], keys: Sequence[str]
) -> None:
    """Draw a curve for each of some accuracies that there is."""
    for key in keys:
        if has(values := percentages(rows, key)):
            name, colour, marker, fill = ACCURACIES[key]
            (curve,) = axes.plot(places, values, marker=marker, color=colour, label=name)
            curve.set(fillstyle=fill, linestyle="--" if fill == "none" else "-")
            curve.set(linewidth=2.2 if key == "global_accuracy" else 1.4)


def draw_spread(axes: "Axes", rows: list[Row], places: list[float]) -> None:
    """Draw Global ± one standard deviation over clients; a bar where one round makes no band."""
    middle = percentages(rows, "global_accuracy")
    spread = percentages(rows, "global_accuracy_std")
    if not has([m + s for m, s in zip(middle, spread, strict=True)]):
        return
    label = "Global ± sd over clients"
    if len(rows) == 1:
        axes.errorbar(places, middle, spread, color=BLUE, capsize=4, fmt="none", label=label)
        return
    low = [m - s for m, s in zip(middle, spread, strict=True)]
    high = [m + s for m, s in zip(middle, spread, strict=True)]
    axes.fill_between(places, low, high, color=BLUE, alpha=0.25, lw=0, label=label)


def finish_curves(axes: "Axes", points: int, label: str) -> None:
    """Name the horizontal axis, and thin the markers out where they would merge into the line."""
    from matplotlib.ticker import MaxNLocator

    for line in axes.lines:
        line.set_markevery(max(1, points // 20))
    axes.set_xlabel(label)
    if label == "round":
        ticks = MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        axes.xaxis.set_major_locator(ticks)
