"""The tables of ``README.md``, made of the committed results, so that nobody types a number.

`python -m tests.docs.tables` writes them into the page.
"""

import math
from functools import cache
from typing import NamedTuple

import yaml

from deffd_flower.config import RunConfig
from deffd_flower.results.cell_notes import footnotes
from deffd_flower.results.cell_tables import (
    CSV,
    MARKDOWN,
    Grid,
    grids,
    interval_text,
    listed,
    markdown,
)
from deffd_flower.results.cells import Cell, Comparison, paired_values, read_comparison
from deffd_flower.results.courses import CLIENTS, read_courses
from deffd_flower.results.gains import gain_grids
from deffd_flower.results.metrics import amount, signed
from deffd_flower.results.statistics import compare
from deffd_flower.results.table import NOTHING, duration
from deffd_flower.results.trials import ROWS
from deffd_flower.sweep.load import load_sweep
from experiments import HERE, RESULTS, SWEEPS

CORES = 2

CLIENT_BY_CLIENT = {"mixed"}
"""Experiments that ask what each client gains."""

ALSO_SHOWN = {
    "mixed": ["gains-global-accuracy", "gains-local-accuracy-prior"],
    "key-budget": ["global-accuracy-by-key"],
    "recipe": ["global-accuracy-by-traffic"],
    "strategies": ["global-accuracy-by-traffic"],
}
"""Further drawings on the page."""


class Published(NamedTuple):
    """A row of the paper's figure 4; accuracies in percent, as printed."""

    feature_loss: str
    gamma: float
    global_accuracy: float
    local_accuracy: float


def result_table(name: str) -> str:
    """Return what an experiment has shown: a picture, means, differences of the first metric."""
    comparison = result(name)
    if comparison is None:
        return "No results yet.\n"
    shown = grids(comparison)[:2]
    if name in CLIENT_BY_CLIENT:
        shown += gain_grids(comparison, read_courses(comparison.cells))[:2]
    pictures = [_picture(name, drawing) for drawing in _shown(name, comparison)]
    notes = listed(footnotes(comparison))
    return "\n".join([*pictures, *map(markdown, shown), notes, _files(name)])


def times_table() -> str:
    """Return how many runs each sweep has, and how long they took: all run times over `CORES`."""
    rows, total = [], 0.0
    for name in SWEEPS:
        sweep = load_sweep(HERE / f"{name}.yaml", {})
        seconds = _seconds(name) / CORES
        total += seconds
        counts = [str(len(sweep.trials)), str(len(sweep.seeds))]
        rows.append([f"`{name}.yaml`", *counts, duration(seconds or math.nan)])
    rows.append(["all", str(sum(int(row[1]) for row in rows)), "", duration(total or math.nan)])
    head = ["sweep", "runs", "seeds", "run times, added up and halved"]
    return markdown(Grid(f"On {CORES} cores", head, keys=1, rows=rows))


def beside_the_paper() -> str:
    """Return the paper's figure 4 with our numbers for the same losses and weights."""
    comparison, rows = result("fig4"), []
    for row in published():
        cell = find(comparison, row.feature_loss, row.gamma) if comparison else None
        cells = [row.feature_loss.upper(), f"{row.gamma:g}"]
        for metric in ("global_accuracy", "local_accuracy"):
            cells += [f"{getattr(row, metric):.2f}", _ours(cell, metric)]
        rows.append(cells)
    head = ["loss", "gamma", "global, paper", "global, ours", "local, paper", "local, ours"]
    return markdown(Grid("Accuracy (%), the paper's and ours", head, keys=1, rows=rows))


def what_distilling_adds() -> str:
    """Return Def-FD+ minus an average of the same calibration, learning rate and passes."""
    rows = []
    for name, source in (("recipe", "20 rounds"), ("heterogeneity", "10 rounds")):
        comparison = result(name)
        cells = comparison.cells if comparison else []
        rows += [
            [source, *_added(ours, average)]
            for ours in cells
            if ours.config.strategy == "def-fd-plus"
            for average in cells
            if _distils_not(average.config, ours.config)
        ]
    head = ["", "classes", "class-alpha", "seeds", "Global (points)", "95 %"]
    head += ["Local with prior (points)", "95 %"]
    return markdown(Grid("Def-FD+ minus FullAvg, paired", head, keys=3, rows=rows))


def _distils_not(average: RunConfig, ours: RunConfig) -> bool:
    """Say whether a run differs from one of Def-FD+ in distilling alone."""
    same = ("classes_per_client", "class_alpha", "rounds", "calibrate", "lr", "lr_schedule")
    return (
        average.strategy == "full-avg"
        and average.average_epochs == ours.fusion_epochs
        and all(getattr(average, key) == getattr(ours, key) for key in same)
    )


def _added(ours: Cell, average: Cell) -> list[str]:
    config = ours.config
    texts = [str(config.classes_per_client), f"{config.class_alpha:g}", str(len(ours.trials))]
    for metric in ("global_accuracy", "local_accuracy_prior"):
        pairs = paired_values(ours, average, metric)
        found = compare([own for own, _ in pairs], [other for _, other in pairs])
        texts += [signed(metric, found.mean), interval_text(metric, found.bootstrap)]
    return texts


def chosen_weights() -> dict[str, float]:
    """Return the weight of each loss that figure 3 finds best on the validation split."""
    comparison = result("fig3")
    best: dict[str, tuple[float, float]] = {}
    for cell in comparison.cells if comparison else []:
        if "gamma" in cell.keys and "global_accuracy" in cell.summaries:
            loss, gamma = str(cell.keys["feature-loss"]), float(cell.keys["gamma"])
            best[loss] = max(
                best.get(loss, (-1.0, 0.0)), (cell.summaries["global_accuracy"].mean, -gamma)
            )
    return {loss: -negative for loss, (_, negative) in best.items()}


def published() -> list[Published]:
    """Return what the paper's figure 4 says."""
    content = yaml.safe_load((HERE / "paper-results.yaml").read_text("utf-8"))
    return [Published(*row.values()) for row in content["figure-4"]]


@cache
def result(name: str) -> Comparison | None:
    """Return an experiment's committed result; ``None`` if there is none yet."""
    directory = RESULTS / name
    return read_comparison([directory]) if directory.is_dir() else None


def find(comparison: Comparison, loss: str, gamma: float) -> Cell | None:
    """Return the cell of a loss and weight."""
    wanted = {"feature-loss": loss, "gamma": gamma}
    found = [cell for cell in comparison.cells if wanted.items() <= dict(cell.keys).items()]
    return found[0] if found else None


def _ours(cell: Cell | None, metric: str) -> str:
    if cell is None or metric not in cell.summaries:
        return NOTHING
    summary = cell.summaries[metric]
    return f"{amount(metric, summary.mean)} ± {amount(metric, summary.margin)}"


def _seconds(name: str) -> float:
    """Return the run times of an experiment's trials, added up; 0 without results."""
    comparison = result(name)
    trials = [trial for cell in comparison.cells for trial in cell.trials] if comparison else []
    return math.fsum(trial.results.get("wall_s", 0.0) for trial in trials)


def _shown(name: str, comparison: Comparison) -> list[str]:
    """Return the drawings on the page: the first metric, and what more an experiment is about."""
    metric = comparison.metrics[0].replace("_", "-")
    return [f"cells-{metric}", *ALSO_SHOWN.get(name, [])]


def _picture(name: str, drawing: str) -> str:
    return f"![{drawing.replace('-', ' ')}](results/{name}/figures/{drawing}.svg)\n"


def _files(name: str) -> str:
    """Return links to whatever else there is of a result."""
    directory = RESULTS / name
    names = (MARKDOWN, CSV, ROWS, CLIENTS, "report.html")
    files = [directory / name for name in names]
    links = [f"[{file.name}]({file.relative_to(HERE)})" for file in files if file.is_file()]
    drawings = sorted((directory / "figures").glob("*.svg"))
    links += [f"[{file.stem}]({file.relative_to(HERE)})" for file in drawings]
    return f"All of it: {', '.join(links)}.\n"
