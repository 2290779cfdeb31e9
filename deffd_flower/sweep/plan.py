"""What a sweep consists of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from deffd_flower.config import RunConfig, Value, label_counts_shared
from deffd_flower.errors import RequestError
from deffd_flower.sweep.document import Stop

Keys = Mapping[str, Value]

_NO_MATTER = {"out-dir", "data-dir", "workers", "message-timeout"}
"""Keys on which no result depends."""

_SHARED = "share-label-counts"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: What its directory is called; unique in the sweep.
        cell: Number of its cell.
        config: Its config, resolved.
        places: Where its keys are set, for errors.
    """

    name: str
    cell: int
    config: RunConfig
    places: Mapping[str, str] = field(repr=False, compare=False)

    @cached_property
    def identity(self) -> str:
        """The hash of all that its results depend on."""
        return identity(self.config.values())


@dataclass(frozen=True)
class Sweep:
    """A sweep, checked.

    Attributes:
        title: What it is called.
        description: What it is for.
        base: Keys that all cells share unless they set them themselves.
        cells: What each cell sets, resolved.
        seeds: Seeds of every cell.
        metrics: What tables show, by name in ``summary.json``.
        reference: What identifies the cells that others are compared with; may be empty.
        stop: How trials end early; ``None``: not at all.
        trials: All trials, cell by cell.
    """

    title: str
    description: str
    base: Keys
    cells: Sequence[Keys]
    seeds: Sequence[int]
    metrics: Sequence[str]
    reference: Keys
    stop: Stop | None
    trials: Sequence[Trial]

    def document(self) -> dict[str, object]:
        """Return a sweep file that asks for the same, with nothing left to work out."""
        entries: dict[str, object] = {
            "title": self.title,
            "description": self.description,
            "base": dict(self.base),
            "grid": {"cells": [dict(cell) for cell in self.cells]} if any(self.cells) else {},
            "seeds": list(self.seeds),
            "metrics": list(self.metrics),
            "reference": dict(self.reference),
            "stop": self.stop.model_dump(by_alias=True) if self.stop else None,
        }
        return {key: value for key, value in entries.items() if value}


def identity(values: Keys) -> str:
    """Return the hash of those keys of a resolved config that results depend on."""
    known = {key: value for key, value in values.items() if key not in _NO_MATTER}
    # Auto is another word for one of the two, and no other run.
    known[_SHARED] = label_counts_shared(values[_SHARED], values["key-source"])
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def located(problem: RequestError, places: Mapping[str, str], told: str = "") -> RequestError:
    """Return an error with the place where its key is set.

    Args:
        problem: The error.
        places: Where each key is set.
        told: In which trial or cell, unless the place says so.
    """
    place = places.get(problem.key, problem.key)
    advice = f"{problem.advice} ({told})" if told else problem.advice
    return RequestError(place, problem.value, advice)
