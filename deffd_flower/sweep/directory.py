"""The directory of a sweep: what has been asked for, and what has come of it.

``runs/`` holds finished runs alone, so that ``runs/*`` is what a sweep has to show; trials that
were ended early are in ``stopped/``, and what is left of failed ones in ``failed/``.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import yaml

from deffd_flower.config import parse
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.results.writer import write_whole
from deffd_flower.sweep.archive import unpack
from deffd_flower.sweep.cluster import SCRATCH
from deffd_flower.sweep.load import load_sweep
from deffd_flower.sweep.plan import Sweep, Trial, identity
from deffd_flower.sweep.trial import FAILED, FINISHED, STOPPED

FOLDERS = {FINISHED: "runs", STOPPED: "stopped", FAILED: "failed"}
"""Where trials go, by status."""

_DOCUMENT, _LOCK = "sweep.yaml", ".lock"


@dataclass(frozen=True)
class Filed:
    """A trial that need not be run again.

    Attributes:
        status: finished or stopped.
        directory: Its run directory, relative to the sweep's.
        summary: Its ``summary.json``; empty for a stopped one.
    """

    status: str
    directory: Path
    summary: Mapping[str, object]


class SweepDirectory:
    """Files the results of a sweep.

    Args:
        root: The directory.
        sweep: The sweep.
    """

    def __init__(self, root: Path, sweep: Sweep) -> None:
        self.root = root.absolute()
        self._sweep = sweep

    def check(self, resume: bool) -> None:
        """See whether the sweep may begin here, or go on; write nothing.

        Raises:
            RequestError: The directory holds something, which is not to be resumed or is not a
                part of this sweep.
        """
        begun = (self.root / _DOCUMENT).exists()
        if resume and begun:
            self._check_unchanged()
        elif resume:
            raise RequestError("--resume", self.root, "no sweep has begun there; leave it out")
        elif begun:
            advice = "holds a sweep; go on with it by --resume, or choose another with --out"
            raise RequestError("--out", self.root, advice)
        elif self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise RequestError("--out", self.root, "is not empty; choose a new directory")

    def _check_unchanged(self) -> None:
        """Refuse a sweep that has lost trials since it began: their runs would have no row."""
        before = load_sweep(self.root / _DOCUMENT, {})
        asked = {trial.identity for trial in self._sweep.trials}
        lost = [trial.name for trial in before.trials if trial.identity not in asked]
        if lost:
            advice = (
                f"has changed since the sweep in {self.root} began: {len(lost)} of its "
                f"{len(before.trials)} trials are no longer in it, such as {lost[0]}. "
                "A sweep can grow; put it back, or choose another directory with --out"
            )
            raise RequestError("FILE.yaml", None, advice)
        if before.stop != self._sweep.stop:
            advice = f"differs from that of the sweep in {self.root}; choose another with --out"
            raise RequestError("stop", None, advice)
        for folder in (FOLDERS[FINISHED], FOLDERS[STOPPED]):
            for directory in _entries(self.root / folder):
                if _identity(directory) not in asked:
                    advice = "is no run of this sweep, or of another version of deffd; move it away"
                    raise RequestError("--resume", directory, advice)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Path], None]]:
        """Keep other sweeps out of the directory, and write down what this one is.

        Yields:
            A function that takes a folder to be removed if this process is killed, by the next.

        Raises:
            RequestError: Another process is at work here, or the directory cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / _LOCK).open("a+", encoding="utf-8")
        except OSError as problem:
            advice = f"cannot be written ({problem.strerror})"
            raise RequestError("--out", self.root, advice) from problem
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                advice = "another deffd sweep is at work there"
                raise RequestError("--out", self.root, advice) from None
            _remove_left_over(lock)
            text = yaml.safe_dump(self._sweep.document(), sort_keys=False, allow_unicode=True)
            write_whole(self.root / _DOCUMENT, text)
            yield lambda folder: print(folder, file=lock, flush=True)
            lock.truncate(0)

    def filed(self) -> dict[str, Filed]:
        """Return what has been filed, by the identity of its trial."""
        known = {}
        for directory in _entries(self.root / FOLDERS[STOPPED]):
            known[_identity(directory)] = Filed(STOPPED, directory.relative_to(self.root), {})
        for directory in _entries(self.root / FOLDERS[FINISHED]):
            summary = _summary(directory)
            if summary:
                filed = Filed(FINISHED, directory.relative_to(self.root), summary)
                known[_identity(directory)] = filed
        return known

    def file(self, trial: Trial, status: str, files: bytes) -> Filed:
        """Write a trial's run directory, in one step.

        Raises:
            DeffdError: It cannot be written.
        """
        directory = self._free(self.root / FOLDERS[status] / trial.name, trial)
        try:
            shutil.rmtree(self.root / FOLDERS[FAILED] / trial.name, ignore_errors=True)
            directory.parent.mkdir(exist_ok=True)
            unpack(files, directory)
        except OSError as problem:
            raise DeffdError(f"{directory} cannot be written ({problem.strerror})") from problem
        summary = _summary(directory) if status == FINISHED else {}
        return Filed(status, directory.relative_to(self.root), summary)

    def _free(self, directory: Path, trial: Trial) -> Path:
        """Return a directory that has no other trial's run: names can change as a sweep grows."""
        if _identity(directory) in ("", trial.identity):
            return directory
        return directory.with_name(f"{directory.name}-{trial.identity[:8]}")

    def log_failure(self, trial: Trial, reason: str) -> Filed:
        """File a trial of which nothing has come back, with a log that says why.

        Raises:
            DeffdError: It cannot be written.
        """
        directory = self.root / FOLDERS[FAILED] / trial.name
        try:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            (directory / "run.log").write_text(f"{reason}\n", encoding="utf-8")
        except OSError as problem:
            raise DeffdError(f"{directory} cannot be written ({problem.strerror})") from problem
        return Filed(FAILED, directory.relative_to(self.root), {})


def _remove_left_over(lock: TextIO) -> None:
    """Remove the folder of a process that was killed before it could do so."""
    lock.seek(0)
    for line in lock.read().splitlines():
        if Path(line).name.startswith(SCRATCH):
            shutil.rmtree(line, ignore_errors=True)
    lock.truncate(0)


def _entries(folder: Path) -> list[Path]:
    """Return the run directories in a folder; drafts that a killed sweep left are none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _identity(directory: Path) -> str:
    try:
        values = yaml.safe_load((directory / "config.yaml").read_text("utf-8"))
        return identity(parse(values).values())
    except (OSError, ValueError, yaml.YAMLError, DeffdError):
        return ""


def _summary(directory: Path) -> dict[str, object]:
    """Return the summary that a run writes last; empty if it is not whole."""
    try:
        summary = json.loads((directory / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}
