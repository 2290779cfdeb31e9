import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axes._base import _AxesBase
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

from deffd_flower.config import RunConfig
from deffd_flower.results import cell_figures, chart, row_figures
from deffd_flower.results.cells import Comparison, read_comparison
from deffd_flower.results.comparison_figures import drawings
from deffd_flower.results.course_figures import BYTES, KEY, ROUND, arrange, curve, curves
from deffd_flower.results.courses import Courses
from deffd_flower.results.reader import Course, column, read_course
from tests.results.made_courses import SHAPES, make_sweep, outcome
from tests.results.made_sweeps import write_sweep

Read = Callable[[str], tuple[Comparison, Courses]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return a function that returns the comparison of a shape, and how its runs went."""
    known: dict[str, tuple[Comparison, Courses]] = {}

    def of_shape(shape: str) -> tuple[Comparison, Courses]:
        if shape not in known:
            directory = make_sweep(tmp_path_factory.mktemp(shape) / "sweep", shape)
            comparison = read_comparison([directory])
            runs = [[read_course(t.directory) for t in c.trials] for c in comparison.cells]
            known[shape] = comparison, runs
        return known[shape]

    return of_shape


@pytest.fixture(autouse=True)
def house_style() -> Iterator[None]:
    with style.context(["default", chart.STYLE]):
        yield


def axes_of(figure: Figure | None) -> Axes:
    assert figure is not None
    return figure.axes[0]


def whiskers(axes: Axes) -> list[tuple[str, list[tuple[float, ...]]]]:
    """Return label, and place, mean and both ends of each interval, of what is drawn."""
    found = []
    for bars in axes.containers:
        assert isinstance(bars, ErrorbarContainer)
        dots, _, (lines,) = bars.lines
        ends = [np.asarray(segment) for segment in lines.get_segments()]
        places = np.asarray(dots.get_xydata()).tolist()
        spans = [(*place, *end.ravel().tolist()) for place, end in zip(places, ends, strict=True)]
        found.append((str(bars.get_label()), spans))
    return found


def legend(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def test_two_keys_are_drawn_in_groups_with_students_interval_and_every_seed(read: Read) -> None:
    comparison, _ = read("grouped")
    figure = cell_figures.values(comparison, "global_accuracy")
    axes = axes_of(figure)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["l2", "cos", "mse"]
    assert axes.get_ylabel() == "Global accuracy (%)"
    assert legend(figure) == [
        "gamma 0.01", "gamma 0.02", "gamma 0.03", "One seed", "Mean of l2 · gamma 0.01",
    ]  # fmt: skip
    label, spans = whiskers(axes)[0]
    assert label == "gamma 0.01"
    # Seeds 52, 54 and 56 %, l2 with 2 points and gamma with 0.01: Student's t(0.975, 2) = 4.3027.
    place, mean, low_place, low, high_place, high = spans[0]
    assert place == low_place == high_place
    assert -0.5 < place < 0.5
    margin = 4.302653 * 2 / 3**0.5
    assert (mean, low, high) == pytest.approx((54.11, 54.11 - margin, 54.11 + margin))
    small = [line for line in axes.lines if line.get_alpha() == 0.5 and line.get_marker() == "o"]
    seeds = [np.asarray(line.get_xydata()) for line in small]
    assert sum(map(len, seeds)) == 27
    assert seeds[0][:3, 1] == pytest.approx([52.11, 54.11, 56.11])


def test_groups_stand_apart_and_in_the_order_of_the_sweep(read: Read) -> None:
    comparison, _ = read("grouped")
    drawn = whiskers(axes_of(cell_figures.values(comparison, "local_accuracy")))
    places = sorted(span[0] for _, spans in drawn for span in spans)
    gaps = [after - before for before, after in pairwise(places)]
    assert min(gaps) > 0.15
    assert [round(place) for place in places] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_many_numbers_of_one_key_make_a_line_with_a_band_on_a_logarithmic_axis(read: Read) -> None:
    comparison, _ = read("along")
    axes = axes_of(cell_figures.values(comparison, "global_accuracy"))
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "gamma"
    lines = {str(line.get_label()): line for line in axes.lines}
    assert {"l2", "mse"} <= lines.keys()
    assert np.asarray(lines["l2"].get_xdata()).tolist() == [0.001, 0.01, 0.1, 1, 10]
    at_ten = 100 * (0.3 + 0.2 + 0.02 + 10 / 100 + 0.001 + 0.02)
    assert np.asarray(lines["l2"].get_ydata())[-1] == pytest.approx(at_ten)
    band = axes.collections[0].get_paths()[0].get_extents()
    margin = 4.302653 * 2 / 3**0.5
    assert band.ymax == pytest.approx(at_ten + margin, abs=1e-4)


def test_a_reference_with_none_of_their_keys_is_a_line_across_the_groups(read: Read) -> None:
    comparison, _ = read("against")
    figure = cell_figures.values(comparison, "global_accuracy")
    axes = axes_of(figure)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["l2", "cos", "mse"]
    assert sum(len(spans) for _, spans in whiskers(axes)) == 9
    line = next(line for line in axes.lines if line.get_label() == "Mean of Def-KT")
    assert np.asarray(line.get_ydata())[0] == pytest.approx(
        100 * comparison.cells[0].summaries["global_accuracy"].mean
    )
    panels = arrange(comparison, "global_accuracy")
    assert [panel.title for panel in panels] == ["l2", "cos", "mse"]
    assert all(panel.names[0] == "Def-KT" for panel in panels)


def test_a_single_line_is_named_by_what_is_drawn(read: Read) -> None:
    figure = cell_figures.values(read("many")[0], "global_accuracy")
    assert legend(figure) == ["Mean, 95 % interval", "One seed", "Mean of lr 0.001"]


def test_other_cells_have_a_row_each_from_the_first_on_top(read: Read) -> None:
    comparison, _ = read("rows")
    axes = axes_of(cell_figures.values(comparison, "global_accuracy"))
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[0] == "Def-FD"
    assert names[-1] == "FedAvg", "that its suite is none, its name tells"
    ((_, spans),) = whiskers(axes)
    assert [span[1] for span in spans] == list(range(7))
    bottom, top = axes.get_ylim()
    assert bottom > top
    reference = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert reference.get_label() == "Mean of Def-KT"
    assert np.asarray(reference.get_xdata())[0] == pytest.approx(spans[1][0])


def test_what_rows_have_in_common_stands_once_above_them(read: Read) -> None:
    comparison, _ = read("panels")
    axes = axes_of(row_figures.values(comparison, "global_accuracy"))
    labels = {tick.get_text(): str(tick.get_fontweight()) for tick in axes.get_yticklabels()}
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[:3] == ["l2 · gamma 0.01", "classes-per-client 2", "classes-per-client 5"]
    assert labels["l2 · gamma 0.01"] == "bold"
    assert labels["classes-per-client 2"] == "normal"
    ((_, spans),) = whiskers(axes)
    rows = [place for place, name in zip(axes.get_yticks(), names, strict=True) if "per" in name]
    assert len(rows) == len(comparison.cells)
    assert sorted(span[1] for span in spans) == pytest.approx(sorted(rows))


@pytest.mark.parametrize(
    "cells",
    [
        # Neighbours share nothing: a heading would stand above each row.
        [
            {"strategy": strategy, "gamma": gamma}
            for gamma in (0.1, 0.2)
            for strategy in ("def-fd", "average-then-distil")
        ],
        # Some have nothing else to be told apart by.
        [
            {"strategy": strategy, **own}
            for strategy in ("def-fd", "def-kt")
            for own in ({}, {"lr": 0.02}, {"momentum": 0.5})
        ],
    ],
)
def test_rows_without_a_common_part_have_their_whole_names(
    cells: list[dict[str, object]], tmp_path: Path
) -> None:
    text = json.dumps({"base": {"dataset": "digits"}, "grid": {"cells": cells}, "seeds": 2})
    comparison = read_comparison([write_sweep(tmp_path / "made", text, outcome)])
    labels = axes_of(row_figures.values(comparison, "global_accuracy")).get_yticklabels()
    assert len(labels) == len(cells)
    assert {str(label.get_fontweight()) for label in labels} == {"normal"}
    assert "all runs" not in [label.get_text() for label in labels]


def test_a_difference_has_the_unit_of_what_is_drawn(tmp_path: Path) -> None:
    def keys_used(config: RunConfig) -> dict[str, object]:
        return {
            "global_accuracy": 0.5,
            "key_bits": 1500 + config.seed * (config.gamma == 0.2) * 700,
        }

    text = "base: {dataset: digits}\ngrid: {gamma: [0.1, 0.2]}\nseeds: [1, 2, 3]\n"
    text += "metrics: [key_bits]\nreference: {gamma: 0.1}\n"
    comparison = read_comparison([write_sweep(tmp_path / "made", text, keys_used)])
    axes = axes_of(row_figures.differences(comparison, "key_bits"))
    assert axes.get_xlabel().replace("\n", " ") == "Key used: difference to gamma 0.1 (kbit)"
    ((_, spans),) = whiskers(axes)
    assert spans[0][0] == pytest.approx(1.4)


def test_a_name_is_broken_between_its_parts_and_a_long_part_between_its_words(
    read: Read,
) -> None:
    comparison, _ = read("long")
    axes = axes_of(row_figures.values(comparison, "global_accuracy"))
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[0] == "no eve"
    assert names[1].startswith("eve intercept\nfraction=0.40\nrounds=5-12")
    # A line more makes a row half a name higher: here the second and the third have four.
    steps = [after - before for before, after in pairwise(axes.get_yticks())]
    assert steps == pytest.approx([1.75, 2.5])


def test_one_seed_has_no_whisker_and_no_dot_of_its_own(read: Read) -> None:
    comparison, _ = read("one")
    axes = axes_of(cell_figures.values(comparison, "global_accuracy"))
    ((_, spans),) = whiskers(axes)
    assert len(spans) == 1
    assert spans[0] == pytest.approx((52.11, 0.0))
    assert "One seed" not in [line.get_label() for line in axes.lines]


def test_the_forest_shows_each_pair_the_bootstrap_interval_and_holms_p(read: Read) -> None:
    comparison, _ = read("grouped")
    axes = axes_of(row_figures.differences(comparison, "global_accuracy"))
    ((_, spans),) = whiskers(axes)
    cells = [cell for cell in comparison.cells if cell.partner is not None]
    assert len(spans) == len(cells) == 8
    for span, cell in zip(spans, cells, strict=True):
        found = cell.differences["global_accuracy"]
        ends = (found.bootstrap.low, found.bootstrap.high)
        assert (span[0], span[2], span[4]) == pytest.approx(100 * np.array([found.mean, *ends]))
    # cos minus l2 at the same gamma: one point less with every seed.
    assert spans[2][0] == pytest.approx(-1)
    (right,) = axes.child_axes
    told = [tick.get_text() for tick in right.get_yticklabels()]
    assert told == [f"{cell.differences['global_accuracy'].holm:.2g}" for cell in cells]
    assert right.get_ylabel() == "p (Holm)"
    assert axes.get_xlabel().replace("\n", " ") == (
        "Global accuracy: difference to l2 · gamma 0.01 (points)"
    )


def test_held_and_absent_classes_are_apart_by_what_was_made_up(read: Read) -> None:
    comparison, _ = read("rows")
    held, absent = whiskers(axes_of(row_figures.held_and_absent(comparison)))
    assert (held[0], absent[0]) == ("Held classes", "Absent classes")
    for own, other in zip(held[1], absent[1], strict=True):
        assert own[0] - other[0] == pytest.approx(25)


def test_every_client_is_a_dot_and_the_worst_tenth_of_each_run_is_marked(read: Read) -> None:
    comparison, courses = read("rows")
    axes = axes_of(row_figures.clients(comparison, courses))
    dots = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    # A tenth of 12 clients, rounded up, are 2; 3 seeds and 7 cells.
    assert len(dots["Worst tenth of its run"]) == 2 * 3 * 7
    assert len(dots["Client"]) == 10 * 3 * 7
    first_row = dots["Worst tenth of its run"][:6]
    worst = sorted(course.clients[n]["global_accuracy"] for course in courses[0] for n in (0, 1))
    assert first_row[:, 0] == pytest.approx([100 * float(value) for value in worst])
    assert np.abs(first_row[:, 1]).max() <= 0.2


def test_a_thousand_clients_are_drawn_as_quantiles_alone(read: Read) -> None:
    comparison, courses = read("one")
    rows = [{**courses[0][0].clients[0], "global_accuracy": n / 1000} for n in range(1000)]
    crowd = [[type(courses[0][0])(rounds=[], clients=rows)]]
    axes = axes_of(row_figures.clients(comparison, crowd))
    (median,) = axes.lines
    assert np.asarray(median.get_xdata()).tolist() == pytest.approx([49.95])


def test_a_curve_is_the_mean_over_seeds_of_the_rounds_that_all_of_them_have(read: Read) -> None:
    _, courses = read("grouped")
    shorter = [*courses[0][:2], type(courses[0][2])(courses[0][2].rounds[:3], [])]
    drawn = curve(shorter, "global_accuracy", BYTES)
    assert list(drawn.places) == pytest.approx([600_000, 1_200_000, 1_800_000])
    assert [summary.n for summary in drawn.summaries] == [3, 3, 3]
    # Round 1 of l2 with gamma 0.01 and lr 0.01, with seeds 0, 1 and 2.
    assert drawn.summaries[0].mean == pytest.approx(0.3 + 0.05 + 0.02 + 0.0001 + 0.001 + 0.02)


def test_curves_against_traffic_are_in_megabytes_and_leave_out_who_sends_nothing(
    read: Read,
) -> None:
    comparison, courses = read("rows")
    figure = curves(comparison, courses, "global_accuracy", BYTES)
    assert figure is not None
    assert figure.get_supxlabel() == "sent by all clients so far (MB)"
    assert "Local training" not in legend(figure)
    (fedavg,) = [line for line in axes_of(figure).lines if max(np.asarray(line.get_xdata())) > 3]
    assert np.asarray(fedavg.get_xdata()).tolist() == pytest.approx([2.4, 4.8, 7.2, 9.6])


def test_a_cell_keeps_its_colour_where_others_are_left_out(read: Read) -> None:
    comparison, courses = read("rows")
    found = []
    for against in (ROUND, BYTES, KEY):
        figure = curves(comparison, courses, "global_accuracy", against)
        assert figure is not None
        (shown,) = figure.legends
        texts = [text.get_text() for text in shown.get_texts()]
        colours = [line.get_color() for line in shown.get_lines()]
        found.append(dict(zip(texts, colours, strict=True)))
    everywhere = set.intersection(*map(set, found))
    assert everywhere == {"Def-FD", "Def-KT", "Hand-off", "FullAvg", "Combo"}
    assert all(len({colours[name] for colours in found}) == 1 for name in everywhere)
    assert len(set(found[0].values())) == 7


def test_more_cells_than_colours_are_divided_into_the_fewest_legible_panels(read: Read) -> None:
    panels = arrange(read("panels")[0], "global_accuracy")
    assert [panel.title for panel in panels] == ["l2", "cos", "mse"]
    assert list(panels[0].names.values())[:2] == [
        "gamma 0.01 · classes-per-client 2",
        "gamma 0.01 · classes-per-client 5",
    ]


def test_where_no_key_divides_them_the_best_and_the_reference_stand_out(read: Read) -> None:
    comparison, _ = read("many")
    (panel,) = arrange(comparison, "global_accuracy")
    named = [number for number, name in panel.names.items() if name]
    assert named == [0, 6, 7, 8, 9, 10, 11]


def test_what_cells_spend_is_drawn_logarithmically_where_they_spend_unlike(read: Read) -> None:
    comparison, courses = read("one")
    alike = curves(comparison, courses, "global_accuracy", KEY)
    assert axes_of(alike).get_xscale() == "linear"
    comparison, courses = read("against")
    dear = [{**row, KEY: 1000 * column([row], KEY)[0]} for row in courses[0][0].rounds]
    unlike = [[Course(dear, run.clients) for run in courses[0]], *courses[1:]]
    drawn = curves(comparison, unlike, "global_accuracy", KEY)
    assert drawn is not None
    assert {axes.get_xscale() for axes in drawn.axes if axes.get_visible()} == {"log"}


def test_of_cells_with_equal_results_one_stands_out(read: Read) -> None:
    comparison, _ = read("many")
    twin = replace(comparison.cells[11], summaries=comparison.cells[10].summaries)
    (panel,) = arrange(replace(comparison, cells=[*comparison.cells[:11], twin]), "global_accuracy")
    assert [number for number, name in panel.names.items() if name] == [0, 5, 6, 7, 8, 9, 10]


def test_consensus_is_drawn_where_the_rounds_have_it(read: Read) -> None:
    comparison, courses = read("along")
    figure = curves(comparison, courses, "consensus_distance", ROUND)
    assert figure is not None
    assert figure.get_supylabel() == "Consensus distance (units of the weights)"
    gone: Courses = [[] for _ in comparison.cells]
    assert curves(comparison, gone, "consensus_distance", ROUND) is None


def shown_texts(figure: Figure) -> list[Text]:
    """Return what a figure shows of text: not the labels of ticks beyond an axis's ends."""
    beyond = set()
    for axes in figure.findobj(_AxesBase):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not (axes.get_visible() and low <= tick.get_loc() <= high):
                    beyond |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    visible = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return [text for text in visible if text not in beyond]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_overlaps_another_or_leaves_the_figure(read: Read, shape: str) -> None:
    comparison, courses = read(shape)
    drawn = {name: one.draw() for name, one in drawings(comparison, courses).items()}
    assert any(drawn.values())
    for name, figure in drawn.items():
        if figure is None:
            continue
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown_texts(figure)]
        assert len(boxes) > 3
        for (one, box), (other, another) in combinations(boxes, 2):
            apart = not box.overlaps(another.padded(-1.0))
            assert apart, f"{shape}, {name}: {one!r} and {other!r}"
        for text, box in boxes:
            inside = figure.bbox.padded(1.0)
            assert inside.contains(box.x0, box.y0), f"{shape}, {name}: {text!r}"
            assert inside.contains(box.x1, box.y1), f"{shape}, {name}: {text!r}"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_axis_has_a_name(read: Read, shape: str) -> None:
    comparison, courses = read(shape)
    for name, one in drawings(comparison, courses).items():
        figure = one.draw()
        if figure is not None:
            axes = figure.axes[0]
            # A row is named by its own label.
            named = axes.yaxis_inverted() or axes.get_ylabel() or figure.get_supylabel()
            assert named, name
            assert axes.get_xlabel() or figure.get_supxlabel(), name
