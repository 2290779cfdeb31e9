"""How far a sweep is, and how long it will take."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from deffd_flower.sweep.plan import Trial


@dataclass
class Running:
    """A trial that some process is at.

    Attributes:
        trial: Which.
        began: When, by the clock of the standing.
        report: The last evaluated round that it told of.
    """

    trial: Trial
    began: float
    report: Mapping[str, object]

    @property
    def done(self) -> int:
        """Rounds that are known to be done."""
        return int(str(self.report.get("round", 0)))


class Standing:
    """What has become of each trial of a sweep.

    Args:
        trials: All trials.
        clock: Returns seconds.
    """

    def __init__(
        self, trials: Sequence[Trial], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trials = {trial.name: trial for trial in trials}
        self._works = {trial.cell: trial.config.clients * trial.config.rounds for trial in trials}
        self._clock = clock
        self.status: dict[str, str] = {}
        self.running: dict[str, Running] = {}
        self._seconds: defaultdict[int, list[float]] = defaultdict(list)
        self._slots = 1

    @property
    def counts(self) -> Counter[str]:
        """How many trials have each status."""
        return Counter(self.status.values())

    @property
    def total(self) -> int:
        """Number of trials."""
        return len(self._trials)

    @property
    def progress(self) -> float:
        """How many trials are done, with the parts that are known of those that run."""
        parts = (each.done / each.trial.config.rounds for each in self.running.values())
        return len(self.status) + sum(parts)

    def begin(self, name: str) -> None:
        """A trial begins, or begins again."""
        self.running[name] = Running(self._trials[name], self._clock(), {})
        self._slots = max(self._slots, len(self.running))

    def spent(self, name: str) -> float:
        """Return the seconds since a running trial began."""
        return self._clock() - self.running[name].began

    def move(self, name: str, report: Mapping[str, object]) -> None:
        """A trial tells of an evaluated round."""
        self.running[name].report = report

    def lose(self, name: str) -> None:
        """A trial has to begin again."""
        self.running.pop(name, None)

    def end(self, name: str, status: str, seconds: float | None = None) -> None:
        """A trial has ended.

        Args:
            name: Which.
            status: How.
            seconds: How long it took, where that says something about others; a trial that was
                stopped or failed says nothing.
        """
        self.running.pop(name, None)
        self.status[name] = status
        if seconds is not None:
            self._seconds[self._trials[name].cell].append(seconds)

    def left(self) -> float | None:
        """Return the seconds that the sweep will probably still take; ``None`` if unknown.

        A trial is expected to take as long as others of its cell have taken. Where there are
        none, clients times rounds are taken for the work, at the pace of all other cells.
        """
        if not self._seconds:
            return None
        pace = fmean(fmean(own) / self._works[cell] for cell, own in self._seconds.items())
        waiting = self._trials.keys() - self.status.keys() - self.running.keys()
        expected = [self._expected(self._trials[name], pace) for name in waiting]
        rest = [
            max(self._expected(running.trial, pace) - self.spent(name), 0.0)
            for name, running in self.running.items()
        ]
        return max((sum(expected) + sum(rest)) / self._slots, *expected, *rest, 0.0)

    def _expected(self, trial: Trial, pace: float) -> float:
        own = self._seconds.get(trial.cell)
        return fmean(own) if own else pace * self._works[trial.cell]
