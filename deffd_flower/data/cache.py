"""The user's cache of data sets."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def cache_folder() -> Path:
    """Return the user's cache of data sets (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "deffd-flower" / "data"


def publish(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a private folder, then move its files to ``folder``, each in one step.

    A reader never sees half a file, however the process ends, and two processes that do the same
    at once replace equal files by equal files. Archives (``.gz``) stay behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".unpacking-") as name:
        scratch = Path(name)
        fill(scratch)
        for file in sorted(scratch.rglob("*")):
            if file.is_file() and file.suffix != ".gz":
                target = folder / file.relative_to(scratch)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
