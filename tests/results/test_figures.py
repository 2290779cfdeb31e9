import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import style
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from PIL import Image

from deffd_flower.results import chart, figures
from deffd_flower.results.reader import Row, Run, read_run

NAMES = ["learning-curves", "accuracy-by-traffic", "clients", "partition", "losses"]
DRAWN = [*NAMES, "accuracy-by-key"]
MakeRun = Callable[..., Path]


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if tag(e) == "text"]


def tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def heights(line: Line2D) -> list[float]:
    return [float(height) for height in np.asarray(line.get_ydata())]


def run_of(
    rounds: list[Row] | None = None,
    clients: list[Row] | None = None,
    partition: list[list[float]] | None = None,
) -> Run:
    return Run(Path(), {}, rounds or [], clients or [], partition or [], {})


def test_every_figure_is_there_as_svg_and_as_png(finished: Path) -> None:
    for name in NAMES:
        svg = (finished / "figures" / f"{name}.svg").read_text()
        assert tag(ElementTree.fromstring(svg)) == "svg"
        with Image.open(finished / "figures" / f"{name}.png") as picture:
            assert picture.format == "PNG"
            assert picture.width == round(chart.WIDTH * 200)


def test_axes_carry_units_and_legends_name_what_is_drawn(finished: Path) -> None:
    drawn = {name: (finished / "figures" / f"{name}.svg").read_text() for name in NAMES}
    accuracies = {"Global", "Local", "Local with prior", "Held classes", "Absent classes"}
    spread = "Global ± sd over clients"
    assert {*accuracies, spread, "round", "accuracy (%)"} <= set(texts(drawn["learning-curves"]))
    traffic = {*accuracies, spread, "sent by all clients so far (MB)", "accuracy (%)"}
    assert traffic <= set(texts(drawn["accuracy-by-traffic"]))
    assert {*accuracies, "Worst tenth", "accuracy (%)"} <= set(texts(drawn["clients"]))
    assert {"samples", "class", "client"} <= set(texts(drawn["partition"]))
    losses = texts(drawn["losses"])
    assert {"Fusion: cross-entropy", "Fusion: KL divergence", "round"} <= set(losses)
    assert "Fusion: feature maps" not in losses


def test_the_same_run_gives_the_same_bytes_in_another_process(finished: Path) -> None:
    kinds = ("figures/*.svg", "figures/*.png", "report.html")
    before = {path: path.read_bytes() for kind in kinds for path in finished.glob(kind)}
    program = (
        "import sys; from pathlib import Path; from deffd_flower.results.report import render;"
        "render(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(finished)], check=True)
    assert len(before) == 2 * len(DRAWN) + 1
    assert {path: path.read_bytes() for path in before} == before


def test_drawing_leaves_matplotlibs_global_state_alone(make_run: MakeRun) -> None:
    # Reading the key "backend" would itself choose one and load pyplot.
    program = (
        "import sys, matplotlib; from pathlib import Path;"
        "from deffd_flower.results.report import render;"
        "rc = matplotlib.rcParams; state = lambda: {k: rc[k] for k in rc if k != 'backend'};"
        "before = state(); render(Path(sys.argv[1]));"
        "print('matplotlib.pyplot' in sys.modules, state() == before)"
    )
    arguments = [sys.executable, "-c", program, str(make_run(rounds=1, finish=False))]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]


def test_figures_without_data_are_not_drawn() -> None:
    nothing = run_of(rounds=[{"round": 1.0, "global_accuracy": math.nan, "loss_ce": math.nan}])
    assert [draw(nothing) for draw in figures.FIGURES.values()] == [None] * len(figures.FIGURES)


def test_without_traffic_there_is_no_traffic_figure() -> None:
    rounds: list[Row] = [{"round": 1.0, "global_accuracy": 0.5, "bytes_sent": 0.0}]
    assert figures.accuracy_by_traffic(run_of(rounds=rounds)) is None
    assert figures.learning_curves(run_of(rounds=rounds)) is not None


def test_curves_show_percent_against_rounds_and_megabytes() -> None:
    rounds: list[Row] = [
        {"round": 5.0, "global_accuracy": 0.25, "bytes_sent": 2e6},
        {"round": 10.0, "global_accuracy": 0.75, "bytes_sent": 4e6},
    ]
    for draw, places in ((figures.learning_curves, [5, 10]), (figures.accuracy_by_traffic, [2, 4])):
        figure = draw(run_of(rounds=rounds))
        assert figure is not None
        (line,) = figure.axes[0].lines
        assert np.asarray(line.get_xdata()).tolist() == places
        assert heights(line) == [25, 75]


def test_the_consensus_distance_is_drawn_from_zero_where_clients_told_it() -> None:
    rounds: list[Row] = [{"round": r, "consensus_distance": 5 - r} for r in (1.0, 2.0)]
    figure = figures.consensus(run_of(rounds=rounds))
    assert figure is not None
    axes = figure.axes[0]
    assert heights(axes.lines[0]) == [4, 3]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylabel() == "consensus distance (units of the weights)"


def test_the_band_is_one_standard_deviation_and_one_round_gets_a_bar() -> None:
    row: Row = {"round": 1.0, "global_accuracy": 0.5, "global_accuracy_std": 0.1}
    banded = figures.learning_curves(run_of(rounds=[row, {**row, "round": 2.0}]))
    barred = figures.learning_curves(run_of(rounds=[row]))
    assert banded is not None
    assert barred is not None
    box = banded.axes[0].collections[0].get_paths()[0].get_extents()
    assert (box.ymin, box.ymax) == pytest.approx((40, 60))
    (bar,) = barred.axes[0].containers
    assert isinstance(bar, ErrorbarContainer)
    assert [heights(cap) for cap in bar[1]] == [pytest.approx([40]), pytest.approx([60])]


def test_clients_are_sorted_by_global_accuracy_and_the_worst_tenth_is_rounded_up() -> None:
    accuracies = [0.5, 0.2, math.nan, 0.4, 0.3, *[0.9] * 6]
    rows: list[Row] = [{"client": float(c), "global_accuracy": a} for c, a in enumerate(accuracies)]
    assert figures.worst_tenth(rows) == [1, 4]
    figure = figures.clients(run_of(clients=rows))
    assert figure is not None
    (dots,) = figure.axes[0].lines
    assert heights(dots)[:4] == pytest.approx([20, 30, 40, 50])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["1", "4", "3", "0", "5", "6", "7", "8", "9", "10", "2"]


def test_counts_are_written_into_the_cells_of_small_partitions_only(make_run: MakeRun) -> None:
    small = figures.partition(run_of(partition=[[3.0, 0.0], [1234.0, 7.0]]))
    large = figures.partition(run_of(partition=[[3.0, 0.0]] * 21))
    assert small is not None
    assert large is not None
    assert sorted(text.get_text() for text in small.axes[0].texts) == ["1234", "3", "7"]
    assert list(large.axes[0].texts) == []


@pytest.mark.parametrize("clients", [10, 20, 100])
def test_labels_do_not_overlap(make_run: MakeRun, clients: int) -> None:
    run = read_run(make_run(clients=clients, finish=False))
    for name in DRAWN:
        with style.context(["default", chart.STYLE]):
            figure = figures.FIGURES[name](run)
            assert figure is not None
            figure.draw_without_rendering()
            for axes in figure.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    boxes = [
                        label.get_window_extent()
                        for label in axis.get_ticklabels()
                        if label.get_text() and label.get_visible()
                    ]
                    overlaps = [a.overlaps(b) for a, b in pairwise(boxes)]
                    assert not any(overlaps), f"{name}: {axis}"


def test_loss_scale_is_logarithmic_only_where_terms_lie_far_apart() -> None:
    near = figures.losses(run_of(rounds=[{"round": 1.0, "loss_ce": 1.0, "loss_kl": 0.5}]))
    far = figures.losses(run_of(rounds=[{"round": 1.0, "ce": 1.0, "feature": 0.001}]))
    assert near is not None
    assert far is not None
    assert near.axes[0].get_yscale() == "linear"
    assert far.axes[0].get_yscale() == "log"
