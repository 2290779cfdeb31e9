"""Figures of a comparison: cells in groups and along an axis, curves, and how all of them look."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.axes._base import _AxesBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from deffd_flower.results import cell_figures
from deffd_flower.results.comparison_figures import drawings
from deffd_flower.results.course_figures import BYTES, KEY, ROUND, arrange, curve, curves
from deffd_flower.results.courses import Courses
from deffd_flower.results.reader import Course, column
from tests.results.drawn import Read, axes_of, legend, whiskers
from tests.results.made_courses import SHAPES

pytestmark = pytest.mark.usefixtures("house_style")


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
