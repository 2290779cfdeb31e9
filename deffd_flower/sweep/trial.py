"""One trial: a federation in this process, and its run directory as bytes.

Runs on any machine of a cluster; what it writes travels to the sweep's own directory.
"""

import gc
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deffd_flower.config import RunConfig, Value
from deffd_flower.engine.selection import in_this_process
from deffd_flower.errors import DeffdError
from deffd_flower.federation import federate
from deffd_flower.request import resolve
from deffd_flower.results.recorder import versions
from deffd_flower.state import forget_weights
from deffd_flower.sweep.archive import packed
from deffd_flower.sweep.document import EVALUATED

FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"

Tell = Callable[[dict[str, object]], None]
"""Takes a report; does not return if the trial is to stop."""

_EVERY_S = 1.0
"""Between two reports that only show how far a trial is."""


@dataclass(frozen=True)
class Order:
    """What a trial is to do, wherever it runs.

    Attributes:
        values: Its config, resolved.
        milestones: Rounds after which it may be stopped, ascending.
        figures: Draw the run's own report.
        folder: Where relative paths start from, if the machine has that folder.
        versions: Of what decides the numbers, on the machine that gives the order.
    """

    values: Mapping[str, Value]
    milestones: tuple[int, ...]
    figures: bool
    folder: str
    versions: Mapping[str, str]


def run_trial(order: Order, directory: Path, tell: Tell) -> dict[str, object]:
    """Run a federation.

    Args:
        order: What to run.
        directory: Its run directory, absolute; new.
        tell: Hears of evaluated rounds: ``round`` and the numbers of `EVALUATED`, with the run
            directory so far as ``files`` when a milestone has been reached.

    Returns:
        ``status``, finished or failed; ``reason``, why it failed; and ``files``, the run
        directory as an archive.
    """
    if Path(order.folder).is_dir():
        os.chdir(order.folder)
    try:
        _federate(order, directory, tell)
        ended = {"status": FINISHED, "reason": ""}
    except Exception as problem:
        ended = {"status": FAILED, "reason": _logged(problem, directory)}
    gc.collect()
    return {**ended, "files": packed(directory)}


def _federate(order: Order, directory: Path, tell: Tell) -> None:
    _check_versions(order.versions)
    config = resolve(order.values)
    grid = in_this_process(config)
    reporter = _Reporter(order.milestones, directory, tell)
    try:
        federate(grid, config, directory, reporter, order.figures)
    finally:
        # A run that is ended early leaves its clients' models on disk.
        for context in grid.contexts.values():
            forget_weights(context)


def _check_versions(ordered: Mapping[str, str]) -> None:
    own = versions()
    other = {name: own.get(name) for name in ordered if own.get(name) != ordered[name]}
    if other:
        told = ", ".join(f"{name} {other[name]}, not {ordered[name]}" for name in other)
        raise DeffdError(f"{os.uname().nodename} has {told}; results would not compare")


def _logged(problem: Exception, directory: Path) -> str:
    """Make sure that the run directory has a log with the traceback; return the reason."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "run.log"
    if not log.exists():
        log.write_text("".join(traceback.format_exception(problem)), encoding="utf-8")
    if isinstance(problem, DeffdError):
        return str(problem)
    return f"{type(problem).__name__}: {problem}"


class _Reporter:
    """Tells how far a run is: at milestones, and otherwise not more than once a second."""

    def __init__(self, milestones: tuple[int, ...], directory: Path, tell: Tell) -> None:
        self._milestones = milestones
        self._directory = directory
        self._tell = tell
        self._told, self._round = time.monotonic(), 0

    def begin(self, config: RunConfig) -> None:
        """Note the last round: whoever has come that far is not to be stopped any more."""
        self._last = config.rounds

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """Nothing to tell."""

    def advance(self) -> None:
        """Nothing to tell."""

    def evaluated(self, row: Mapping[str, float]) -> None:
        """Tell of the round, if it is time."""
        before, self._round = self._round, int(row["round"])
        if self._round == self._last:
            return
        numbers: dict[str, object] = {key: row[key] for key in EVALUATED if key in row}
        report = {"round": self._round, **numbers}
        if any(before < milestone <= self._round for milestone in self._milestones):
            self._tell({**report, "files": packed(self._directory)})
        elif time.monotonic() - self._told >= _EVERY_S:
            self._tell(report)
        else:
            return
        self._told = time.monotonic()
