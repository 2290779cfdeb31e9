"""The figures of a run's keys: what they cost, how long they took, and what Eve did to them."""

import math
from collections.abc import Callable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from deffd_flower.results.chart import (
    BITS,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SECONDS,
    VERMILION,
    accuracies_against,
    draw_accuracies,
    far_apart,
    finish_curves,
    fitting_unit,
    has,
    known,
    new_figure,
    percentages,
    take_literally,
    use_log_scale,
)
from deffd_flower.results.reader import Run, column
from deffd_flower.results.table import number, suite_name
from deffd_flower.results.timeline import eve_spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("global_accuracy", "local_accuracy")

TROUBLES = {
    "starved": ("Starved", INK, "o"),
    "waits": ("Waited", ORANGE, "s"),
    "repicked": ("Other peer", BLUE, "^"),
    "degraded": ("Weaker suite", PURPLE, "v"),
    "skipped": ("Not sent", VERMILION, "D"),
}
"""Label, colour and marker of what befell models for want of key."""

ATTACKS = [(VERMILION, ""), (PURPLE, "//"), (ORANGE, "\\\\"), (GREEN, ".."), (BLUE, "xx")]
"""Colour and hatching of the time in which each of Eve's attacks is on."""

LEGEND: dict[str, Any] = {"ncols": 3, "borderaxespad": 0.1, "columnspacing": 1, "handlelength": 1.6}
LEGEND_WIDTH, SUITE_WIDTH = 46, 18
"""Characters on a line of an attack, and of a suite."""

Panel = Callable[["Axes", Run, float], None]


def keys(run: Run) -> "Figure | None":
    """Return what became of keys and models on one axis of simulated time, None without QKD."""
    seconds = column(run.pools, "time_s")
    if not has(seconds):
        return None
    unit, size = fitting_unit(SECONDS, seconds)
    panels: list[Panel] = [_error_rates, _aborted, _stored, _troubles]
    panels += [_accuracies] if has(column(run.rounds, "global_accuracy")) else []
    figure = new_figure(1.2 + 1.7 * len(panels))
    stack: list[Axes] = list(figure.subplots(len(panels), sharex=True))
    for axes, panel in zip(stack, panels, strict=True):
        panel(axes, run, size)
        finish_curves(axes, len(run.pools), "")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), **LEGEND)
    stack[-1].set(xlabel=f"simulated time ({unit})", xlim=(0, 1.02 * max(known(seconds)) / size))
    _number_rounds(stack[-1], run, size)
    _shade(figure, stack, run, size)
    figure.align_ylabels(stack)
    return figure


def accuracy_by_key(run: Run) -> "Figure | None":
    """Return accuracies against the key bits used so far, or None when no key was used."""
    bits = column(run.rounds, "key_bits")
    if not any(amount > 0 for amount in bits):
        return None
    wide = far_apart(bits) and min(known(bits)) > 0
    unit, size = ("bit", 1.0) if wide else fitting_unit(BITS, bits)
    label = f"key used by all models so far ({unit})"
    figure = accuracies_against(run.rounds, [amount / size for amount in bits], label, SHOWN)
    if figure and wide:
        use_log_scale(figure.axes[0], "x")
    return figure


def accuracy_by_time(run: Run) -> "Figure | None":
    """Return accuracies against simulated time, or None without QKD, which that time is about."""
    if not run.pools:
        return None
    seconds = column(run.rounds, "sim_time_s")
    unit, size = fitting_unit(SECONDS, seconds)
    places = [second / size for second in seconds]
    return accuracies_against(run.rounds, places, f"simulated time ({unit})", SHOWN)


def suites(run: Run) -> "Figure | None":
    """Return each suite's share of the sealed bytes, or None where there are not several."""
    sealed = run.summary.get("bytes_by_suite")
    sizes = {str(k): number(v) for k, v in sealed.items()} if isinstance(sealed, dict) else {}
    total = sum(sizes.values())
    if len(sizes) < 2 or not total > 0:
        return None
    figure = new_figure(1.1 + 0.55 * len(sizes))
    axes = figure.add_subplot()
    names = sorted(sizes, key=lambda name: (sizes[name], name))
    shares = [100 * sizes[name] / total for name in names]
    labels = [fill(suite_name(name), SUITE_WIDTH) for name in names]
    bars = axes.barh(labels, shares, color=BLUE, height=0.6)
    axes.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=4)
    axes.set(xlabel="share of the sealed bytes (%)", xlim=(0, 122), xticks=range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    take_literally(axes.get_yticklabels())
    return figure


FIGURES: dict[str, Callable[[Run], "Figure | None"]] = {
    "keys": keys,
    "accuracy-by-key": accuracy_by_key,
    "accuracy-by-time": accuracy_by_time,
    "suites": suites,
}


def _error_rates(axes: "Axes", run: Run, size: float) -> None:
    times = _times(run, size)
    _curve(axes, times, percentages(run.pools, "qber"), ("Mean of links", BLUE, "o"))
    lowest, highest = (percentages(run.pools, f"qber_{end}") for end in ("lowest", "highest"))
    if has(highest):
        axes.fill_between(times, lowest, highest, color=BLUE, alpha=0.25, lw=0, label="Range")
    threshold = 100 * number(run.config.get("abort-qber"))
    if math.isfinite(threshold):
        axes.axhline(threshold, color=VERMILION, ls="--", lw=1.4, label="Abort above")
    axes.set_ylabel("QBER (%)")
    axes.set_ylim(bottom=0)


def _aborted(axes: "Axes", run: Run, size: float) -> None:
    aborted, of = _of_links(run, "aborted")
    _curve(axes, _times(run, size), aborted, (f"Aborted so far, {of}", INK, "o"))
    axes.set_ylabel("blocks")
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))


def _stored(axes: "Axes", run: Run, size: float) -> None:
    stored, of = _of_links(run, "stored")
    unit, bits = fitting_unit(BITS, stored)
    _curve(
        axes, _times(run, size), [level / bits for level in stored], (f"Stored, {of}", BLUE, "o")
    )
    if has(emptiest := column(run.pools, "available_lowest")):
        shown = [level / bits for level in emptiest]
        _curve(axes, _times(run, size), shown, ("Emptiest link", VERMILION, "v"))
    axes.set_ylabel(f"key ({unit})")
    axes.set_ylim(bottom=0)


def _troubles(axes: "Axes", run: Run, size: float) -> None:
    _curve(axes, _times(run, size), column(run.pools, "starved"), TROUBLES["starved"])
    axes.lines[0].set(linewidth=4, alpha=0.35)
    times = [second / size for second in column(run.rounds, "sim_time_s")]
    for key, look in TROUBLES.items():
        counts = column(run.rounds, key)
        if key != "starved" and any(known(counts)):
            _curve(axes, times, counts, look)
    axes.set_ylabel("models so far")
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))


def _accuracies(axes: "Axes", run: Run, size: float) -> None:
    times = [second / size for second in column(run.rounds, "sim_time_s")]
    draw_accuracies(axes, run.rounds, times, ["global_accuracy"])
    axes.set_ylabel("accuracy (%)")


def _of_links(run: Run, key: str) -> tuple[list[float], str]:
    """Return a column per link if the number of links is known, as their sum otherwise.

    A link counts from its first use, with all its past: the sum leaps up whenever one comes in.
    """
    values, links = column(run.pools, key), column(run.pools, "links")
    if all(map(math.isfinite, links)):
        return [value / n for value, n in zip(values, links, strict=True)], "mean of links"
    return values, "sum of links"


def _curve(
    axes: "Axes", places: list[float], values: list[float], look: tuple[str, str, str]
) -> None:
    label, colour, marker = look
    # Unclipped, so that a marker on an axis is whole.
    axes.plot(places, values, color=colour, marker=marker, label=label, clip_on=False)


def _number_rounds(axes: "Axes", run: Run, size: float) -> None:
    """Draw a second axis that numbers the rounds where they end, as many as there is room for."""
    left, right = axes.get_xlim()
    ends: list[tuple[float, float]] = []
    for number_, end in zip(column(run.pools, "round"), _times(run, size), strict=True):
        if not ends or end - ends[-1][1] >= 0.075 * (right - left):
            ends.append((number_, end))
    rounds = axes.secondary_xaxis(-0.5)
    rounds.set_xticks([end for _, end in ends], [f"{number_:.0f}" for number_, _ in ends])
    rounds.set_xlabel("end of round")


def _shade(figure: "Figure", stack: Sequence["Axes"], run: Run, size: float) -> None:
    """Shade the time of each of Eve's attacks in all panels; the legend names it once."""
    legend: dict[str, Any] = {}
    for place, span in enumerate(eve_spans(run)):
        colour, hatch = ATTACKS[place % len(ATTACKS)]
        for axes in stack:
            about = (span.begin / size, span.end / size)
            shade = axes.axvspan(*about, color=colour, alpha=0.2, lw=0)
            lines = axes.axvspan(*about, fill=False, edgecolor=colour, lw=0, hatch=hatch, alpha=0.5)
        legend[fill(f"Eve: {span.attack}", LEGEND_WIDTH)] = shade, lines
    if legend:
        shown = figure.legend(list(legend.values()), list(legend), loc="outside upper left")
        take_literally(shown.get_texts())


def _times(run: Run, size: float) -> list[float]:
    return [second / size for second in column(run.pools, "time_s")]
