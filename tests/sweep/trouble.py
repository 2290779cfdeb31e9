"""Strategies whose federations go wrong, for tests: a plugin such as users write."""

import os
import signal
from pathlib import Path

from deffd_flower.config import RunConfig
from deffd_flower.strategy.plans import RoundPlan, pairs, plans
from deffd_flower.strategy.presets import GRAPH, LEARNING, Preset, strategies
from deffd_flower.strategy.topology import Graph

MARKERS = "DEFFD_TEST_MARKERS"
"""Environment variable with a folder for what has to be remembered between processes."""

UNLUCKY = 1
"""The seed with which things go wrong."""


def hand_off(plan: str) -> Preset:
    return Preset(plan, "distil", GRAPH | LEARNING, {"gamma": 0.0, "kd-weight": 0.0})


@strategies.register("raises")
def raises() -> Preset:
    return hand_off("raises")


@plans.register("raises")
def raise_in_round_two(config: RunConfig, graph: "Graph | None", server_round: int) -> RoundPlan:
    if config.seed == UNLUCKY and server_round == 2:
        with (Path(os.environ[MARKERS]) / "raised").open("a") as marker:
            marker.write("once\n")
        raise ValueError("no luck in round 2")
    return pairs(config, graph, server_round)


@strategies.register("dies")
def dies() -> Preset:
    return hand_off("dies")


@plans.register("dies")
def die_once(config: RunConfig, graph: "Graph | None", server_round: int) -> RoundPlan:
    marker = Path(os.environ[MARKERS]) / "died"
    if config.seed == UNLUCKY and server_round == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return pairs(config, graph, server_round)


@strategies.register("dies-always")
def dies_always() -> Preset:
    return hand_off("dies-always")


@plans.register("dies-always")
def die(config: RunConfig, graph: "Graph | None", server_round: int) -> RoundPlan:
    if config.seed == UNLUCKY and server_round == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return pairs(config, graph, server_round)
