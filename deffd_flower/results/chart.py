"""What all figures have in common: colours, sizes, units, and how an accuracy is drawn.

Matplotlib is loaded when something is drawn, and only through its objects: no global figure, no
window.
"""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deffd_flower.results.reader import Row, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# M. Okabe and K. Ito, "Color Universal Design", 2008.
BLUE, VERMILION, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7"
SKY = "#56b4e9"

INK = "#1b1d22"
PAPER = "#ffffff"
"""Used for text and axes, and for the background, and for nothing else: a page that shows the
SVG can put its own colours in their place."""

WIDTH = 4.8
"""Inches. Narrow, so that the text stays readable when a phone scales the figure down."""

LOOKS = [
    *((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"), (SKY, "P")),
    (INK, "X"),
]
"""Colour and marker of up to seven things in one figure."""

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BITS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12}

PNG_DPI = 200

STYLE: dict[str, Any] = {
    "font.size": 11,
    "legend.fontsize": 10,
    "legend.frameon": False,
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


def new_figure(height: float) -> "Figure":
    """Return an empty figure of so many inches in height, which makes room for its labels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def new_axes(height: float) -> "tuple[Figure, Axes]":
    """Return a figure of so many inches in height, with one pair of axes."""
    figure = new_figure(height)
    return figure, figure.add_subplot()


def save(figure: "Figure", directory: Path, name: str) -> str:
    """Write a figure as ``NAME.png`` and ``NAME.svg``; return the SVG's text.

    It is laid out once: left to itself, Matplotlib would do so for either file, and draw twice.
    """
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(directory / f"{name}.png", dpi=PNG_DPI, pil_kwargs={"compress_level": 3})
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    (directory / f"{name}.svg").write_text(text.getvalue(), encoding="utf-8")
    return text.getvalue()


def draw_all(
    directory: Path, figures: Mapping[str, Callable[[], "Figure | None"]]
) -> dict[str, str]:
    """Draw some figures as ``figures/NAME.svg`` and ``figures/NAME.png``.

    The same data give the same bytes.

    Args:
        directory: Where ``figures/`` is, or will be.
        figures: By name, what returns each figure, or None where there is nothing to draw.

    Returns:
        The SVG text of each figure drawn, by name.
    """
    from matplotlib import style

    below = directory / "figures"
    below.mkdir(exist_ok=True)
    drawn = {}
    for name, draw in figures.items():
        # The salt makes ids in the SVG the same in every run of the program.
        with style.context(["default", {**STYLE, "svg.hashsalt": name}]):
            if figure := draw():
                axes = figure.axes[0]
                named = axes.get_legend() or figure.legends
                if axes.get_legend_handles_labels()[0] and not named:
                    figure.legend(loc="outside upper left", ncols=2)
                drawn[name] = save(figure, below, name)
    return drawn


def take_literally(texts: Iterable["Text"]) -> None:
    """Keep dollar signs in names of others from being read as formulas."""
    for text in texts:
        text.set_parse_math(False)


def known(values: Iterable[float]) -> list[float]:
    """Return the values that are numbers."""
    return [value for value in values if math.isfinite(value)]


def has(values: Iterable[float]) -> bool:
    """Say whether there is a number among the values."""
    return bool(known(values))


def percentages(rows: list[Row], key: str) -> list[float]:
    """Return a column of fractions in percent."""
    return [100 * fraction for fraction in column(rows, key)]


def fitting_unit(units: Mapping[str, float], values: Iterable[float]) -> tuple[str, float]:
    """Return the largest unit in which the largest value is at least 3, and its size."""
    largest = max(known(values), default=0.0)
    fitting = [(name, size) for name, size in units.items() if largest >= 3 * size]
    return fitting[-1] if fitting else next(iter(units.items()))


def far_apart(values: Iterable[float]) -> bool:
    """Say whether positive values are best seen on a logarithmic scale."""
    positive = [value for value in known(values) if value > 0]
    return bool(positive) and max(positive) > FAR_APART * min(positive)


def use_log_scale(axes: "Axes", which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, its labels plain numbers: 0.01, not a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogFormatter

    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    # Between powers of ten there are labels only where these are few.
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))


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
