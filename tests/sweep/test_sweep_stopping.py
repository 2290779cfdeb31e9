"""Which trials are ended early."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from deffd_flower.sweep.document import Stop
from deffd_flower.sweep.stopping import milestones, successive_halving

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def stop(grace: int, factor: float, mode: str = "max") -> Stop:
    given = {"grace-rounds": grace, "reduction-factor": factor, "mode": mode}
    return Stop.model_validate(given)


def test_milestones_are_the_grace_rounds_times_powers_of_the_factor() -> None:
    assert milestones(stop(1, 3), 100) == (1, 3, 9, 27, 81)
    assert milestones(stop(5, 2), 40) == (5, 10, 20), "after the last round nothing is left to stop"
    assert milestones(stop(2, 1.5), 8) == (2, 3, 5, 7)
    assert milestones(stop(10, 3), 10) == ()
    assert milestones(None, 10) == ()


@given(st.integers(1, 20), st.floats(1.1, 5), st.integers(2, 200))
def test_a_decision_is_taken_at_milestones_only(grace: int, factor: float, rounds: int) -> None:
    if grace >= rounds:
        return
    own = milestones(stop(grace, factor), rounds)
    halving = successive_halving(stop(grace, factor), rounds, {})
    ahead, behind = trial(halving, "ahead"), trial(halving, "behind")
    for now in range(1, rounds):
        report(halving, ahead, now, 1.0)
    for now in range(1, rounds):
        if report(halving, behind, now, 0.0) == STOP:
            assert now in own
            return


def trial(halving: ASHAScheduler, name: str) -> Any:
    added = SimpleNamespace(trial_id=name)
    halving.on_trial_add(cast("Any", None), cast("Any", added))
    return added


def report(halving: ASHAScheduler, who: Any, server_round: int, accuracy: float) -> str:
    numbers = {"round": server_round, "global_accuracy": accuracy}
    return halving.on_trial_result(cast("Any", None), who, numbers)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_falls_behind_trials_of_an_interrupted_sweep_is_stopped(mode: str) -> None:
    before = {
        f"trial-{number}": [{"round": now, "global_accuracy": number / 10} for now in (1, 2, 3)]
        for number in range(1, 10)
    }
    halving = successive_halving(stop(2, 3, mode), 10, before)
    best, worst = (0.95, 0.05) if mode == "max" else (0.05, 0.95)
    late, good = trial(halving, "late"), trial(halving, "good")
    assert report(halving, late, 1, worst) == CONTINUE, "within its grace"
    assert report(halving, late, 2, worst) == STOP
    assert report(halving, good, 2, best) == CONTINUE


def test_without_earlier_results_the_first_to_arrive_goes_on() -> None:
    halving = successive_halving(stop(2, 3), 10, {})
    assert report(halving, trial(halving, "only"), 2, 0.05) == CONTINUE


def test_the_factor_says_how_many_go_on() -> None:
    # Of 0.00, 0.01, ..., 0.99 the third quartile is 0.7425, by linear interpolation.
    before = {f"{number}": [{"round": 1, "global_accuracy": number / 100}] for number in range(100)}
    decisions = []
    for number in range(100):
        halving = successive_halving(stop(1, 4), 100, before)
        decisions.append(report(halving, trial(halving, "late"), 1, number / 100 + 0.005))
    assert decisions == [STOP] * 74 + [CONTINUE] * 26
