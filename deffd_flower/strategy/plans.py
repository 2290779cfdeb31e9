"""Pairing plans: who trains in a round, and who then sends what to whom."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deffd_flower.config import RunConfig
from deffd_flower.randomness import numpy_generator
from deffd_flower.registry import Registry
from deffd_flower.strategy.topology import Graph


@dataclass(frozen=True)
class Transfer:
    """One model, or some of its segments, on its way.

    Attributes:
        sender: Partition id.
        receiver: Partition id.
        segments: Indices of the segments that travel; empty for the whole model.
    """

    sender: int
    receiver: int
    segments: tuple[int, ...] = ()


@dataclass(frozen=True)
class RoundPlan:
    """What happens in one round.

    Attributes:
        trainers: Partition ids that train, ascending.
        transfers: What is sent after training, ordered by sender, then receiver.
    """

    trainers: list[int]
    transfers: list[Transfer]


Plan: TypeAlias = "Callable[[RunConfig, Graph | None, int], RoundPlan]"
plans: "Registry[Plan]" = Registry("plan")


@plans.register("pairs")
def pairs(config: RunConfig, graph: "Graph | None", server_round: int) -> RoundPlan:
    """Draw Q disjoint pairs of neighbours; the first of each trains and sends to the second.

    On the complete graph this is Def-KT's draw: 2Q of K clients, k_j paired with k_(j+Q)
    (Li, Li, Varshney 2021, Procedure 1). A sparse graph may have room for fewer than Q pairs.
    """
    drawn = _draw_pairs(config, graph, server_round)
    return RoundPlan(sorted(sender for sender, _ in drawn), sorted_transfers(drawn))


@plans.register("segments")
def segments(config: RunConfig, graph: "Graph | None", server_round: int) -> RoundPlan:
    """Draw as `pairs` does; each receiver pulls each segment from senders among its neighbours.

    Source: Hu, Jiang, Wang 2019 (arXiv 1908.07782). With ``segment-peers`` = 1 the traffic is
    that of `pairs`: one model per receiver, in pieces from several senders.
    """
    drawn = _draw_pairs(config, graph, server_round)
    generator = numpy_generator(config.seed_of("pairing"), "segments", server_round)
    senders = sorted(sender for sender, _ in drawn)
    parcels: dict[tuple[int, int], list[int]] = {}
    for _, receiver in sorted(drawn, key=lambda pair: pair[1]):
        reachable = [s for s in senders if graph is None or graph.has_edge(s, receiver)]
        for segment in range(config.segments):
            wanted = min(config.segment_peers, len(reachable))
            for sender in generator.choice(reachable, wanted, replace=False):
                parcels.setdefault((int(sender), receiver), []).append(segment)
    transfers = [Transfer(*pair, tuple(parts)) for pair, parts in sorted(parcels.items())]
    return RoundPlan(senders, transfers)


@plans.register("nobody")
def nobody(config: RunConfig, graph: "Graph | None", server_round: int) -> RoundPlan:
    """The senders of `pairs` train, and nothing is sent."""
    return RoundPlan(pairs(config, graph, server_round).trainers, [])


def sorted_transfers(drawn: list[tuple[int, int]]) -> list[Transfer]:
    """Return whole-model transfers ordered by sender, then receiver."""
    return [Transfer(*pair) for pair in sorted(drawn)]


def _draw_pairs(
    config: RunConfig, graph: "Graph | None", server_round: int
) -> list[tuple[int, int]]:
    generator = numpy_generator(config.seed_of("pairing"), "pairs", server_round)
    order = generator.permutation(config.clients).tolist()
    wanted = config.pairs_per_round
    if graph is None:
        return list(zip(order[:wanted], order[wanted : 2 * wanted], strict=True))
    return _draw_neighbours(order, graph, wanted, generator)


def _draw_neighbours(
    order: list[int], graph: Graph, wanted: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    free = set(order)
    drawn: list[tuple[int, int]] = []
    for sender in order:
        partners = sorted(free.intersection(graph[sender]))
        if sender in free and partners and len(drawn) < wanted:
            receiver = int(generator.choice(partners))
            free -= {sender, receiver}
            drawn.append((sender, receiver))
    return drawn
