"""The figures of a run's keys, drawn from runs of the real controller and its ledger."""

import csv
import math
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.qkd.presets import links
from deffd_flower.qkd.production import CALM, Disturbance, block_yield
from deffd_flower.results import chart, key_figures
from deffd_flower.results.figures import draw
from deffd_flower.results.reader import Row, Run, column, read_run
from deffd_flower.results.timeline import Span, eve_spans, first_increase, round_starts
from tests.results.sealed_runs import write_sealed_run

QBER, ABORTED, STORED, TROUBLES, ACCURACY = range(5)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def pools(directory: Path) -> list[dict[str, str]]:
    return [row for row in table(directory / "pools.csv") if row["link"] == "all"]


def curve(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def drawn(directory: Path) -> Figure:
    with style.context(["default", chart.STYLE]):
        figure = key_figures.keys(read_run(directory))
        assert figure is not None
        figure.draw_without_rendering()
    return figure


def run_of(
    pool_rows: list[Row] | None = None,
    rounds: list[Row] | None = None,
    summary: dict[str, object] | None = None,
    **config: object,
) -> Run:
    return Run(Path(), config, rounds or [], [], [], summary or {}, pool_rows or [])


@pytest.mark.parametrize("scenario", ["sealed", "degraded"])
def test_the_ledger_of_a_run_passes_the_audit_and_its_links_balance(
    scenario: str, request: pytest.FixtureRequest
) -> None:
    directory: Path = request.getfixturevalue(scenario)
    rows = table(directory / "keys.csv")
    assert verify_ledger(directory / "keys.csv") == len(rows) > 20
    run = read_run(directory)
    assert {row["link"] for row in run.links} == {row["link"] for row in rows}
    for row in run.links:
        gone = sum(float(row[name]) for name in ("delivered", "stored", "expired", "burnt"))
        assert float(row["produced"]) == gone


def test_the_links_add_up_to_the_run(sealed: Path) -> None:
    run = read_run(sealed)
    sums = {name: sum(column(run.links, name)) for name in ("delivered", "starved", "aborted")}
    assert sums["delivered"] == run.summary["key_bits"]
    assert sums["starved"] == run.summary["starved"]
    assert sums["aborted"] == float(pools(sealed)[-1]["aborted"])
    assert min(sums.values()) > 0


def test_figures_are_there_as_svg_and_png_with_units_and_eve_in_the_legend(sealed: Path) -> None:
    for name in ("keys", "accuracy-by-key", "accuracy-by-time"):
        with Image.open(sealed / "figures" / f"{name}.png") as picture:
            assert picture.width == round(chart.WIDTH * 200)
    assert not (sealed / "figures" / "suites.svg").exists()
    svg = ElementTree.parse(sealed / "figures" / "keys.svg")
    texts = {"".join(e.itertext()) for e in svg.iter() if e.tag.endswith("}text")}
    assert {
        *("QBER (%)", "blocks", "key (kbit)", "models so far", "accuracy (%)"),
        *("simulated time (min)", "end of round", "Mean of links", "Abort above"),
        *("Stored, mean of links", "Emptiest link", "Starved", "Not sent", "Global"),
        "Eve: intercept fraction=0.5 rounds=5-8",
    } <= texts


@pytest.mark.parametrize("suite", ["pqc", "none"])
def test_without_qkd_there_are_no_key_figures(tmp_path: Path, suite: str) -> None:
    keys: dict[str, object] = {"clients": 4, "rounds": 2, "suite": suite}
    directory = write_sealed_run(tmp_path / "run", keys, 5000, finish=False)
    assert not (directory / "pools.csv").exists()
    run = read_run(directory)
    assert [figure(run) for figure in key_figures.FIGURES.values()] == [None] * 4


def test_the_panels_show_what_pools_and_rounds_say(sealed: Path) -> None:
    panels, rows, rounds = drawn(sealed).axes, pools(sealed), table(sealed / "rounds.csv")
    every = [row["round"] for row in table(sealed / "pools.csv")]
    live = [every.count(row["round"]) - 1 for row in rows]
    shares = {
        name: [float(row[name]) / links for row, links in zip(rows, live, strict=True)]
        for name in ("aborted", "stored")
    }
    expected = {
        (QBER, "Mean of links"): [100 * float(row["qber"]) for row in rows],
        (ABORTED, "Aborted so far, mean of links"): shares["aborted"],
        (STORED, "Stored, mean of links"): [bits / 1000 for bits in shares["stored"]],
        (TROUBLES, "Starved"): [float(row["starved"]) for row in rows],
        (TROUBLES, "Not sent"): [float(row["skipped"]) for row in rounds],
        (ACCURACY, "Global"): [100 * float(row["global_accuracy"]) for row in rounds],
    }
    minutes = [float(row["time_s"]) / 60 for row in rows]
    for (panel, label), heights in expected.items():
        places, shown = curve(panels[panel], label)
        assert places == pytest.approx(minutes)
        assert shown == pytest.approx(heights)
        assert max(shown) > 0


def test_the_emptiest_link_is_the_least_available_of_each_round(sealed: Path) -> None:
    links_of: dict[str, list[float]] = {}
    for row in table(sealed / "pools.csv"):
        if row["link"] != "all":
            links_of.setdefault(row["round"], []).append(float(row["available"]) / 1000)
    least = [min(levels) for levels in links_of.values()]
    _, shown = curve(drawn(sealed).axes[STORED], "Emptiest link")
    assert shown == pytest.approx(least)


def test_errors_rise_above_the_threshold_while_eve_listens_and_only_then(sealed: Path) -> None:
    panel = drawn(sealed).axes[QBER]
    _, rates = curve(panel, "Mean of links")
    _, threshold = curve(panel, "Abort above")
    assert threshold == [11.0, 11.0]
    # Rows of rounds 5 to 8 end with blocks that she has intercepted half of.
    link = links.get("idq-class")
    calm, tapped = (
        100 * block_yield(link, 0.11, effect).qber
        for effect in (CALM, Disturbance(intercepted=0.5))
    )
    assert tapped == pytest.approx(calm + 0.5 / 4 * (100 - 2 * calm), abs=0.1)
    assert rates[:4] == pytest.approx([calm] * 4, abs=1e-3)
    assert rates[4:8] == pytest.approx([tapped] * 4, abs=1e-3)
    assert rates[-1] == pytest.approx(calm, abs=1e-3)


def test_the_time_of_eves_attack_is_shaded_in_every_panel(sealed: Path) -> None:
    ends = {int(row["round"]): float(row["time_s"]) for row in pools(sealed)}
    for panel in drawn(sealed).axes:
        shades = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
        assert shades
        for shade in shades:
            edges = shade.get_x(), shade.get_x() + shade.get_width()
            assert edges == pytest.approx((ends[4] / 60, ends[8] / 60))


def test_all_panels_share_one_axis_of_time_with_the_rounds_below(sealed: Path) -> None:
    figure = drawn(sealed)
    assert len({panel.get_xlim() for panel in figure.axes}) == 1
    (rounds,) = figure.axes[-1].child_axes
    ends = {row["round"]: float(row["time_s"]) / 60 for row in pools(sealed)}
    labels = [label.get_text() for label in rounds.get_xticklabels()]
    assert list(rounds.get_xticks()) == pytest.approx([ends[label] for label in labels])
    assert labels[:2] == ["1", "2"]


@pytest.mark.parametrize("rounds", [1, 3, 40])
def test_nothing_overlaps(tmp_path: Path, rounds: int) -> None:
    eve = "intercept fraction=0.5 rounds=1- links=0-1,0-2,0-3; loss decibel=9 seconds=5-; denial"
    keys: dict[str, object] = {"clients": 4, "rounds": rounds, "suite": "aes", "eve": eve}
    directory = write_sealed_run(
        tmp_path / "run", {**keys, "on-starved": "skip"}, 5000, finish=False
    )
    figure = drawn(directory)
    (rounds_axis,) = figure.axes[-1].child_axes
    for axes in [*figure.axes, rounds_axis]:
        for axis in (axes.xaxis, axes.yaxis):
            shown = [label for label in axis.get_ticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in shown if label.get_visible()]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    boxes = [part.get_window_extent() for part in [*figure.legends, *legends]]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    boxes += [
        label.get_window_extent()
        for label in (figure.axes[-1].xaxis.label, rounds_axis.xaxis.label)
    ]
    assert len(boxes) == 1 + 5 + 5 + 2
    for place, box in enumerate(boxes):
        assert not any(box.shrunk(0.98, 0.98).overlaps(other) for other in boxes[:place])
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


def test_windows_of_rounds_and_seconds_are_cut_to_what_the_run_has_seen() -> None:
    pool_rows: list[Row] = [{"round": float(n), "time_s": 10.0 * n} for n in (1, 2, 3, 4)]
    eve = "loss decibel=3 rounds=2-3; denial seconds=15-1000; denial rounds=4-; denial rounds=5-"
    assert eve_spans(run_of(pool_rows, eve=eve)) == [
        Span("loss decibel=3 rounds=2-3", 10, 30),
        Span("denial seconds=15-1000", 15, 40),
        Span("denial rounds=4-", 30, 40),
    ]
    assert eve_spans(run_of(pool_rows, eve="")) == []
    assert eve_spans(run_of(eve="denial")) == []


def test_kinds_of_attack_that_are_not_known_here_are_left_out() -> None:
    pool_rows: list[Row] = [{"round": 1.0, "time_s": 10.0}]
    run = run_of(pool_rows, eve="my-attack power=9; denial; loss")
    assert eve_spans(run) == [Span("denial", 0, 10)]


def test_rounds_begin_as_others_end_as_told_by_pools_or_by_rounds() -> None:
    rounds: list[Row] = [{"round": float(n), "sim_time_s": 10.0 * n} for n in (1, 2)]
    pool_rows: list[Row] = [{"round": 3.0, "time_s": 45.0}]
    second = 10**9
    starts = [(1, 0), (2, 10 * second), (3, 20 * second), (4, 45 * second)]
    assert round_starts(run_of(pool_rows, rounds)) == starts
    gap: list[Row] = [{"round": 1.0, "sim_time_s": math.nan}]
    assert round_starts(run_of(rounds=gap)) == [(1, 0)]


def test_first_increase_counts_from_a_moment_on() -> None:
    values = [(1, 10.0, 2.0), (2, 20.0, 2.0), (3, 30.0, 5.0), (4, 40.0, 5.0)]
    rows: list[Row] = [{"round": float(r), "time_s": t, "aborted": a} for r, t, a in values]
    run = run_of(rows)
    assert [first_increase(run, "aborted", begin) for begin in (0, 10, 20, 30)] == [1, 3, 3, None]


def test_accuracy_is_drawn_against_key_and_time_in_units_of_their_size() -> None:
    columns = {"global_accuracy": 0.1, "local_accuracy": 0.2, "sim_time_s": 3600, "key_bits": 2e6}
    rounds: list[Row] = [{name: n * size for name, size in columns.items()} for n in (1.0, 2.0)]
    run = run_of([{"round": 1.0, "time_s": 3600.0}], rounds)
    by_key, by_time = key_figures.accuracy_by_key(run), key_figures.accuracy_by_time(run)
    assert by_key is not None
    assert by_time is not None
    axes = by_key.axes[0]
    assert axes.get_xlabel() == "key used by all models so far (Mbit)"
    assert axes.get_xscale() == "linear"
    assert curve(axes, "Global") == ([2, 4], [10, 20])
    assert curve(axes, "Local") == ([2, 4], [20, 40])
    assert len(axes.lines) == 2
    assert by_time.axes[0].get_xlabel() == "simulated time (min)"
    assert curve(by_time.axes[0], "Global")[0] == [60, 120]


def test_key_over_decades_is_drawn_on_a_logarithmic_axis_in_bits() -> None:
    rounds: list[Row] = [{"global_accuracy": 0.5, "key_bits": 256.0 * 10**n} for n in range(4)]
    figure = key_figures.accuracy_by_key(run_of(rounds=rounds))
    assert figure is not None
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_xlabel() == "key used by all models so far (bit)"
    assert curve(figure.axes[0], "Global")[0] == [256, 2560, 25600, 256000]


def test_where_the_number_of_links_is_not_known_their_sum_is_drawn() -> None:
    row: Row = {"round": 1.0, "time_s": 10.0, "stored": 8000.0, "aborted": 4.0, "starved": 0.0}
    summed, shared = run_of([{**row, "links": math.nan}]), run_of([{**row, "links": 2.0}])
    for run, of, stored in ((summed, "sum of links", 8), (shared, "mean of links", 4)):
        figure = key_figures.keys(run)
        assert figure is not None
        assert curve(figure.axes[STORED], f"Stored, {of}")[1] == [stored]
        assert len(figure.axes) == 4


def test_suites_are_compared_by_their_share_of_the_bytes(degraded: Path) -> None:
    run = read_run(degraded)
    sealed = run.summary["bytes_by_suite"]
    assert isinstance(sealed, dict)
    assert set(sealed) == {"otp", "aes", "pqc"}
    figure = key_figures.suites(run)
    assert figure is not None
    (bars,) = figure.axes[0].containers
    shares = sorted(100 * size / sum(sealed.values()) for size in sealed.values())
    assert [bar.get_width() for bar in bars] == pytest.approx(shares)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"{share:.1f} %" for share in shares]
    alone: dict[str, object] = {"bytes_by_suite": {"otp": 5}}
    assert key_figures.suites(run_of(summary=alone)) is None


def test_names_are_drawn_as_they_are_not_as_formulas() -> None:
    pool_rows: list[Row] = [{"round": 1.0, "time_s": 10.0}]
    eve, mine = "denial links=$\\frac-b$", "mine:$\\frac$"
    summary: dict[str, object] = {"bytes_by_suite": {mine: 1, "aes": 2}}
    for draw_one in (key_figures.keys, key_figures.suites):
        figure = draw_one(run_of(pool_rows, summary=summary, eve=eve))
        assert figure is not None
        figure.draw_without_rendering()
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert {f"Eve: {eve}", mine} & set(texts)


def test_the_same_run_gives_the_same_figures(sealed: Path) -> None:
    before = {path: path.read_bytes() for path in sealed.glob("figures/*.*")}
    draw(read_run(sealed))
    assert len(before) > 10
    assert {path: path.read_bytes() for path in before} == before
