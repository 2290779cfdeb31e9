"""Showing how far a run is: a live bar in a terminal, or a line per round in a log."""

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from deffd_flower.config import RunConfig

# Flower streams its own logger to the terminal of `flwr run`.
flower_log = logging.getLogger("flwr")


class Progress(Protocol):
    """Hears how a run goes on."""

    def begin(self, config: RunConfig) -> None:
        """The run starts."""

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """A phase starts, with so many replies to come; the last of a round ends the round."""

    def advance(self) -> None:
        """One reply has come."""

    def evaluated(self, row: Mapping[str, float]) -> None:
        """A round was evaluated; ``row`` as in rounds.csv."""


class LineProgress:
    """One log line per evaluated round."""

    def begin(self, config: RunConfig) -> None:
        """Note the time."""
        self._rounds = config.rounds
        self._started = time.monotonic()

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """Nothing to show."""

    def advance(self) -> None:
        """Nothing to show."""

    def evaluated(self, row: Mapping[str, float]) -> None:
        """Log round, accuracies, time so far and time left."""
        done, spent = int(row["round"]), time.monotonic() - self._started
        left = spent / done * (self._rounds - done)
        flower_log.info(
            "round %d/%d  %s  %.0f s, %.0f s left", done, self._rounds, brief(row), spent, left
        )


class LiveProgress:
    """A bar that moves with every reply, with the time left.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[accuracy]}"),
            console=console,
        )

    def __enter__(self) -> "LiveProgress":
        self._bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._bar.stop()

    def begin(self, config: RunConfig) -> None:
        """Draw the empty bar."""
        self._rounds = config.rounds
        self._task = self._bar.add_task("getting ready", total=float(config.rounds), accuracy="")
        self._share = 0.0

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """Let each reply of the phase move the bar alike."""
        done = server_round - share if name == "evaluate" else server_round - 1
        self._share = share / messages if messages else 0.0
        text = f"round {server_round}/{self._rounds} {name:8}"
        self._bar.update(self._task, completed=done, description=text)

    def advance(self) -> None:
        """Move the bar."""
        self._bar.advance(self._task, self._share)

    def evaluated(self, row: Mapping[str, float]) -> None:
        """Show the accuracies beside the bar."""
        self._bar.update(self._task, completed=row["round"], accuracy=brief(row))


def brief(row: Mapping[str, float]) -> str:
    """Return the two accuracies of the paper, in percent."""
    return f"global {row['global_accuracy']:.1%}  local {row['local_accuracy']:.1%}"
