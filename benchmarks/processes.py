"""Programs that a benchmark starts: their result, and the memory of all their processes."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from benchmarks.harness import ROOT, last_json
from deffd_flower.errors import DeffdError

SAMPLE_S = 0.5
LONGEST_S = 3600


def run_module(module: str, *words: str, python: str = sys.executable) -> dict[str, object]:
    """Run ``python -m module`` in the checkout; return the JSON object it prints last.

    Adds ``peak_mb``, the largest memory of the program and its children seen at one moment
    (sum of proportional set sizes, so that shared pages count once), where Linux tells it.

    Raises:
        DeffdError: The program failed.
    """
    return run_program([python, "-m", module, *words], ROOT, {"PYTHONPATH": str(ROOT)})


def run_program(
    words: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> dict[str, object]:
    """Run any program that prints a JSON object last; see `run_module`."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        program = subprocess.Popen(
            list(words),
            cwd=folder,
            env={**os.environ, **variables},
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        with _Memory(program.pid) as memory:
            code = _wait(program)
        output.seek(0)
        errors.seek(0)
        if code:
            said = errors.read().strip().splitlines() or ["nothing"]
            raise DeffdError(f"{' '.join(words[:4])} ended with {code}; it said: {said[-1]}")
        return {**last_json(output.read()), "peak_mb": round(memory.peak / 1e6, 1)}


def _wait(program: "subprocess.Popen[bytes]") -> int:
    """Wait for a program, and let none of its processes outlive this call."""
    try:
        return program.wait(LONGEST_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


class _Memory:
    """Looks at the memory of a process tree while the ``with`` block lasts."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.peak = max(self.peak, memory_of_tree(self._pid))


def memory_of_tree(pid: int) -> int:
    """Return the proportional set size of a process and all below it, in bytes; 0 off Linux."""
    total = 0
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        # Any of them may end between two looks.
        with suppress(OSError):
            total += _proportional_set_size(each)
            for task in Path(f"/proc/{each}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total


def _proportional_set_size(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0
