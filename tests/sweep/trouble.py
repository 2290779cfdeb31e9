"""Strategies whose federations go wrong, for tests: a plugin such as users write."""

import os
import signal
from pathlib import Path

from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import RoundPlan, pairs, plans
from deffd_flower.strategy.presets import GRAPH, LEARNING, Preset, strategies

MARKERS = "DEFFD_TEST_MARKERS"
"""Environment variable with a folder for what has to be remembered between processes."""

UNLUCKY = 1
"""The seed with which things go wrong."""


def unlucky(known: Knowledge) -> bool:
    return known.config.seed == UNLUCKY and known.server_round == 2


def hand_off(plan: str) -> Preset:
    return Preset(plan, "distil", GRAPH | LEARNING, {"gamma": 0.0, "kd-weight": 0.0})


@strategies.register("raises")
def raises() -> Preset:
    return hand_off("raises")


@plans.register("raises")
def raise_in_round_two(known: Knowledge) -> RoundPlan:
    if unlucky(known):
        with (Path(os.environ[MARKERS]) / "raised").open("a") as marker:
            marker.write("once\n")
        raise ValueError("no luck in round 2")
    return pairs(known)


@strategies.register("dies")
def dies() -> Preset:
    return hand_off("dies")


@plans.register("dies")
def die_once(known: Knowledge) -> RoundPlan:
    marker = Path(os.environ[MARKERS]) / "died"
    if unlucky(known) and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return pairs(known)


@strategies.register("dies-always")
def dies_always() -> Preset:
    return hand_off("dies-always")


@plans.register("dies-always")
def die(known: Knowledge) -> RoundPlan:
    if unlucky(known):
        os.kill(os.getpid(), signal.SIGKILL)
    return pairs(known)
