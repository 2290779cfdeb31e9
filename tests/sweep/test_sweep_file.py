"""What a sweep file means, and what is said about a wrong one."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.request import resolve
from deffd_flower.sweep.document import METRICS, Range
from deffd_flower.sweep.load import load_sweep
from deffd_flower.sweep.plan import Sweep

Load = Callable[..., Sweep]

DIGITS = "base: {dataset: digits}\n"


def cells(sweep: Sweep) -> list[dict[str, object]]:
    return [dict(cell) for cell in sweep.cells]


def test_every_combination_is_a_cell_and_the_first_key_varies_slowest(load: Load) -> None:
    sweep = load(DIGITS + "grid: {gamma: [0.1, 0.2], feature-loss: [l2, cos]}")
    assert cells(sweep) == [
        {"gamma": 0.1, "feature-loss": "l2"},
        {"gamma": 0.1, "feature-loss": "cos"},
        {"gamma": 0.2, "feature-loss": "l2"},
        {"gamma": 0.2, "feature-loss": "cos"},
    ]


def test_keys_of_a_group_vary_together_and_groups_vary_with_everything_else(load: Load) -> None:
    sweep = load(
        DIGITS
        + """
        grid:
          gamma: [1, 2]
          zip:
            - {lr: [0.1, 0.2], momentum: [0.5, 0.9]}
        """.replace("\n        ", "\n")
    )
    assert cells(sweep) == [
        {"gamma": gamma, "lr": lr, "momentum": momentum}
        for gamma in (1.0, 2.0)
        for lr, momentum in ((0.1, 0.5), (0.2, 0.9))
    ]
    alone = load(DIGITS + "grid: {zip: {lr: [0.1, 0.2], momentum: [0.5, 0.9]}}")
    assert cells(alone) == [{"lr": 0.1, "momentum": 0.5}, {"lr": 0.2, "momentum": 0.9}]


def test_cells_need_not_have_the_same_keys_and_are_grids_themselves(load: Load) -> None:
    sweep = load(
        DIGITS
        + dedent("""
        grid:
          classes-per-client: [2, 8]
          cells:
            - {strategy: def-kt}
            - {strategy: def-fd, feature-loss: [l2, cos]}
        """)
    )
    ways: list[dict[str, object]] = [
        {"strategy": "def-kt"},
        {"strategy": "def-fd", "feature-loss": "l2"},
        {"strategy": "def-fd", "feature-loss": "cos"},
    ]
    assert cells(sweep) == [{"classes-per-client": n, **way} for n in (2, 8) for way in ways]


def test_the_powers_of_ten_of_a_logarithmic_range_are_exact(load: Load) -> None:
    sweep = load(DIGITS + "grid: {gamma: {from: 1e-3, to: 1e2, steps: 6, log: true}}")
    assert [cell["gamma"] for cell in sweep.cells] == [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]


@given(st.floats(0.001, 100), st.floats(0.001, 100), st.integers(2, 30), st.booleans())
def test_a_range_has_its_ends_and_equal_distances(
    start: float, end: float, steps: int, log: bool
) -> None:
    drawn = {"from": start, "to": end, "steps": steps, "log": log}
    values = [float(value) for value in Range.model_validate(drawn).values()]
    assert len(values) == steps
    assert values[0] == pytest.approx(start, rel=1e-5)
    assert values[-1] == pytest.approx(end, rel=1e-5)
    for before, value, after in zip(values, values[1:], values[2:], strict=False):
        middle = (before * after) ** 0.5 if log else (before + after) / 2
        assert value == pytest.approx(middle, rel=1e-4, abs=1e-4 * max(start, end))


def test_a_range_of_whole_numbers_is_of_whole_numbers(load: Load) -> None:
    sweep = load(DIGITS + "grid: {rounds: {from: 10, to: 30, steps: 3}}")
    assert [cell["rounds"] for cell in sweep.cells] == [10, 20, 30]
    assert [trial.config.rounds for trial in sweep.trials] == [10, 20, 30]


def test_trials_are_each_cell_with_each_seed_fully_resolved(load: Load) -> None:
    sweep = load(DIGITS + "grid: {strategy: [def-kt, def-fd]}\nseeds: [3, 5]")
    asked = [("def-kt", 3), ("def-kt", 5), ("def-fd", 3), ("def-fd", 5)]
    assert [(t.config.strategy, t.config.seed) for t in sweep.trials] == asked
    for trial, (strategy, seed) in zip(sweep.trials, asked, strict=True):
        request = {"dataset": "digits", "strategy": strategy, "seed": seed}
        assert trial.config == resolve(request)


def test_a_number_of_seeds_counts_from_zero(load: Load) -> None:
    assert load(DIGITS + "seeds: 4").seeds == [0, 1, 2, 3]
    assert load(DIGITS).seeds == [0]
    assert load("base: {dataset: digits, seed: 7}").seeds == [7]


def test_a_base_may_be_other_files_keys_and_the_command_line_in_that_order(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "common.yaml").write_text("dataset: digits\nclients: 4\nrounds: 9\nlr: 0.5\n")
    sweep = load("base: [common.yaml, {rounds: 7, lr: 0.2}]", lr="0.1")
    config = sweep.trials[0].config
    assert (config.clients, config.rounds, config.lr) == (4, 7, 0.1)
    assert load("base: common.yaml").trials[0].config.rounds == 9


def test_the_config_of_an_earlier_run_will_do_as_base(load: Load, tmp_path: Path) -> None:
    earlier = resolve({"dataset": "digits", "clients": 4, "gamma": 0.5})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(earlier.values()))
    assert load("base: config.yaml\nseeds: 2").trials[0].config == earlier


def test_flowers_spellings_work_here_too(load: Load) -> None:
    sweep = load(DIGITS + "grid: {num-server-rounds: [2, 3]}")
    assert cells(sweep) == [{"rounds": 2}, {"rounds": 3}]


def test_the_resolved_copy_asks_for_the_same_trials_by_the_same_names(
    load: Load, tmp_path: Path
) -> None:
    sweep = load(
        DIGITS
        + dedent("""
        title: Both
        description: To see.
        grid:
          zip: {classes-per-client: [2, 8], gamma: [1e-2, 5e-1]}
          cells: [{feature-loss: l2}, {feature-loss: cos, kd-weight: {from: 0, to: 1, steps: 2}}]
        seeds: 2
        reference: {feature-loss: l2}
        stop: {grace-rounds: 4}
        """)
    )
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(sweep.document(), sort_keys=False))
    copy = load_sweep(tmp_path / "copy.yaml", {})
    assert copy.document() == sweep.document()
    assert copy.trials == sweep.trials
    assert [t.identity for t in copy.trials] == [t.identity for t in sweep.trials]


WRONG = {
    "grid: {gama: [1, 2]}": "try.yaml:2: grid.gama[0]: there is no such key. Did you mean 'gamma'?",
    "grid: {gamma: [1, -1]}": "try.yaml:2: grid.gamma[1]=-1: must be at least 0",
    "grid:\n  gamma:\n    - 1\n    - -1\n": "try.yaml:5: grid.gamma[1]=-1: must be at least 0",
    "grid: {gamma: []}": "try.yaml:2: grid.gamma: ",
    "grid: {gamma: [[1]]}": "try.yaml:2: grid.gamma[0]: must be a number, text, true or false",
    "grid: {gamma: null}": "try.yaml:2: grid.gamma: must be a number, text, true or false",
    "grid: {gamma: {from: 1, to: 2}}": "try.yaml:2: grid.gamma: needs steps",
    "grid: {gamma: {from: 1, to: 2, steps: 1}}": "grid.gamma.steps=1: must be at least 2",
    "grid: {gamma: {from: 0, to: 2, steps: 2, log: true}}": "must be above 0 for log: true",
    "grid: {gamma: {from: 1, to: 2, step: 1}}": "try.yaml:2: grid.gamma",
    "grid: {zip: {lr: [1, 2], gamma: [1]}}": "as many values of each key, but there are: lr 2",
    "grid: {gamma: 1, cells: [{gamma: 2}]}": "grid.cells[0].gamma: gamma varies at try.yaml:2",
    "grid: {feature-loss: [l2, l2]}": "feature-loss=l2 and feature-loss=l2 are the same",
    "grid: {cells: [{strategy: def-fd}, {gamma: 0.01}]}": "strategy=def-fd and gamma=0.01 are",
    "grid: {strategy: [def-kt], gamma: [0.5]}": "try.yaml:2: grid.gamma[0]=0.5: ",
    "grid: {clients: [4, 6], topology: [random-regular], topology-degree: [5]}": "topology",
    "grid: {seed: [1, 2]}": "try.yaml:2: grid.seed[0]: give seeds: at the top",
    "grid: {workers: [1, 2]}": "--workers says how many run at a time",
    "grid: {out-dir: [a, b]}": "trials are written below --out",
    "gamma: [1, 2]": "try.yaml:2: gamma: there is no such key. It is a key of runs; move it below",
    "seed: 5": "It is a key of runs",
    "gird: {gamma: [1]}": "Did you mean 'grid'?",
    "grid: {gamma: 1}\ngrid: {gamma: 2}": "try.yaml:3: grid: is given twice",
    "seeds: 0": "try.yaml:2: seeds=0: must be at least 1, or a list of seeds",
    "seeds: []": "try.yaml:2: seeds: ",
    "seeds: [1, -2]": "try.yaml:2: seeds[1]=-2: must be at least 0",
    "seeds: [1, 1]": "try.yaml:2: seeds: names a seed twice",
    "metrics: [accuracy]": "try.yaml:2: metrics[0]=accuracy: must be one of",
    "metrics: [consensus_distance]": "metrics: consensus_distance needs consensus-distance: true",
    "reference: {strategy: def-fd}": "reference: fits no cell, or leaves none",
    "grid: {gamma: [1, 2]}\nreference: {gamma: 3}": "try.yaml:3: reference: fits no cell",
    "grid: {gamma: [1, 2]}\nreference: {clients: 10}": "leaves none to compare with it",
    "grid: {gamma: [1, 2]}\nreference: {gamma: x}": "reference.gamma=x: must be",
    "grid: {cells: [{strategy: def-fd-plus, lr: 0.01}]}": (
        "try.yaml:2: grid.cells[0].lr=0.01: strategy=def-fd-plus sets it to 0.02; leave it out"
    ),
    "stop: {metric: global_accuracy}": "try.yaml:2: stop: needs grace-rounds",
    "stop: {grace-rounds: 20}": "stop.grace-rounds=20: must be less than the 20 rounds",
    "stop: {grace-rounds: 2, reduction-factor: 1}": "must be greater than 1",
    "stop: {grace-rounds: 2, metric: key_bits}": "try.yaml:2: stop.metric=key_bits: must be one of",
    "- 1": "is no YAML file",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=list(WRONG))
def test_an_error_names_the_key_and_its_place(load: Load, text: str, told: str) -> None:
    with pytest.raises(RequestError) as problem:
        load(DIGITS + text)
    assert told in str(problem.value)


def test_what_all_trials_share_may_be_overruled_by_a_strategy(load: Load) -> None:
    shared = "base: {dataset: digits, lr: 0.01}\ngrid: {strategy: [def-fd, def-fd-plus]}"
    assert [trial.config.lr for trial in load(shared).trials] == [0.01, 0.02]


def test_an_error_in_another_file_names_that_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("dataset: digits\nrounds: none\n")
    with pytest.raises(RequestError, match=r"common.yaml:2: rounds=none: must be a whole number"):
        load("base: common.yaml")
    with pytest.raises(
        RequestError, match=r"try.yaml:2: base\[1\]: .*nowhere.yaml.* cannot be read"
    ):
        load("base:\n  [{clients: 4}, nowhere.yaml]")


def test_an_error_from_the_command_line_names_the_key_as_typed(load: Load) -> None:
    with pytest.raises(RequestError, match=r"^lr=x: must be a number$"):
        load(DIGITS, lr="x")


def test_an_error_of_a_key_from_elsewhere_names_the_cell(load: Load) -> None:
    told = r"^final-evaluations=2: .* type 1 or less \(cell clients=4 rounds=1\)$"
    with pytest.raises(RequestError, match=told):
        load(DIGITS + "grid: {clients: [4], rounds: [3, 1]}", final_evaluations=2)


def test_metrics_are_numbers_that_runs_have() -> None:
    assert {"global_accuracy", "local_accuracy", "key_bits", "accuracy_per_key_bit"} <= {*METRICS}
