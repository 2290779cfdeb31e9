"""What a run has reached: means of the last evaluations, the best apart."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.request import resolve
from deffd_flower.results.accuracy import Reached, accuracies
from deffd_flower.results.reader import column, read_run
from tests.e2e.test_engines import run_in_process


def client(value: float, absent: float = 0.0) -> dict[str, float]:
    names = ("global_accuracy", "local_accuracy", "local_accuracy_prior", "held_accuracy")
    return {**dict.fromkeys(names, value), "absent_accuracy": absent}


def reached(last: int, evaluations: list[dict[str, float]]) -> dict[str, float]:
    so_far = Reached(last)
    for server_round, values in enumerate(evaluations, start=1):
        so_far.add(server_round, values)
    return so_far.values()


def test_one_evaluation_is_final_as_it_is() -> None:
    values = accuracies([client(0.1), client(0.3), client(0.7)])
    found = reached(1, [accuracies([client(0.9)]), values])
    assert {name: found[name] for name in values} == values


def test_the_last_evaluations_are_averaged_and_their_variances_too() -> None:
    def values(middle: float, spread: float) -> dict[str, float]:
        return {"global_accuracy": middle, "global_accuracy_std": spread, "worst10_accuracy": 0.5}

    found = reached(2, [values(0.9, 0.9), values(0.4, 0.03), values(0.6, 0.04)])
    assert found["global_accuracy"] == pytest.approx(0.5)
    assert found["global_accuracy_std"] == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2))
    assert found["worst10_accuracy"] == 0.5


def test_an_evaluation_without_a_value_does_not_count_for_it() -> None:
    found = reached(3, [accuracies([client(0.5, absent)]) for absent in (math.nan, 0.2, 0.4)])
    assert found["absent_accuracy"] == pytest.approx(0.3)
    never = reached(2, [accuracies([client(0.5, math.nan)])] * 2)
    assert math.isnan(never["absent_accuracy"])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 12))
def test_the_best_is_the_first_maximum_of_all_evaluations(values: list[float], last: int) -> None:
    found = reached(last, [{"global_accuracy": value} for value in values])
    assert found["best_global_accuracy"] == max(values)
    assert found["best_round"] == values.index(max(values)) + 1
    assert found["global_accuracy"] == pytest.approx(fmean(values[-last:]))


@pytest.mark.parametrize(
    ("rounds", "every", "most"), [(20, 1, 20), (20, 6, 4), (5, 9, 1), (6, 6, 1), (7, 6, 2)]
)
def test_no_more_evaluations_can_be_averaged_than_there_are(
    rounds: int, every: int, most: int
) -> None:
    keys = {"rounds": rounds, "eval-every": every}
    assert resolve({**keys, "final-evaluations": most}).final_evaluations == most
    told = f"final-evaluations={most + 1}: rounds={rounds} .* are evaluated {most} times"
    with pytest.raises(RequestError, match=told):
        resolve({**keys, "final-evaluations": most + 1})


def test_a_runs_summary_is_the_mean_of_its_last_rows(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"rounds": 5, "eval_every": 2, "samples_per_client": 60}
    summary = run_in_process(tmp_path / "run", final_evaluations=2, **keys)
    rounds = read_run(tmp_path / "run").rounds
    assert column(rounds, "round") == [2, 4, 5]
    for name in ("global_accuracy", "local_accuracy", "absent_accuracy", "worst10_accuracy"):
        assert summary[name] == pytest.approx(fmean(column(rounds, name)[-2:]))
    whole = column(rounds, "global_accuracy")
    assert summary["best_global_accuracy"] == max(whole)
    assert summary["best_round"] == [2, 4, 5][whole.index(max(whole))]
    assert (summary["final_evaluations"], summary["last_evaluated_round"]) == (2, 5)
    last = run_in_process(tmp_path / "last", **keys)
    assert last["state_sha256"] == summary["state_sha256"]
    assert last["global_accuracy"] == whole[-1]
