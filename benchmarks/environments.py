"""Virtual environments of other simulators, made once and kept in the user's cache."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version

from benchmarks.harness import UnavailableError
from deffd_flower.data.cache import cache_folder

INSTALL_S = 1800
READY = "ready"
DECISIVE = ("gossipy-dfl", "fluke-fl", "torch", "numpy", "scikit-learn", "torchmetrics")


def python_with(name: str, requirements: Sequence[str]) -> str:
    """Return the interpreter of an environment with these packages and our PyTorch's version.

    Raises:
        UnavailableError: It cannot be made; says what pip said.
    """
    pinned = f"torch=={version('torch').partition('+')[0]}"
    wanted = [*requirements, pinned]
    digest = hashlib.sha256(" ".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    folder = cache_folder().parent / "benchmarks" / f"{name}-{digest}"
    python = str(folder / "bin" / "python")
    if not (folder / READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, [sys.executable, "-m", "venv", str(folder)])
        _run(name, [python, "-m", "pip", "install", "--quiet", *wanted])
        (folder / READY).touch()
    return python


def packages_of(python: str) -> dict[str, str]:
    """Return the versions of what decides the speed of an environment."""
    listed = _run("packages", [python, "-m", "pip", "list", "--format=freeze"])
    known = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    return {name: known[name] for name in DECISIVE if name in known}


def _run(name: str, words: Sequence[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=INSTALL_S, check=True)
    except subprocess.CalledProcessError as problem:
        said = str(problem.stderr).strip().splitlines() or ["nothing"]
        raise UnavailableError(f"{name} cannot be installed; pip said: {said[-1]}") from problem
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise UnavailableError(f"{name} cannot be installed: {problem}") from problem
    return done.stdout
