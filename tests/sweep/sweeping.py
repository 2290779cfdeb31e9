"""`deffd sweep` in a process of its own, and its table read back."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
PATIENCE_S = 600

SMALL = """
title: Small
base:
  dataset: digits
  clients: 4
  rounds: 6
  local-epochs: 1
  consensus-distance: true
grid:
  strategy: [def-fd, full-avg]
seeds: 3
metrics: [global_accuracy, key_bits]
reference: {strategy: full-avg}
"""

TIMES = {"wall_s", "compute_s"}
"""Columns in which the same sweep differs from time to time."""


class Sweeping:
    """A sweep that is under way in a folder.

    Args:
        folder: Where the command is typed.
        words: What follows ``deffd sweep``.
        environment: Variables, beside those of this process.
    """

    def __init__(
        self, folder: Path, *words: str, environment: Mapping[str, str] | None = None
    ) -> None:
        own = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **(environment or {})}
        self.process = subprocess.Popen(
            [str(BIN / "deffd"), "sweep", *words],
            cwd=folder,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_interrupts,
        )

    def end(self) -> tuple[int, str, str]:
        """Wait for it; return exit code, output and error output."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err

    def stop(self, by: signal.Signals) -> tuple[int, str, str]:
        """End it by a signal."""
        self.process.send_signal(by)
        return self.end()


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs: to have them ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a sweep to its end, which must be a good one; return its output."""
    code, out, err = Sweeping(folder, *words, environment=environment).end()
    assert code == 0, err
    return out


def rows(directory: Path) -> list[dict[str, str]]:
    """Return the rows of ``sweep.csv``."""
    with (directory / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lasting(directory: Path) -> list[dict[str, str]]:
    """Return the rows without the times that a sweep takes."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows(directory)]


def finished(directory: Path) -> dict[str, int]:
    """Return the finished runs, each with the time at which its summary was written."""
    summaries = directory.glob("runs/*/summary.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in summaries}


def wait_until_finished(sweeping: Sweeping, directory: Path, runs: int) -> dict[str, int]:
    """Wait until so many runs have finished, and return them."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        done = finished(directory)
        if len(done) >= runs:
            return done
        assert sweeping.process.poll() is None, sweeping.end()
        time.sleep(0.02)
    raise TimeoutError(f"{runs} runs have not finished")


def processes_of(folder: str) -> list[str]:
    """Return the command lines of processes that name a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if folder in words:
            found.append(words)
    return found
