"""What each client gains, worked out by hand on two clients, two seeds and two evaluations."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from deffd_flower.config import RunConfig
from deffd_flower.results.cell_tables import markdown
from deffd_flower.results.cells import Comparison, read_comparison
from deffd_flower.results.comparison import write_comparison
from deffd_flower.results.courses import Courses, read_courses
from deffd_flower.results.gain_figures import client_gains
from deffd_flower.results.gains import gain_grids, gains
from deffd_flower.results.trials import read_trials
from deffd_flower.results.writer import RunWriter
from tests.results.made_sweeps import write_sweep

SWEEP = """
    base: {dataset: digits, clients: 3, rounds: 3, final-evaluations: 2, model: "mlp*2,cnn"}
    grid:
      cells:
        - strategy: [local, def-kt]
    seeds: 2
    metrics: [global_accuracy, key_bits]
    reference: {strategy: local}
"""

ALONE = {0: 0.50, 1: 0.60, 2: 0.70}
GAINS = {(0, 0): 0.10, (0, 1): 0.30, (1, 0): 0.04, (1, 1): -0.02, (2, 0): 0.02, (2, 1): 0.06}
"""By client and seed, under Def-KT: the mean of the last two evaluations."""


def accuracy(config: RunConfig, client: int, server_round: int) -> float:
    gain = GAINS[client, config.seed] if config.strategy == "def-kt" else 0.0
    # The first round must not count, and the last two count alike.
    wave = {1: 0.2, 2: -0.05, 3: 0.05}[server_round]
    return ALONE[client] + 0.1 * config.seed + gain + wave


def outcome(_: RunConfig) -> Mapping[str, object]:
    return {"global_accuracy": 0.5, "key_bits": 10}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    directory = write_sweep(tmp_path / "s", SWEEP, outcome)
    for trial in (trial for cell in read_trials([directory]).trials for trial in cell):
        writer = RunWriter(trial.directory, trial.config.values(), figures=False)
        for server_round in (1, 2, 3):
            writer.round_row({"round": server_round, "global_accuracy": 0.5})
            writer.client_rows(
                [
                    {
                        "round": server_round,
                        "client": client,
                        "model": trial.config.cast.name(client),
                        "global_accuracy": accuracy(trial.config, client, server_round),
                    }
                    for client in range(3)
                ]
            )
        writer.finish(outcome(trial.config))
    return directory


def read(sweep: Path) -> tuple[Comparison, Courses]:
    comparison = read_comparison([sweep])
    return comparison, read_courses(comparison.cells)


def test_a_gain_is_the_clients_own_paired_by_seed_over_the_last_evaluations(sweep: Path) -> None:
    found = gains(*read(sweep), "global_accuracy")
    assert list(found) == [1], "the reference has nothing to gain"
    assert [gain.client for gain in found[1]] == [0, 1, 2]
    assert [gain.model for gain in found[1]] == ["mlp", "mlp", "cnn"]
    for gain in found[1]:
        expected = [GAINS[gain.client, seed] for seed in (0, 1)]
        assert list(gain.by_seed.values()) == pytest.approx(expected)
    # t(0.975, 1) = 12.706, and half the distance of two values is their standard error.
    first = found[1][0].summary
    assert (first.mean, first.margin) == pytest.approx((0.20, 12.706205 * 0.10))


def test_the_table_has_a_row_for_each_architecture(sweep: Path) -> None:
    (grid,) = gain_grids(*read(sweep))
    assert grid.title == "Global accuracy: what each client gains on Local training"
    assert markdown(grid).splitlines()[-2:] == [
        # Both mlp's gain 7 and 14 points in the two runs; client 1 gains one, give or take 38.
        "| Def-KT | mlp | 2 of 2 | 3 of 4 | +10.5 | +7.0 to +14.0 | +1.0 ± 38.1 (client 1) |",
        "| Def-KT | cnn | 1 of 1 | 2 of 2 | +4.0 | +2.0 to +6.0 | +4.0 ± 25.4 (client 2) |",
    ]


def test_clients_are_kept_so_that_run_directories_may_go(sweep: Path) -> None:
    before = gain_grids(*read(sweep))
    page = write_comparison(sweep).read_text("utf-8")
    assert before[0].title in page
    assert before[0].title in (sweep / "table.md").read_text("utf-8")
    with (sweep / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    assert {(row["cell"], row["trial"]) for row in rows} == {
        (cell, f"{strategy}_seed-{seed}")
        for cell, strategy in (("0", "local"), ("1", "def-kt"))
        for seed in (0, 1)
    }
    kept = (sweep / "clients.csv").read_bytes()
    shutil.rmtree(sweep / "runs")
    assert gain_grids(*read(sweep)) == before
    write_comparison(sweep)
    assert (sweep / "clients.csv").read_bytes() == kept


def test_without_clients_or_a_reference_there_is_nothing_to_show(sweep: Path) -> None:
    shutil.rmtree(sweep / "runs")
    comparison, courses = read(sweep)
    assert gain_grids(comparison, courses) == []
    assert client_gains(comparison, courses, "global_accuracy") is None


def test_the_figure_has_a_whisker_for_each_client(sweep: Path) -> None:
    comparison, courses = read(sweep)
    figure = client_gains(comparison, courses, "global_accuracy")
    assert figure is not None
    axes = figure.axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "Client with mlp, mean with 95 % interval",
        "Client with cnn, mean with 95 % interval",
    ]
    drawn = [bars for bars in axes.containers if isinstance(bars, ErrorbarContainer)]
    means = [np.asarray(bars.lines[0].get_xdata()).tolist() for bars in drawn]
    assert means == [pytest.approx([20.0, 1.0]), pytest.approx([4.0])]
    heights = [y for bars in drawn for y in np.asarray(bars.lines[0].get_ydata()).tolist()]
    assert heights == sorted(heights), "the first client on top, where the axis begins"
    low, high = axes.get_ylim()
    assert low > high
