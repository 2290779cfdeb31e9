import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D

from deffd_flower.results.chart import BLUE, VERMILION
from deffd_flower.results.gossip_figures import caption, gossip, traffic_pairs
from deffd_flower.results.reader import Row, Run
from tests.results.test_figures import run_of


def sent(sender: str, receiver: str, models: float, unsent: float = 0) -> Row:
    return {"sender": sender, "receiver": receiver, "models": models, "unsent": unsent}


def run_with(traffic: list[Row], clients: int = 4, **keys: object) -> Run:
    rows: list[Row] = [{"client": float(c), "global_accuracy": c / 10} for c in range(clients)]
    run = run_of(clients=rows)
    run.config.update({"clients": clients, **{k.replace("_", "-"): v for k, v in keys.items()}})
    run.traffic.extend(traffic)
    return run


def axes_of(run: Run) -> Axes:
    figure = gossip(run)
    assert figure is not None
    return figure.axes[0]


def edges(axes: Axes, colour: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_color() == colour]


def nodes(axes: Axes) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in axes.texts}


def joins(line: Line2D, axes: Axes, one: str, other: str) -> bool:
    ends = np.asarray(line.get_xydata())
    return bool(np.allclose(ends, [nodes(axes)[one], nodes(axes)[other]]))


TRAFFIC = [sent("2", "0", 1), sent("0", "2", 3), sent("10", "9", 1), sent("3", "1", 0, 2)]


def test_both_ways_between_two_clients_are_one_pair() -> None:
    assert traffic_pairs(run_with(TRAFFIC, clients=12)) == [
        ("0", "2", 4, 0),
        ("1", "3", 0, 2),
        ("9", "10", 1, 0),
    ]


def test_a_lines_width_says_how_many_models_were_sent() -> None:
    axes = axes_of(run_with(TRAFFIC, clients=12))
    busy, quiet = edges(axes, BLUE)
    assert joins(busy, axes, "0", "2")
    assert joins(quiet, axes, "9", "10")
    assert busy.get_linewidth() == 7
    assert quiet.get_linewidth() == pytest.approx(0.8 + 6.2 / 4)
    legend = axes.get_legend()
    assert legend is not None
    told = {
        text.get_text(): line.get_linewidth()
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert told["1"] == quiet.get_linewidth()
    assert told["4 models sent"] == busy.get_linewidth()


def test_where_a_model_was_not_sent_a_dashed_line_says_so() -> None:
    axes = axes_of(run_with(TRAFFIC, clients=12))
    (dashed,) = edges(axes, VERMILION)
    assert joins(dashed, axes, "1", "3")
    assert dashed.is_dashed()
    assert caption(run_with(TRAFFIC, clients=12)) == (
        "Models sent over the whole run: 5 between 2 pairs, most between 0 and 2 (4). "
        "2 were not sent that should have been."
    )


def test_nothing_sent_at_all_is_still_drawn() -> None:
    run = run_with([sent("0", "1", 0, 3)])
    assert edges(axes_of(run), BLUE) == []
    assert caption(run).startswith("Nothing was sent.")


def test_who_was_to_send_nothing_has_no_figure() -> None:
    assert gossip(run_with([])) is None


def test_the_server_of_fedavg_is_in_the_middle() -> None:
    traffic = [sent("server", str(c), 2) for c in range(4)]
    axes = axes_of(run_with([*traffic, *[sent(str(c), "server", 2) for c in range(4)]]))
    assert nodes(axes)["server"] == (0, 0)
    assert len(edges(axes, BLUE)) == 4


def test_a_clients_colour_is_its_accuracy_in_percent() -> None:
    figure = gossip(run_with([sent("0", "1", 1)]))
    assert figure is not None
    (dots,) = figure.axes[0].collections
    assert np.asarray(dots.get_array()).tolist() == pytest.approx([0, 10, 20, 30])
    assert figure.axes[1].get_ylabel() == "global accuracy (%)"


@pytest.mark.parametrize(
    ("clients", "keys"),
    [
        (30, {}),
        (12, {"topology": "torus"}),
        (30, {"topology": "ring"}),
        (24, {"topology": "random-regular", "topology_degree": 4}),
        (30, {"topology": "small-world"}),
        (20, {"topology": "erdos-renyi", "topology_probability": 0.2}),
    ],
)
def test_no_client_hides_another(clients: int, keys: dict[str, object]) -> None:
    figure = gossip(run_with([sent("0", "1", 1)], clients=clients, **keys))
    assert figure is not None
    figure.draw_without_rendering()
    axes = figure.axes[0]
    places = axes.transData.transform([nodes(axes)[str(client)] for client in range(clients)])
    (dots,) = axes.collections
    assert isinstance(dots, PathCollection)
    radius = math.sqrt(float(dots.get_sizes()[0])) / 2 * figure.dpi / 72
    nearest = min(math.dist(one, other) for one, other in combinations(places.tolist(), 2))
    assert nearest > 2 * radius * 0.9


def test_neighbours_that_never_wrote_are_drawn_thin() -> None:
    axes = axes_of(run_with([sent("0", "1", 1)], clients=6, topology="ring"))
    assert len([line for line in axes.lines if line.get_linewidth() == 0.8]) == 6


def test_an_edge_list_that_is_gone_is_no_obstacle() -> None:
    axes = axes_of(run_with([sent("0", "1", 1)], topology="gone.yaml"))
    assert len(axes.lines) == 1


def test_many_clients_are_a_matrix_of_senders_and_receivers() -> None:
    axes = axes_of(run_with([sent("3", "40", 5), sent("40", "3", 1)], clients=50))
    (image,) = axes.images
    models = np.asarray(image.get_array(), dtype=float)
    assert models[3, 40] == 5
    assert models[40, 3] == 1
    assert np.isnan(models).sum() == 50 * 50 - 2
    assert axes.get_xlabel() == "receiver (client)"
    assert axes.get_ylabel() == "sender (client)"


def test_many_clients_of_a_server_are_a_sorted_line() -> None:
    traffic = [sent("server", str(client), client % 3 + 1) for client in range(50)]
    axes = axes_of(run_with(traffic, clients=50))
    heights = np.asarray(axes.lines[0].get_ydata()).tolist()
    assert heights == sorted(heights)
    assert (min(heights), max(heights)) == (1, 3)
