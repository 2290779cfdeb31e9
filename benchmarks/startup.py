"""`startup`: from a command being typed to its end, against a Python that only imports PyTorch.

What `deffd` needs of PyTorch takes most of a short run, and no program of this kind can have it
for less. Every command is run once beforehand, so that its files are in the disk cache.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import ROOT, Options, Result, in_turn, ratio
from deffd_flower.errors import DeffdError

DEFFD = ("-m", "deffd_flower.cli")
REFERENCE = "import torch"
COMMANDS: dict[str, tuple[str, ...]] = {
    REFERENCE: ("-c", "import torch"),
    "deffd --help": (*DEFFD, "--help"),
    "deffd run": (*DEFFD, "run", "dataset=digits", "clients=4", "rounds=1", "out-dir=run"),
}
IMPORTED = re.compile(r"import time: +(\d+) \| +\d+ \| +(\w+)")
SHOWN = 8


class Spent(NamedTuple):
    """What a command took.

    Attributes:
        wall: Seconds on the clock.
        cpu: Seconds computed, its children's included.
    """

    wall: float
    cpu: float


def measure(options: Options) -> Iterator[Result]:
    """Yield the seconds of `deffd --help` and of a short run / those of importing PyTorch."""
    arms = {name: partial(spent_by, *words) for name, words in COMMANDS.items()}
    for name, arm in arms.items():
        options.tell(f"warming up: {name}")
        arm()
    measured = in_turn(arms, options)
    wall = {name: [each.wall for each in spent] for name, spent in measured.items()}
    cpu = {name: [round(each.cpu, 3) for each in spent] for name, spent in measured.items()}
    for name, ours in (("help", "deffd --help"), ("run", "deffd run")):
        yield ratio(
            f"startup:{name}",
            wall[ours],
            wall[REFERENCE],
            of=f"{ours} / {REFERENCE}, seconds",
            seconds={arm: [round(each, 3) for each in wall[arm]] for arm in (ours, REFERENCE)},
            cpu_s={arm: cpu[arm] for arm in (ours, REFERENCE)},
            imports_s=imports(*COMMANDS[ours]),
        )


def spent_by(*words: str) -> Spent:
    """Run Python with some words in an empty folder; return what it took.

    Raises:
        DeffdError: It failed.
    """
    before, started = children_cpu(), time.perf_counter()
    _run(*words)
    wall = time.perf_counter() - started
    return Spent(wall, children_cpu() - before)


def imports(*words: str) -> dict[str, float]:
    """Return the seconds that packages took to import, the longest first, each without others.

    Asking for it slows the imports down by about a half.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for microseconds, package in IMPORTED.findall(_run("-X", "importtime", *words)):
        seconds[package] += int(microseconds) / 1e6
    longest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:SHOWN]
    every = {"all": sum(seconds.values()), **{package: seconds[package] for package in longest}}
    return {package: round(each, 3) for package, each in every.items()}


def children_cpu() -> float:
    """Return the CPU seconds of all children that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def _run(*words: str) -> str:
    """Return what the program wrote to its standard error."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryDirectory(prefix="deffd-bench-") as folder:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=Path(folder),
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise DeffdError(f"{' '.join(words)} ended with {done.returncode}; it said: {said[-1]}")
    return done.stderr
