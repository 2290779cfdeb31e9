"""What a sweep shows while it runs: a table that changes, or a line for each trial."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from deffd_flower.results.metrics import amount, heading
from deffd_flower.results.table import duration, number
from deffd_flower.sweep.standing import Running, Standing

_REFRESH_S = 0.25
_SHOWN = 12


class View(Protocol):
    """Shows how a sweep goes on."""

    def refresh(self) -> None:
        """Some time has passed."""

    def tell(self, text: str, style: str = "") -> None:
        """Show a line that stays."""

    def ended(self, text: str, style: str = "") -> None:
        """Show how a trial has ended."""

    def close(self) -> None:
        """The sweep has ended."""


def view_on(console: Console, standing: Standing, metrics: Sequence[str]) -> View:
    """Return the view that suits a console."""
    if console.is_terminal:
        return LiveView(console, standing, metrics)
    return LineView(console, standing)


class LineView:
    """A line for each trial that has ended, as for a log.

    Args:
        console: Where to.
        standing: How far the sweep is.
    """

    def __init__(self, console: Console, standing: Standing) -> None:
        self._console = console
        self._standing = standing

    def refresh(self) -> None:
        """Nothing to show."""

    def tell(self, text: str, style: str = "") -> None:
        """Print a line."""
        self._console.print(escape(text), style=style, soft_wrap=True, highlight=False)

    def ended(self, text: str, style: str = "") -> None:
        """Print how it ended, how many have, and what is left."""
        counted = f"{len(self._standing.status)}/{self._standing.total} {text}"
        left = "" if style else time_left(self._standing)
        self.tell(", ".join(filter(None, [counted, left])), style)

    def close(self) -> None:
        """Nothing to do."""


class LiveView:
    """The running trials, and how far all are.

    Args:
        console: A terminal.
        standing: How far the sweep is.
        metrics: Which numbers to show.
    """

    def __init__(self, console: Console, standing: Standing, metrics: Sequence[str]) -> None:
        self._console = console
        self._standing = standing
        self._metrics = metrics
        # No thread of its own: it would read what is being changed.
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._live.start()
        self._drawn = 0.0

    def refresh(self) -> None:
        """Draw the table again, a few times a second at most."""
        if time.monotonic() - self._drawn >= _REFRESH_S:
            self._live.update(Group(self._table(), self._total()), refresh=True)
            self._drawn = time.monotonic()

    def tell(self, text: str, style: str = "") -> None:
        """Print a line above the table."""
        self._console.print(escape(text), style=style, soft_wrap=True, highlight=False)

    def ended(self, text: str, style: str = "") -> None:
        """Print how it ended above the table."""
        self.tell(text, style)

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()

    def _table(self) -> Table:
        table = Table(box=None, highlight=False, pad_edge=False)
        table.add_column("running", overflow="ellipsis", no_wrap=True)
        for name in ("rounds", "for", *map(heading, self._metrics)):
            table.add_column(name, justify="right", no_wrap=True)
        running = self._standing.running
        for name in list(running)[:_SHOWN]:
            table.add_row(escape(name), *self._cells(name, running[name]))
        if len(running) > _SHOWN:
            table.add_row(f"and {len(running) - _SHOWN} more")
        return table

    def _cells(self, name: str, running: Running) -> list[str]:
        rounds = f"{running.done}/{running.trial.config.rounds}"
        numbers = [amount(key, number(running.report.get(key))) for key in self._metrics]
        return [rounds, duration(self._standing.spent(name)), *numbers]

    def _total(self) -> Table:
        standing = self._standing
        grid = Table.grid(padding=(0, 2))
        ended = len(standing.status)
        counts = ", ".join(f"{many} {status}" for status, many in standing.counts.items())
        grid.add_row(
            ProgressBar(total=standing.total, completed=standing.progress, width=30),
            f"{ended}/{standing.total} trials",
            counts,
            time_left(standing),
        )
        return grid


def time_left(standing: Standing) -> str:
    """Return how long the sweep will still take, in words; nothing if it has ended."""
    if len(standing.status) == standing.total:
        return ""
    seconds = standing.left()
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"


def quantities(metrics: Sequence[str], numbers: Mapping[str, float]) -> list[str]:
    """Return metrics with their names and units, those that there are."""
    return [f"{heading(key)} {amount(key, numbers[key])}" for key in metrics if key in numbers]
