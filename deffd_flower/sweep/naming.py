"""Names of cells and trials, for people and for file systems."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from deffd_flower.config import Value
from deffd_flower.sweep.plan import Keys

_LONGEST = 120
_NOT_SPEAKING = {"", "auto", "none"}
"""Texts that say nothing without their key."""


def varying(cells: Sequence[Keys]) -> list[str]:
    """Return the keys in which cells differ, in the order in which they first come up."""
    keys = dict.fromkeys(key for cell in cells for key in cell)
    return [key for key in keys if len({repr(cell.get(key)) for cell in cells}) > 1]


def label(cell: Keys, keys: Sequence[str]) -> str:
    """Return what makes a cell differ from others, as ``key=value``s."""
    return " ".join(f"{key}={written(cell[key])}" for key in keys if key in cell) or "all"


def trial_names(cells: Sequence[Keys], seeds: Sequence[int]) -> list[list[str]]:
    """Return the names of all trials: cell by cell, seed by seed.

    A name is made of the values in which cells differ, with their keys where the value does not
    speak for itself: ``def-fd_l2_gamma-0.03_seed-1``.
    """
    keys = varying(cells)
    names = [[_safe([*_parts(cell, keys), f"seed-{seed}"]) for seed in seeds] for cell in cells]
    counts = Counter(name for of_cell in names for name in of_cell)
    return [
        [name if counts[name] == 1 and len(name) <= _LONGEST else _cut(name, cell) for name in own]
        for own, cell in zip(names, cells, strict=True)
    ]


def written(value: Value) -> str:
    """Return a value as a person would write it."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parts(cell: Keys, keys: Sequence[str]) -> list[str]:
    return [_part(key, cell[key]) for key in keys if key in cell]


def _part(key: str, value: Value) -> str:
    speaks = isinstance(value, str) and value not in _NOT_SPEAKING
    return str(value) if speaks else f"{key}-{written(value)}"


def _safe(parts: Sequence[str]) -> str:
    safe = (re.sub(r"[^A-Za-z0-9.+-]+", "-", part).strip(".-") for part in parts)
    return "_".join(filter(None, safe))


def _cut(name: str, cell: Keys) -> str:
    """Return a name of a bearable length that no other cell has."""
    digest = hashlib.sha256(repr(sorted(cell.items())).encode()).hexdigest()[:8]
    return f"{name[-_LONGEST:].lstrip('._-')}-{digest}"
