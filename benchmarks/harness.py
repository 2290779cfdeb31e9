"""Measuring in turn, ratios with their spread, and what a number is worth without: the machine."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TypeVar

from deffd_flower.errors import DeffdError

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
LIBRARIES = ("deffd-flower", "torch", "flwr", "ray", "numpy", "cryptography")


def silent(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        runs: Turns that each arm of a comparison gets.
        full: Also what takes long.
        quick: Tiny sizes, to see that a benchmark works; its numbers mean nothing.
        tell: Hears what is being measured.
    """

    runs: int = 5
    full: bool = False
    quick: bool = False
    tell: Callable[[str], None] = silent


@dataclass(frozen=True)
class Result:
    """One ratio.

    Attributes:
        name: The benchmark's name, with ``:`` and the case where it has several.
        ratio: Median over the turns.
        spread: Smallest and largest ratio of a turn.
        runs: Number of turns.
        detail: What the ratio is of, absolute numbers, versions, machine, commit.
    """

    name: str
    ratio: float
    spread: tuple[float, float]
    runs: int
    detail: dict[str, object] = field(default_factory=dict)

    def as_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


class UnavailableError(DeffdError):
    """Something that a benchmark needs is not to be had on this machine."""


def in_turn(arms: Mapping[str, Callable[[], T]], options: Options) -> dict[str, list[T]]:
    """Measure A B C A B C ..., so that a slow minute of the machine hits all of them.

    Returns:
        For each arm what it returned, in the order of the turns.
    """
    measured: dict[str, list[T]] = {name: [] for name in arms}
    for turn in range(options.runs):
        for name, arm in arms.items():
            options.tell(f"turn {turn + 1} of {options.runs}: {name}")
            measured[name].append(arm())
    return measured


def ratio(
    name: str, numerator: Sequence[float], denominator: Sequence[float], **detail: object
) -> Result:
    """Return the median of the ratios turn by turn, with the machine added to the detail.

    Args:
        name: The result's name.
        numerator: One value per turn.
        denominator: The reference's value of the same turns.
        detail: What else there is to know.

    Raises:
        ValueError: The two have different lengths, or none.
    """
    ratios = [above / below for above, below in zip(numerator, denominator, strict=True)]
    if not ratios:
        raise ValueError(f"{name}: nothing was measured")
    spread = min(ratios), max(ratios)
    return Result(name, median(ratios), spread, len(ratios), {**detail, **surroundings()})


def ratio_of(
    name: str, measured: Mapping[str, Sequence[float]], above: str, below: str, **detail: object
) -> Result:
    """Return the ratio of two arms of `in_turn` that gave seconds; the detail lists the seconds."""
    seconds = {arm: [round(value, 6) for value in measured[arm]] for arm in (above, below)}
    what = f"{above} / {below}, seconds"
    return ratio(name, measured[above], measured[below], of=what, seconds=seconds, **detail)


@lru_cache(maxsize=1)
def surroundings() -> dict[str, object]:
    """Return versions, machine and commit, as they were when first asked."""
    return {"versions": _versions(), "machine": _machine(), "commit": _commit()}


def _versions() -> dict[str, str]:
    known = {"python": platform.python_version()}
    for package in LIBRARIES:
        with suppress(PackageNotFoundError):
            known[package] = version(package)
    return known


def _machine() -> dict[str, object]:
    from deffd_flower.engine.process_grid import usable_cores

    return {
        "cores": usable_cores(),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "busy_cores_before": busy_cores(),
    }


@lru_cache(maxsize=1)
def busy_cores(seconds: float = 1.0) -> float | None:
    """Return how many cores other programs took when first asked; ``None`` where that is unknown.

    The load average would not do: it remembers the benchmark before this one.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    before = _jiffies(stat)
    time.sleep(seconds)
    busy, idle = (after - then for after, then in zip(_jiffies(stat), before, strict=True))
    return round((os.cpu_count() or 1) * busy / max(1, busy + idle), 2)


def _jiffies(stat: Path) -> tuple[int, int]:
    """Return the time that all cores together were busy and idle since the machine started."""
    user, nice, system, idle, waiting, *rest = map(int, stat.read_text().split("\n")[0].split()[1:])
    return user + nice + system + sum(rest[:3]), idle + waiting


def busy() -> bool:
    """Say whether other programs take more than a quarter of a core."""
    return (busy_cores() or 0.0) > 0.25


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    """Return the checkout's commit, with ``-dirty`` where files differ from it."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run([*words, "--abbrev=40"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def last_json(output: str) -> dict[str, object]:
    """Return the JSON object in the last line of a program's output.

    Raises:
        ValueError: There is none.
    """
    lines = output.strip().splitlines()
    found = json.loads(lines[-1]) if lines else None
    if not isinstance(found, dict):
        raise ValueError("the program printed no result")
    return found
