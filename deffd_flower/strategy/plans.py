"""Pairing plans: who trains in a round, and who then sends what to whom."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from deffd_flower.registry import Registry
from deffd_flower.strategy.knowledge import Knowledge, Pair
from deffd_flower.strategy.partners import drawn


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


Plan: TypeAlias = Callable[[Knowledge], RoundPlan]
plans: Registry[Plan] = Registry("plan")


@plans.register("pairs")
def pairs(knowledge: Knowledge) -> RoundPlan:
    """Disjoint pairs of neighbours by the rule ``partner``; the first trains and sends."""
    chosen = drawn(knowledge)
    return RoundPlan(sorted(sender for sender, _ in chosen), sorted_transfers(chosen))


@plans.register("segments")
def segments(knowledge: Knowledge) -> RoundPlan:
    """Draw as `pairs` does; each receiver pulls each segment from senders among its neighbours.

    Source: Hu, Jiang, Wang 2019 (arXiv 1908.07782). With ``segment-peers`` = 1 the traffic is
    that of `pairs`: one model per receiver, in pieces from several senders.
    """
    config, chosen = knowledge.config, drawn(knowledge)
    generator = knowledge.generator("segments")
    senders = sorted(sender for sender, _ in chosen)
    parcels: dict[tuple[int, int], list[int]] = {}
    for _, receiver in sorted(chosen, key=lambda pair: pair[1]):
        reachable = [sender for sender in senders if knowledge.joined(sender, receiver)]
        for segment in range(config.segments):
            wanted = min(config.segment_peers, len(reachable))
            for sender in generator.choice(reachable, wanted, replace=False):
                parcels.setdefault((int(sender), receiver), []).append(segment)
    transfers = [Transfer(*pair, tuple(parts)) for pair, parts in sorted(parcels.items())]
    return RoundPlan(senders, transfers)


@plans.register("nobody")
def nobody(knowledge: Knowledge) -> RoundPlan:
    """The senders of `pairs` train, and nothing is sent."""
    return RoundPlan(pairs(knowledge).trainers, [])


def sorted_transfers(chosen: list[Pair]) -> list[Transfer]:
    """Return whole-model transfers ordered by sender, then receiver."""
    return [Transfer(*pair) for pair in sorted(chosen)]
