"""Figures with a row for each cell: its name, its values, its differences, its clients."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from deffd_flower.config import RunConfig
from deffd_flower.results import cell_figures, row_figures
from deffd_flower.results.cells import read_comparison
from tests.results.drawn import Read, axes_of, whiskers
from tests.results.made_courses import outcome
from tests.results.made_sweeps import write_sweep

pytestmark = pytest.mark.usefixtures("house_style")


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
