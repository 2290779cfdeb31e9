"""Eve: her schedule of attacks, and what it means for a link at any time."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pydantic import TypeAdapter, ValidationError

from deffd_flower.errors import RequestError, did_you_mean
from deffd_flower.qkd.attacks import (
    Attack,
    CompromisedNode,
    LinkAttack,
    RoundStarts,
    Window,
    attacks,
)
from deffd_flower.qkd.production import CALM, Disturbance
from deffd_flower.randomness import derived_seed

Stretch = tuple[int, int, Disturbance]
_WINDOWS = ("rounds", "seconds")


class Eve:
    """All her attacks. Answers depend on link, time and the schedule alone.

    Args:
        schedule: The attacks, in any order.
        seed: Seed of the run, for attacks that come and go at random.
    """

    def __init__(self, schedule: Sequence[Attack] = (), seed: int = 0) -> None:
        self.schedule = tuple(schedule)
        self._on_links = [
            (attack, derived_seed(seed, "attack", index))
            for index, attack in enumerate(schedule)
            if isinstance(attack, LinkAttack)
        ]
        self._on_nodes = [attack for attack in schedule if isinstance(attack, CompromisedNode)]

    def conditions(
        self, link: str, start: int, end: int, rounds: RoundStarts
    ) -> Iterator[tuple[int, Disturbance]]:
        """Yield what a link suffers from ``start`` to ``end`` (ns): until when, and what.

        Equal neighbours may follow each other. The same moment of the same link always suffers
        the same, however time is cut into calls.
        """
        stretches = list(self._stretches(link, start, end, rounds))
        cuts = sorted({start, end, *(cut for stretch in stretches for cut in stretch[:2])})
        coming = sorted(stretches, key=lambda stretch: stretch[0], reverse=True)
        on: list[Stretch] = []
        for left, right in pairwise(cuts):
            while coming and coming[-1][0] <= left:
                on.append(coming.pop())
            on = [stretch for stretch in on if stretch[1] > left]
            yield right, sum((effect for _, _, effect in on), CALM)

    def at(self, link: str, moment: int, rounds: RoundStarts) -> Disturbance:
        """Return what a link suffers from this moment (ns) on."""
        return next(self.conditions(link, moment, moment + 1, rounds))[1]

    def compromised(self, moment: int, rounds: RoundStarts) -> frozenset[str]:
        """Return the nodes whose keys Eve reads at this moment (ns)."""
        windows = ((attack.node, attack.window.interval(rounds)) for attack in self._on_nodes)
        return frozenset(node for node, (begin, end) in windows if begin <= moment < end)

    def _stretches(self, link: str, start: int, end: int, rounds: RoundStarts) -> Iterator[Stretch]:
        for attack, seed in self._on_links:
            if attack.links and link not in attack.links:
                continue
            begin, stop = attack.window.interval(rounds)
            begin, stop = max(start, begin), min(end, stop)
            if begin < stop:
                for left, right in attack.intervals(link, begin, stop, seed):
                    yield left, right, attack.effect()


def parse_attacks(text: str) -> list[Attack]:
    """Read a schedule such as ``intercept fraction=0.4 rounds=5-10 links=0-1,2-3; loss decibel=3``.

    Attacks are separated by semicolons. Each is a kind, then its parameters. ``rounds=5-10``
    (both included) or ``seconds=60-90`` say when, ``5-`` means without end; left out, always.

    Raises:
        RequestError: A kind or parameter is unknown, missing or out of range.
    """
    return [_parse_attack(part.split()) for part in text.split(";") if part.strip()]


def _parse_attack(words: list[str]) -> Attack:
    kind = attacks.get(words[0])
    known = [field.name for field in dataclasses.fields(kind) if field.name != "window"]
    given: dict[str, object] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        target = "window" if name in _WINDOWS else name
        if target in given or name not in (*known, *_WINDOWS):
            advice = f"{words[0]} takes {', '.join(known)}, and rounds or seconds; each once."
            raise RequestError("eve", word, advice + did_you_mean(name, [*known, *_WINDOWS]))
        given[target] = _parsed(name, value)
    try:
        attack: Attack = TypeAdapter(kind).validate_python(given)
    except ValidationError as problem:
        first = problem.errors()[0]
        advice = f"{first['loc'][0]}: {first['msg']}"
        raise RequestError("eve", " ".join(words), advice) from None
    return attack


def _parsed(name: str, value: str) -> object:
    if name == "links":
        return frozenset(value.split(","))
    if name not in _WINDOWS:
        return value
    first, dash, last = value.partition("-")
    try:
        end = float(last or math.inf) if dash else float(first)
        return Window(float(first), end, "rounds" if name == "rounds" else "seconds")
    except ValueError:
        raise RequestError(name, value, "must be FIRST-LAST, such as 5-10 or 5-") from None
