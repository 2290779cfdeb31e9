"""Running what is left of a sweep."""

import csv
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from deffd_flower.results.recorder import versions
from deffd_flower.results.table import duration
from deffd_flower.sweep.directory import Filed, SweepDirectory
from deffd_flower.sweep.plan import Sweep
from deffd_flower.sweep.rows import Row, measured, row, write_rows
from deffd_flower.sweep.standing import Standing
from deffd_flower.sweep.stopping import milestones, successive_halving
from deffd_flower.sweep.trial import FAILED, STOPPED, Order
from deffd_flower.sweep.tuning import Listener, Options, Report, run_trials
from deffd_flower.sweep.view import View, quantities, view_on

_WRITE_S = 2.0
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Settings:
    """How a sweep is run.

    Attributes:
        at_a_time: Trials at a time, at most; 0: one for each CPU.
        retries: How often a trial is tried again whose process has died.
        gpus: GPUs of a trial with ``device=cuda``.
        figures: Draw the report of each run.
    """

    at_a_time: int
    retries: int
    gpus: float
    figures: bool


def run_sweep(
    sweep: Sweep,
    directory: SweepDirectory,
    cluster: AbstractContextManager[Path],
    settings: Settings,
    console: Console,
) -> list[Row]:
    """Run every trial that has not been filed.

    Args:
        sweep: The sweep.
        directory: Where results are filed as they come; opened.
        cluster: Connects to Ray, if there is anything to run; gives a folder for its files.
        settings: How.
        console: Where to show what happens.

    Returns:
        The rows of ``sweep.csv``.
    """
    filing = _Filing(sweep, directory, console)
    orders = _orders(sweep, filing, settings)
    try:
        if orders:
            filing.compare(versions())
            scheduler = _scheduler(sweep, directory, filing.filed)
            filing.announce(len(orders))
            with cluster as folder:
                options = Options(
                    folder, settings.at_a_time, settings.retries, settings.gpus, scheduler
                )
                run_trials(orders, filing, options)
    finally:
        filing.close()
    return filing.rows()


def _orders(sweep: Sweep, filing: "_Filing", settings: Settings) -> dict[str, Order]:
    """Return what is left to do; seed by seed, so that what there is can be compared in pairs."""
    waiting = [trial for trial in sweep.trials if trial.name not in filing.filed]
    waiting.sort(key=lambda trial: sweep.seeds.index(trial.config.seed))
    folder, own = str(Path.cwd()), versions()
    return {
        trial.name: Order(
            values=trial.config.values(),
            milestones=milestones(sweep.stop, trial.config.rounds),
            figures=settings.figures,
            folder=folder,
            versions=own,
        )
        for trial in waiting
    }


class _Filing(Listener):
    """Files what trials hand in, keeps ``sweep.csv`` up to date, and shows how it goes."""

    def __init__(self, sweep: Sweep, directory: SweepDirectory, console: Console) -> None:
        self._trials = {trial.name: trial for trial in sweep.trials}
        self._directory = directory
        self._metrics = sweep.metrics
        known = directory.filed()
        self.filed: dict[str, Filed] = {
            trial.name: known[trial.identity] for trial in sweep.trials if trial.identity in known
        }
        self._standing = Standing(sweep.trials)
        for name, filed in self.filed.items():
            self._standing.end(name, filed.status, _seconds(filed))
        self._view: View = view_on(console, self._standing, sweep.metrics)
        self._lost: Counter[str] = Counter()
        self._begun = False
        self._write()

    def rows(self) -> list[Row]:
        """Return the row of each trial."""
        return [row(trial, self.filed.get(name)) for name, trial in self._trials.items()]

    def announce(self, trials: int) -> None:
        """Say how much there is to do: until the first trial begins, some seconds pass."""
        self._view.tell(f"{trials} of {len(self._trials)} trials to run; waiting for Ray")

    def compare(self, own: Mapping[str, str]) -> None:
        """Say which filed runs have been made with other versions than those to come."""
        before = [filed.summary.get("versions") for filed in self.filed.values()]
        known = [each for each in before if isinstance(each, dict)]
        for package, number in own.items():
            found = Counter(each.get(package, number) for each in known)
            for other in sorted(found.keys() - {number}):
                some = f"{found[other]} of {len(known)} filed runs"
                told = f"{some} have {package} {other}, not {number}"
                self._view.tell(f"{told}: their numbers may differ; sweep.csv says which", "yellow")

    def close(self) -> None:
        """Write the table, and take the view away."""
        self._view.close()
        self._write()

    def started(self, name: str) -> None:
        """Show it."""
        self._begun = True
        self._standing.begin(name)

    def reported(self, name: str, report: Report, last: bool) -> None:
        """Show how far the trial is, or file its results."""
        numbers = {key: value for key, value in report.items() if key != "files"}
        if not last:
            self._standing.move(name, numbers)
            return
        files = report["files"]
        assert isinstance(files, bytes)
        status = str(report.get("status", STOPPED))
        filed = self._directory.file(self._trials[name], status, files)
        self._end(name, filed, str(report.get("reason", "")))

    def lost(self, name: str) -> None:
        """Say that it is tried again."""
        self._standing.lose(name)
        self._lost[name] += 1
        told = "its process has died, or could not start; it is tried again"
        self._view.tell(f"lost {name}: {told}", "yellow")

    def given_up(self, name: str, reason: str) -> None:
        """File a log that says what happened."""
        filed = self._directory.log_failure(self._trials[name], reason)
        times = self._lost[name] + 1
        self._end(name, filed, f"its process has died, or could not start, {times} times")

    def passed(self) -> None:
        """Show how far all are, and write the table now and then."""
        self._view.refresh()
        if not self._begun and time.monotonic() - self._written >= _PATIENCE_S:
            self._begun = True
            self._view.tell("no trial has begun yet; Ray seems to have no free CPU", "yellow")
        if self._changed and time.monotonic() - self._written >= _WRITE_S:
            self._write()

    def _end(self, name: str, filed: Filed, reason: str) -> None:
        self.filed[name] = filed
        spent = duration(self._standing.spent(name))
        self._standing.end(name, filed.status, _seconds(filed))
        if filed.status == FAILED:
            log = self._directory.root / filed.directory / "run.log"
            self._view.ended(f"failed {name}: {reason}. The log is {log}", "red")
        else:
            numbers = quantities(self._metrics, measured(filed.summary))
            told = [f"{filed.status} {name}", *numbers, spent]
            self._view.ended(", ".join(told))
        self._changed = True

    def _write(self) -> None:
        write_rows(self._directory.root / "sweep.csv", self.rows())
        self._written, self._changed = time.monotonic(), False


def _seconds(filed: Filed) -> float | None:
    seconds = filed.summary.get("wall_s")
    return seconds if isinstance(seconds, float) else None


def _scheduler(
    sweep: Sweep, directory: SweepDirectory, filed: Mapping[str, Filed]
) -> TrialScheduler | None:
    if sweep.stop is None:
        return None
    rounds = max(trial.config.rounds for trial in sweep.trials)
    curves = {
        name: list(_curve(directory.root / each.directory, sweep.stop.metric))
        for name, each in filed.items()
    }
    return successive_halving(sweep.stop, rounds, curves)


def _curve(run: Path, metric: str) -> Iterator[dict[str, float]]:
    with (run / "rounds.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line.get(metric):
                yield {"round": int(line["round"]), metric: float(line[metric])}
