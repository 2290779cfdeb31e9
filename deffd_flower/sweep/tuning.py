"""Trials on Ray Tune."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from deffd_flower.errors import DeffdError
from deffd_flower.sweep.trial import Order, run_trial

_AHEAD = 8

Report = Mapping[str, object]
Trials = list[Trial]


@dataclass(frozen=True)
class Options:
    """How trials are run.

    Attributes:
        storage: A folder for Tune's own files.
        at_a_time: Trials at a time, at most; 0: as many as there are CPUs.
        retries: How often a trial is tried again whose machine or process has died.
        gpus: GPUs of a trial that asks for CUDA; a part of one lets trials share it.
        scheduler: Ends trials early; ``None``: none is.
    """

    storage: Path
    at_a_time: int
    retries: int
    gpus: float
    scheduler: TrialScheduler | None


class Listener:
    """Hears of trials, by name; this one does nothing with it."""

    def started(self, name: str) -> None:
        """A process has taken a trial."""

    def reported(self, name: str, report: Report, last: bool) -> None:
        """A trial tells how far it is, or what has come of it; ``last``: it will not go on."""

    def lost(self, name: str) -> None:
        """A trial's process has died; it will be tried again."""

    def given_up(self, name: str, reason: str) -> None:
        """A trial's processes have died too often."""

    def passed(self) -> None:
        """Some time has passed: a tenth of a second, or less."""


def run_trials(orders: Mapping[str, Order], listener: Listener, options: Options) -> None:
    """Run trials until all have ended.

    A process keeps its data sets and imports from one trial to the next. Only a trial whose
    process dies is tried again: what a trial raises itself it would raise again.

    Args:
        orders: What each trial is to do, by name, in the order to start them.
        listener: Hears of them; what it raises ends the sweep.
        options: How.

    Raises:
        DeffdError: A trial needs a GPU, and there is none.
    """
    _check_resources(orders)
    callback = _Callback(listener)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trainable, orders=dict(orders)),
            lambda config: _resources(orders[config["name"]], options.gpus),
        ),
        param_space={"name": tune.grid_search(list(orders))},
        tune_config=tune.TuneConfig(
            scheduler=options.scheduler,
            max_concurrent_trials=options.at_a_time or None,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(options.storage),
            failure_config=tune.FailureConfig(max_failures=options.retries),
            callbacks=[callback],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception:
        # Tune has turned the listener's own error into text.
        if callback.problem:
            raise callback.problem from None
        raise


def _check_resources(orders: Mapping[str, Order]) -> None:
    resources: Callable[[], Mapping[str, float]] = ray.cluster_resources
    known = resources()
    if any(map(_on_gpu, orders.values())) and not known.get("GPU"):
        raise DeffdError("device=cuda: Ray knows of no GPU in its cluster")
    # Tune asks for room for so many trials ahead, which Ray tries to find again and again.
    ahead = str(int(known.get("CPU", 0)) + _AHEAD)
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", ahead)


def _trainable(config: dict[str, str], orders: Mapping[str, Order]) -> dict[str, object]:
    # Tune has made this trial's own folder the current one; it goes with Ray's.
    with TemporaryDirectory(prefix="run-", dir=Path.cwd()) as scratch:
        return run_trial(orders[config["name"]], Path(scratch) / "run", tune.report)


def _resources(order: Order, gpus: float) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([{"CPU": 1.0, **({"GPU": gpus} if _on_gpu(order) else {})}])


def _on_gpu(order: Order) -> bool:
    return order.values["device"] != "cpu"


class _Callback(tune.Callback):
    """Tells a listener what Tune tells, without Tune's own words."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.problem: Exception | None = None

    def __getstate__(self) -> None:
        """Leave nothing in the file from which Tune would restore the sweep: we do that."""

    def on_trial_start(self, iteration: int, trials: Trials, trial: Trial, **info: Any) -> None:
        self._tell(self._listener.started, trial.config["name"])

    def on_trial_result(
        self, iteration: int, trials: Trials, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = dict(result)
        # Tune would keep the files of all trials in memory.
        result.pop("files", None)
        last = bool(report.get("done")) or "status" in report
        self._tell(self._listener.reported, trial.config["name"], report, last)

    def on_trial_recover(self, iteration: int, trials: Trials, trial: Trial, **info: Any) -> None:
        self._tell(self._listener.lost, trial.config["name"])

    def on_trial_error(self, iteration: int, trials: Trials, trial: Trial, **info: Any) -> None:
        errors = Path(trial.error_file or "")
        reason = errors.read_text("utf-8") if errors.is_file() else "no error was recorded"
        self._tell(self._listener.given_up, trial.config["name"], reason)

    def on_step_end(self, iteration: int, trials: Trials, **info: Any) -> None:
        self._tell(self._listener.passed)

    def _tell(self, hear: Callable[..., None], *news: object) -> None:
        try:
            hear(*news)
        except Exception as problem:
            self.problem = problem
            raise
