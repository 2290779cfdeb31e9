"""From the rows of a sweep to cells, means and paired differences."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from deffd_flower.config import RunConfig, parse
from deffd_flower.errors import RequestError
from deffd_flower.request import resolve
from deffd_flower.results.cell_notes import footnotes
from deffd_flower.results.cells import read_comparison
from deffd_flower.results.statistics import compare, holm, summarise
from deffd_flower.results.trials import read_trials
from tests.results.made_sweeps import write_run, write_sweep

LUCK = [0.00, 0.10, -0.05, 0.20, 0.03]
"""What a seed does to every strategy alike."""

GAIN = {"def-kt": 0.0, "def-fd": 0.02, "full-avg": -0.01}
WOBBLE = [0.001, -0.002, 0.003, 0.004, -0.001]
"""What a seed does to Def-FD's gain."""

THREE = """
    title: Three strategies
    description: Which one?
    base: {dataset: digits, clients: 4, rounds: 2, suite: none}
    grid: {strategy: [def-kt, def-fd, full-avg]}
    seeds: 5
    metrics: [global_accuracy, models_sent, absent_accuracy]
    reference: {strategy: def-kt}
"""


def accuracy(config: RunConfig) -> float:
    wobble = WOBBLE[config.seed] if config.strategy == "def-fd" else 0.0
    return 0.4 + LUCK[config.seed] + GAIN[config.strategy] + wobble


def summary(config: RunConfig) -> dict[str, object]:
    absent = None if config.strategy == "full-avg" else 0.1 + LUCK[config.seed]
    return {
        "strategy": config.strategy,
        "global_accuracy": accuracy(config),
        "models_sent": 4.0,
        "absent_accuracy": absent,
        "key_bits": 1024,
        "sim_time_s": 60.0,
        "engine": "in-process",
    }


def values(strategy: str) -> list[float]:
    return [accuracy(parse({"strategy": strategy, "seed": seed})) for seed in range(5)]


def test_a_cell_is_a_setting_with_its_seeds(tmp_path: Path) -> None:
    comparison = read_comparison([write_sweep(tmp_path / "s", THREE, summary)])
    assert (comparison.title, comparison.description) == ("Three strategies", "Which one?")
    assert list(comparison.keys) == ["strategy"]
    assert [cell.label for cell in comparison.cells] == [
        "Def-KT",
        "Def-FD",
        "FullAvg",
    ]
    for cell in comparison.cells:
        assert [trial.config.seed for trial in cell.trials] == [0, 1, 2, 3, 4]
        assert cell.missing == 0
        own = values(str(cell.keys["strategy"]))
        assert cell.summaries["global_accuracy"] == summarise(own)
    assert comparison.seeds == range(5, 6)


def test_differences_are_paired_by_seed_and_corrected_together(tmp_path: Path) -> None:
    comparison = read_comparison([write_sweep(tmp_path / "s", THREE, summary)])
    reference, def_fd, full_avg = comparison.cells
    assert (reference.partner, def_fd.partner, full_avg.partner) == (None, 0, 0)
    assert not reference.differences
    found = def_fd.differences["global_accuracy"]
    alone = compare(values("def-fd"), values("def-kt"))
    assert found.mean == pytest.approx(0.02 + sum(WOBBLE) / 5)
    assert (found.p, found.bootstrap) == (alone.p, alone.bootstrap)
    # The seeds' luck, of a spread of 0.1, has cancelled; the wobble is left.
    assert found.sd < 0.005 < def_fd.summaries["global_accuracy"].sd
    both = [cell.differences["global_accuracy"] for cell in (def_fd, full_avg)]
    assert [one.holm for one in both] == holm([one.p for one in both]) == [0.125, 0.125]


def test_what_does_not_vary_with_the_seed_is_not_tested(tmp_path: Path) -> None:
    comparison = read_comparison([write_sweep(tmp_path / "s", THREE, summary)])
    assert all("models_sent" not in cell.differences for cell in comparison.cells)
    assert comparison.cells[1].summaries["models_sent"].mean == 4.0


def test_a_metric_that_a_cell_has_no_value_of_is_left_out(tmp_path: Path) -> None:
    comparison = read_comparison([write_sweep(tmp_path / "s", THREE, summary)])
    _, def_fd, full_avg = comparison.cells
    assert "absent_accuracy" not in {**full_avg.summaries, **full_avg.differences}
    assert def_fd.differences["absent_accuracy"].mean == 0.0
    assert def_fd.differences["absent_accuracy"].holm == 1.0


def test_a_failed_trial_is_missing_and_takes_its_pair_along(tmp_path: Path) -> None:
    def outcome(config: RunConfig) -> dict[str, object] | None:
        return None if (config.strategy, config.seed) == ("def-kt", 3) else summary(config)

    comparison = read_comparison([write_sweep(tmp_path / "s", THREE, outcome)])
    reference, def_fd, _ = comparison.cells
    assert (len(reference.trials), reference.missing) == (4, 1)
    assert (len(def_fd.trials), def_fd.missing) == (5, 0)
    kept = [seed for seed in range(5) if seed != 3]
    expected = compare(*([values(s)[seed] for seed in kept] for s in ("def-fd", "def-kt")))
    assert def_fd.differences["global_accuracy"].n == 4
    assert def_fd.differences["global_accuracy"].mean == pytest.approx(expected.mean)


def test_each_group_is_compared_with_its_own_reference(tmp_path: Path) -> None:
    text = THREE.replace(
        "strategy: [def-kt, def-fd, full-avg]",
        "strategy: [def-kt, def-fd], classes-per-client: [2, 8]",
    )

    def outcome(config: RunConfig) -> dict[str, object]:
        easier = 0.1 * config.classes_per_client
        return {**summary(config), "global_accuracy": accuracy(config) + easier}

    comparison = read_comparison([write_sweep(tmp_path / "s", text, outcome)])
    assert [cell.partner for cell in comparison.cells] == [None, None, 0, 1]
    gains = [cell.differences["global_accuracy"].mean for cell in comparison.cells[2:]]
    assert gains == pytest.approx([0.021, 0.021])


def test_without_a_reference_nothing_is_compared(tmp_path: Path) -> None:
    text = THREE.replace("reference: {strategy: def-kt}", "")
    comparison = read_comparison([write_sweep(tmp_path / "s", text, summary)])
    assert all(not cell.differences and cell.partner is None for cell in comparison.cells)


def test_keys_that_only_some_cells_set_are_left_out_of_the_others(tmp_path: Path) -> None:
    text = THREE.replace(
        "grid: {strategy: [def-kt, def-fd, full-avg]}",
        "grid: {cells: [{strategy: def-kt}, {gamma: [0.1, 1], strategy: def-fd}]}",
    )
    comparison = read_comparison([write_sweep(tmp_path / "s", text, summary)])
    assert list(comparison.keys) == ["strategy", "gamma"]
    assert [dict(cell.keys) for cell in comparison.cells] == [
        {"strategy": "def-kt"},
        {"strategy": "def-fd", "gamma": 0.1},
        {"strategy": "def-fd", "gamma": 1},
    ]


def test_accuracy_per_key_bit_and_per_simulated_hour(tmp_path: Path) -> None:
    text = THREE.replace("models_sent", "accuracy_per_key_bit, accuracy_per_simulated_hour")
    comparison = read_comparison([write_sweep(tmp_path / "s", text, summary)])
    means = comparison.cells[0].summaries
    accuracy_mean = means["global_accuracy"].mean
    assert means["accuracy_per_key_bit"].mean == pytest.approx(accuracy_mean / 1024)
    assert means["accuracy_per_simulated_hour"].mean == pytest.approx(accuracy_mean * 60)


def test_no_key_bits_give_no_ratio(tmp_path: Path) -> None:
    text = THREE.replace("models_sent", "accuracy_per_key_bit")
    comparison = read_comparison(
        [write_sweep(tmp_path / "s", text, lambda config: {**summary(config), "key_bits": 0})]
    )
    assert "accuracy_per_key_bit" not in comparison.cells[0].summaries


def test_the_table_of_a_sweep_without_its_runs_is_enough(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "s", THREE, summary)
    assert {path.name for path in directory.iterdir()} == {"sweep.yaml", "sweep.csv"}
    trial = read_comparison([directory]).cells[1].trials[2]
    assert trial.directory == directory / "runs" / "def-fd_seed-2"
    assert trial.config == resolve(
        {"dataset": "digits", "clients": 4, "rounds": 2, "suite": "none"}
        | {"strategy": "def-fd", "seed": 2}
    )
    assert "engine" not in trial.results
    assert math.isnan(trial.value("absent"))
    assert trial.value("key_bits") == 1024


def test_a_table_that_lacks_a_trial_is_refused(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "s", THREE, summary)
    lines = (directory / "sweep.csv").read_text("utf-8").splitlines(keepends=True)
    (directory / "sweep.csv").write_text("".join(lines[:-1]), "utf-8")
    with pytest.raises(RequestError, match=r"no trial 'full-avg_seed-4'; .*--resume"):
        read_comparison([directory])


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_a_table_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    directory = write_sweep(tmp_path / "s", THREE, summary)
    (directory / "sweep.csv").write_text(content, "utf-8")
    with pytest.raises(RequestError, match=r"sweep\.csv"):
        read_comparison([directory])


def test_columns_of_another_version_do_no_harm(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "s", THREE, summary)
    before = read_comparison([directory])
    with (directory / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["dkd-beta"]
        row["of-the-future"] = "blue"
    with (directory / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    after = read_comparison([directory])
    assert [cell.summaries for cell in after.cells] == [cell.summaries for cell in before.cells]


def runs(folder: Path, *requests: Mapping[str, object]) -> list[Path]:
    configs = [resolve({"dataset": "digits", "clients": 4, **request}) for request in requests]
    return [
        write_run(folder / f"run{number}", config, summary(config))
        for number, config in enumerate(configs)
    ]


def test_run_directories_are_grouped_by_all_keys_but_seeds(tmp_path: Path) -> None:
    requests = [
        {"strategy": strategy, "seed": seed, **({} if strategy == "def-kt" else {"gamma": 0.5})}
        for seed in (0, 1)
        for strategy in ("def-kt", "def-fd")
    ]
    comparison = read_comparison(runs(tmp_path, *requests))
    # Def-KT fixes gamma, which therefore tells its cell from no other.
    assert [cell.label for cell in comparison.cells] == ["Def-KT", "Def-FD"]
    assert [len(cell.trials) for cell in comparison.cells] == [2, 2]


def test_the_same_run_twice_is_one_observation(tmp_path: Path) -> None:
    paths = runs(tmp_path, {"seed": 0, "strategy": "def-kt"}, {"seed": 1, "strategy": "def-kt"})
    again = runs(tmp_path / "again", {"seed": 0, "strategy": "def-kt"})
    (cell,) = read_comparison([*paths, *again]).cells
    assert [trial.config.seed for trial in cell.trials] == [0, 1]


def test_other_partitions_are_other_observations(tmp_path: Path) -> None:
    requests = [{"strategy": "def-kt", "partition-seed": seed} for seed in (0, 1, 2)]
    (cell,) = read_comparison(runs(tmp_path, *requests)).cells
    assert [trial.seeds for trial in cell.trials] == [(0, s, 0, 0) for s in (0, 1, 2)]


def test_an_unfinished_run_is_missing(tmp_path: Path) -> None:
    paths = runs(tmp_path, {"seed": 0, "strategy": "def-kt"}, {"seed": 1, "strategy": "def-kt"})
    (paths[1] / "summary.json").unlink()
    (cell,) = read_comparison(paths).cells
    assert (len(cell.trials), cell.missing) == (1, 1)


def test_sweeps_and_runs_can_be_put_together(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", THREE, summary)
    asked = read_trials([sweep, *runs(tmp_path, {"strategy": "def-fd", "rounds": 9})])
    assert sorted(map(len, asked.trials)) == [1, 5, 5, 5]
    assert {"rounds": 9, "strategy": "def-fd", "suite": "aes"}.items() <= asked.cells[3].items()


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"is not a run directory"):
        read_comparison([tmp_path])


def test_what_a_strategy_implies_is_said_once_and_in_no_cells_name(tmp_path: Path) -> None:
    sweep = """
        base: {dataset: digits, clients: 4, rounds: 2, suite: none}
        grid:
          classes-per-client: [2, 5]
          cells:
            - strategy: [def-kt, def-fd]
            - {strategy: full-avg, lr: 0.02, momentum: [0, 0.5]}
        metrics: [global_accuracy]
    """
    comparison = read_comparison([write_sweep(tmp_path / "s", sweep, summary)])
    assert comparison.keys == ["classes-per-client", "strategy", "momentum"]
    assert comparison.implied == {"full-avg": {"lr": 0.02}}
    assert [cell.label for cell in comparison.cells[:4]] == [
        "classes-per-client=2, Def-KT",
        "classes-per-client=2, Def-FD",
        "classes-per-client=2, FullAvg, momentum=0",
        "classes-per-client=2, FullAvg, momentum=0.5",
    ]
    assert footnotes(comparison)[0] == "FullAvg: lr=0.02."


@pytest.mark.parametrize(
    "grid",
    [
        "cells: [{strategy: def-fd, lr: 0.02}, {momentum: 0, lr: 0.03}]",
        "cells: [{strategy: def-fd, lr: 0.02}, {strategy: def-fd, lr: 0.03}]",
        "cells: [{lr: 0.02}, {momentum: 0}]",
    ],
)
def test_what_no_strategy_implies_is_said_of_each_cell(tmp_path: Path, grid: str) -> None:
    sweep = f"base: {{dataset: digits, clients: 4, rounds: 2, suite: none}}\ngrid: {{{grid}}}"
    comparison = read_comparison([write_sweep(tmp_path / "s", sweep, summary)])
    assert comparison.implied == {}
    assert "lr" in comparison.keys


def test_a_key_that_a_cell_does_not_read_has_no_value_there(tmp_path: Path) -> None:
    sweep = """
        base: {dataset: digits, clients: 6, rounds: 2}
        grid:
          cells:
            - {suite: none, topology: ring}
            - {suite: aes, topology: small-world, topology-degree: 2}
    """
    comparison = read_comparison([write_sweep(tmp_path / "s", sweep, summary)])
    ring, small_world = comparison.cells
    assert [ring.value(key) for key in ("topology", "topology-degree", "link")] == [
        "ring",
        None,
        None,
    ]
    assert small_world.value("topology-degree") == 2
    assert small_world.value("link") == "lim-metro-10km"
