"""When things happened in a run's simulated time: rounds, and Eve's attacks."""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from deffd_flower.errors import RequestError
from deffd_flower.qkd.attacks import Attack, RoundStarts
from deffd_flower.qkd.eve import parse_attacks
from deffd_flower.qkd.production import NANOSECONDS, nanoseconds
from deffd_flower.results.chart import known
from deffd_flower.results.reader import Run, column
from deffd_flower.results.table import number


class Span(NamedTuple):
    """A time in which Eve is active.

    Attributes:
        attack: Her attack, in the words of the config.
        begin: Simulated seconds.
        end: Simulated seconds.
    """

    attack: str
    begin: float
    end: float


def eve_spans(run: Run) -> list[Span]:
    """Return when Eve was active, as far as the run has come; attacks in the order given."""
    last = max(known(column(run.pools, "time_s")), default=0.0)
    starts = round_starts(run)
    spans = []
    for text, attack in _attacks(str(run.config.get("eve", ""))):
        begin, end = (moment / NANOSECONDS for moment in attack.window.interval(starts))
        if begin < last:
            spans.append(Span(text, begin, min(end, last)))
    return spans


def first_increase(run: Run, key: str, begin: float) -> int | None:
    """Return the first round after which a count is higher than at a time in simulated seconds."""
    before = 0.0
    for row in run.pools:
        count = number(row.get(key))
        if number(row.get("time_s")) <= begin:
            before = count
        elif count > before:
            return round(number(row.get("round")))
    return None


def round_starts(run: Run) -> RoundStarts:
    """Return the rounds that have begun with their times in ns: each begins as one ends."""
    ends = dict(zip(column(run.rounds, "round"), column(run.rounds, "sim_time_s"), strict=True))
    ends |= dict(zip(column(run.pools, "round"), column(run.pools, "time_s"), strict=True))
    told = sorted((ended, end) for ended, end in ends.items() if math.isfinite(ended + end))
    return [(1, 0), *((round(ended) + 1, nanoseconds(end)) for ended, end in told)]


def _attacks(schedule: str) -> Iterator[tuple[str, Attack]]:
    for text in filter(None, map(str.strip, schedule.split(";"))):
        # A run may have had kinds of attack from a plugin, which is not loaded to look at it.
        with suppress(RequestError):
            yield text, parse_attacks(text)[0]
