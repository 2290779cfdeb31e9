"""A run's figures, each as SVG and PNG, legible in print, on a phone and to the colour-blind."""

import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from deffd_flower.results import key_figures
from deffd_flower.results.chart import (
    ACCURACIES,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    accuracies_against,
    draw_all,
    far_apart,
    finish_curves,
    has,
    new_axes,
    percentages,
    use_log_scale,
)
from deffd_flower.results.gossip_figures import gossip
from deffd_flower.results.reader import Row, Run, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES = {
    "train": ("Local training", ORANGE, "D"),
    "ce": ("Fusion: cross-entropy", BLUE, "o"),
    "kl": ("Fusion: KL divergence", VERMILION, "s"),
    "feature": ("Fusion: feature maps", GREEN, "^"),
    "anchor": ("Fusion: anchor", PURPLE, "v"),
}
"""Label, colour and marker of each term of the training objective."""


def draw(run: Run) -> dict[str, str]:
    """Draw every figure the run has data for; return the SVG text of each by name."""
    return draw_all(run.directory, {name: partial(each, run) for name, each in FIGURES.items()})


def worst_tenth(clients: list[Row]) -> list[int]:
    """Return the positions of the tenth of the clients (rounded up) lowest in global accuracy."""
    return _by_global_accuracy(clients)[: math.ceil(len(clients) / 10)]


def learning_curves(run: Run) -> "Figure | None":
    """Return accuracies against rounds, or None when nothing was evaluated."""
    return accuracies_against(run.rounds, column(run.rounds, "round"), "round")


def accuracy_by_traffic(run: Run) -> "Figure | None":
    """Return accuracies against the megabytes sent so far, or None when nothing was sent."""
    sent = [size / 1e6 for size in column(run.rounds, "bytes_sent")]
    if not any(size > 0 for size in sent):
        return None
    return accuracies_against(run.rounds, sent, "sent by all clients so far (MB)")


def clients(run: Run) -> "Figure | None":
    """Return each client's accuracies in the last evaluated round, clients sorted by Global."""
    rows = [run.clients[place] for place in _by_global_accuracy(run.clients)]
    series = {key: values for key in ACCURACIES if has(values := percentages(rows, key))}
    if not series:
        return None
    figure, axes = new_axes(4.4)
    ranks = range(1, len(rows) + 1)
    few = len(rows) <= 20
    for key, values in series.items():
        label, colour, marker, fill = ACCURACIES[key]
        (dots,) = axes.plot(ranks, values, marker, color=colour, label=label)
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
    figure, axes = new_axes(1.3 + 0.3 * holders if numbered else 4.6)
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
    terms = {key: values for key in LOSSES if has(values := _term(run.rounds, key))}
    if not terms:
        return None
    figure, axes = new_axes(4.2)
    for key, values in terms.items():
        label, colour, marker = LOSSES[key]
        axes.plot(column(run.rounds, "round"), values, color=colour, marker=marker, label=label)
    finish_curves(axes, len(run.rounds), "round")
    if far_apart(chain.from_iterable(terms.values())):
        use_log_scale(axes, "y")
    axes.set_ylabel("loss before weighting (CE, KL: nats)")
    return figure


def consensus(run: Run) -> "Figure | None":
    """Return the consensus distance against rounds, or None where clients did not report it."""
    distances = column(run.rounds, "consensus_distance")
    if not has(distances):
        return None
    figure, axes = new_axes(4.2)
    axes.plot(column(run.rounds, "round"), distances, color=BLUE, marker="o")
    finish_curves(axes, len(run.rounds), "round")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("consensus distance (units of the weights)")
    return figure


FIGURES: dict[str, Callable[[Run], "Figure | None"]] = {
    "learning-curves": learning_curves,
    "accuracy-by-traffic": accuracy_by_traffic,
    "clients": clients,
    "partition": partition,
    "gossip": gossip,
    "losses": losses,
    "consensus": consensus,
    **key_figures.FIGURES,
}


def _write_counts(axes: "Axes", counts: list[list[float]], most: float) -> None:
    for client, row in enumerate(counts):
        for label, samples in enumerate(row):
            if samples:
                # Not INK and PAPER: these stand on the cell's colour, not on the page's.
                colour = "#fefefe" if samples > 0.5 * most else "#000001"
                text = axes.text(label, client, f"{samples:.0f}", color=colour, fontsize=9)
                text.set(ha="center", va="center", in_layout=False)


def _term(rows: list[Row], key: str) -> list[float]:
    values = column(rows, f"loss_{key}")
    return values if has(values) else column(rows, key)


def _by_global_accuracy(rows: list[Row]) -> list[int]:
    """Return the rows' positions, lowest global accuracy first, those without one last."""
    values = column(rows, "global_accuracy")
    return sorted(range(len(rows)), key=lambda place: (math.isnan(values[place]), values[place]))
