"""The figures of a run, each as SVG and PNG, legible in print, on a phone and to the colour-blind.

Matplotlib is loaded when something is drawn, and only through its objects: no global figure, no
window.
"""

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deffd_flower.results.writer import Row, Run, column

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

LOSSES = {
    "train": ("Local training", ORANGE, "D"),
    "ce": ("Fusion: cross-entropy", BLUE, "o"),
    "kl": ("Fusion: KL divergence", VERMILION, "s"),
    "feature": ("Fusion: feature maps", GREEN, "^"),
}
"""Label, colour and marker of each term of the training objective."""


def draw(run: Run) -> dict[str, str]:
    """Draw every figure the run has data for, as ``figures/NAME.svg`` and ``figures/NAME.png``.

    The same run gives the same bytes.

    Returns:
        The SVG text of each figure drawn, by name.
    """
    from matplotlib import style

    directory = run.directory / "figures"
    directory.mkdir(exist_ok=True)
    drawn = {}
    for name, draw_one in FIGURES.items():
        # The salt makes ids in the SVG the same in every run of the program.
        with style.context(["default", {**STYLE, "svg.hashsalt": name}]):
            if figure := draw_one(run):
                if figure.axes[0].get_legend_handles_labels()[0]:
                    figure.legend(loc="outside upper left", ncols=2)
                figure.savefig(directory / f"{name}.png", dpi=200)
                drawn[name] = _svg(figure)
                (directory / f"{name}.svg").write_text(drawn[name], encoding="utf-8")
    return drawn


def worst_tenth(clients: list[Row]) -> list[int]:
    """Return the positions of the tenth of the clients (rounded up) lowest in global accuracy."""
    return _by_global_accuracy(clients)[: math.ceil(len(clients) / 10)]


def learning_curves(run: Run) -> "Figure | None":
    """Return accuracies against rounds, or None when nothing was evaluated."""
    return _accuracies_against(run.rounds, column(run.rounds, "round"), "round")


def accuracy_by_traffic(run: Run) -> "Figure | None":
    """Return accuracies against the megabytes sent so far, or None when nothing was sent."""
    sent = [size / 1e6 for size in column(run.rounds, "bytes_sent")]
    if not any(size > 0 for size in sent):
        return None
    return _accuracies_against(run.rounds, sent, "sent by all clients so far (MB)")


def clients(run: Run) -> "Figure | None":
    """Return each client's accuracies in the last evaluated round, clients sorted by Global."""
    rows = [run.clients[place] for place in _by_global_accuracy(run.clients)]
    series = {key: values for key in ACCURACIES if _has(values := _percent(rows, key))}
    if not series:
        return None
    figure, axes = _axes(4.4)
    ranks = range(1, len(rows) + 1)
    few = len(rows) <= 20
    for key, percentages in series.items():
        label, colour, marker, fill = ACCURACIES[key]
        (dots,) = axes.plot(ranks, percentages, marker, color=colour, label=label)
        dots.set(fillstyle=fill, markersize=6 if few else 3)
    worst = len(worst_tenth(rows)) + 0.5
    axes.axvspan(0.5, worst, color=INK, alpha=0.12, lw=0, label="Worst tenth")
    axes.set(xlim=(0.5, len(rows) + 0.5), ylabel="accuracy (%)")
    if few:
        names = [f"{client:.0f}" for client in column(rows, "client")]
        axes.set_xticks(ranks, names, fontsize=11 if len(rows) <= 12 else 9)
        axes.set_xlabel("client, sorted by global accuracy")
    else:
        axes.set_xlabel("rank of the client by global accuracy (1 = worst)")
    axes.grid(visible=few, axis="x")
    return figure


def partition(run: Run) -> "Figure | None":
    """Return the samples each client holds of each class as a heat map, a class not held blank."""
    if not run.partition or not run.partition[0]:
        return None
    holders, classes = len(run.partition), len(run.partition[0])
    most = max(1.0, *(max(row) for row in run.partition))
    numbered = holders <= 20 and classes <= 12
    figure, axes = _axes(1.3 + 0.3 * holders if numbered else 4.6)
    image = axes.imshow(
        [[samples or math.nan for samples in row] for row in run.partition],
        cmap="cividis_r",
        vmin=0,
        vmax=most,
        aspect="auto",
        interpolation="none",
    )
    figure.colorbar(image, label="samples")
    axes.set(xlabel="class", ylabel="client")
    axes.grid(visible=False)
    for axis, size in ((axes.xaxis, classes), (axes.yaxis, holders)):
        axis.set_ticks(range(size) if size <= 20 else range(0, size, max(1, size // 10)))
    if numbered:
        _write_counts(axes, run.partition, most)
    return figure


def losses(run: Run) -> "Figure | None":
    """Return the terms of the training objective against rounds."""
    terms = {key: values for key in LOSSES if _has(values := _term(run.rounds, key))}
    if not terms:
        return None
    figure, axes = _axes(4.2)
    for key, values in terms.items():
        label, colour, marker = LOSSES[key]
        axes.plot(column(run.rounds, "round"), values, color=colour, marker=marker, label=label)
    _finish_curves(axes, len(run.rounds), "round")
    known = [v for values in terms.values() for v in values if math.isfinite(v) and v > 0]
    if known and max(known) > 30 * min(known):
        axes.set_yscale("log")
    axes.set_ylabel("loss before weighting (CE, KL: nats)")
    return figure


FIGURES: dict[str, Callable[[Run], "Figure | None"]] = {
    "learning-curves": learning_curves,
    "accuracy-by-traffic": accuracy_by_traffic,
    "clients": clients,
    "partition": partition,
    "losses": losses,
}


def _accuracies_against(rows: list[Row], places: list[float], label: str) -> "Figure | None":
    series = {key: values for key in ACCURACIES if _has(values := _percent(rows, key))}
    if not series or not _has(places):
        return None
    figure, axes = _axes(4.2)
    for key, values in series.items():
        name, colour, marker, fill = ACCURACIES[key]
        (curve,) = axes.plot(places, values, marker=marker, color=colour, label=name)
        curve.set(fillstyle=fill, linestyle="--" if fill == "none" else "-")
        curve.set(linewidth=2.2 if key == "global_accuracy" else 1.4)
    _finish_curves(axes, len(rows), label)
    _draw_spread(axes, places, rows)
    axes.set_ylabel("accuracy (%)")
    return figure


def _draw_spread(axes: "Axes", places: list[float], rows: list[Row]) -> None:
    """Draw Global ± one standard deviation over clients; a bar where one round makes no band."""
    middle = _percent(rows, "global_accuracy")
    spread = _percent(rows, "global_accuracy_std")
    if not _has([m + s for m, s in zip(middle, spread, strict=True)]):
        return
    label = "Global ± sd over clients"
    if len(rows) == 1:
        axes.errorbar(places, middle, spread, color=BLUE, capsize=4, fmt="none", label=label)
        return
    low = [m - s for m, s in zip(middle, spread, strict=True)]
    high = [m + s for m, s in zip(middle, spread, strict=True)]
    axes.fill_between(places, low, high, color=BLUE, alpha=0.25, lw=0, label=label)


def _finish_curves(axes: "Axes", points: int, label: str) -> None:
    """Name the horizontal axis, and thin the markers out where they would merge into the line."""
    from matplotlib.ticker import MaxNLocator

    for line in axes.lines:
        line.set_markevery(max(1, points // 20))
    axes.set_xlabel(label)
    if label == "round":
        ticks = MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        axes.xaxis.set_major_locator(ticks)


def _write_counts(axes: "Axes", counts: list[list[float]], most: float) -> None:
    for client, row in enumerate(counts):
        for label, samples in enumerate(row):
            if samples:
                # Not INK and PAPER: these stand on the cell's colour, not on the page's.
                colour = "#fefefe" if samples > 0.5 * most else "#000001"
                text = axes.text(label, client, f"{samples:.0f}", color=colour, fontsize=9)
                text.set(ha="center", va="center")


def _axes(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_subplot()


def _percent(rows: list[Row], key: str) -> list[float]:
    return [100 * fraction for fraction in column(rows, key)]


def _term(rows: list[Row], key: str) -> list[float]:
    values = column(rows, f"loss_{key}")
    return values if _has(values) else column(rows, key)


def _has(values: list[float]) -> bool:
    return any(map(math.isfinite, values))


def _by_global_accuracy(rows: list[Row]) -> list[int]:
    """Return the rows' positions, lowest global accuracy first, those without one last."""
    values = column(rows, "global_accuracy")
    return sorted(range(len(rows)), key=lambda place: (math.isnan(values[place]), values[place]))


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
