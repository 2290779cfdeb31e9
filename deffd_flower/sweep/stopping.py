"""Ending trials early: Ray Tune's successive halving, which also knows earlier results."""

import math
from collections.abc import Iterable, Mapping
from itertools import count, takewhile
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from ray.tune.schedulers import ASHAScheduler

from deffd_flower.sweep.document import Stop

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

Curve = Iterable[Mapping[str, float]]
"""One trial's evaluated rounds, in their order, each with its number as ``round``."""


def milestones(stop: Stop | None, rounds: int) -> tuple[int, ...]:
    """Return the rounds, before the last, after which a trial may be stopped; ascending."""
    if stop is None:
        return ()
    exact = (stop.grace_rounds * stop.reduction_factor**rung for rung in count())
    return tuple(math.ceil(rung) for rung in takewhile(lambda rung: rung < rounds, exact))


def successive_halving(stop: Stop, rounds: int, before: Mapping[str, Curve]) -> ASHAScheduler:
    """Return a scheduler that compares trials with those of an interrupted sweep, too.

    Args:
        stop: Its settings.
        rounds: Of the longest trial; more than ``stop.grace_rounds``.
        before: The curves of trials that ran before, by name.
    """
    halving = ASHAScheduler(
        time_attr="round",
        metric=stop.metric,
        mode=stop.mode,
        max_t=rounds - 1,
        grace_period=stop.grace_rounds,
        reduction_factor=stop.reduction_factor,
        stop_last_trials=False,
    )
    for name, curve in before.items():
        # The scheduler asks a trial for nothing but its id, and the controller for nothing at all.
        trial = cast("Trial", SimpleNamespace(trial_id=f"before-{name}"))
        nobody = cast("TuneController", None)
        halving.on_trial_add(nobody, trial)
        for evaluated in curve:
            halving.on_trial_result(nobody, trial, dict(evaluated))
    return halving
