"""What the server knows when it draws the pairs of a round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from deffd_flower.config import RunConfig
from deffd_flower.randomness import numpy_generator
from deffd_flower.strategy.topology import Graph

Pair: TypeAlias = tuple[int, int]
"""Partition ids of a sender and a receiver."""


def no_key(sender: int, receiver: int) -> float:
    """Return 0: nobody has said what is stored for a message between the two."""
    return 0


@dataclass(frozen=True)
class Knowledge:
    """What a pairing plan and a partner rule go by; the same in every engine.

    Attributes:
        config: The run's keys.
        graph: Who may write to whom; ``None`` for everybody to everybody.
        server_round: The round, from 1.
        meetings: For each client, the peers it has met and the last round in which one of the two
            sent the other a model, or a part of one.
        label_counts: Each client's training samples per class, by partition id; ``None`` where
            clients keep that to themselves.
        losses: Each client's mean loss when it trained last; infinite where it was no number.
        preferences: The peers each client has heard from, whom it prefers first, where it was asked
            for that.
        stored: Bits of key that a message from one client to another could have now, as far as the
            server knows.
    """

    config: RunConfig
    graph: "Graph | None"
    server_round: int
    meetings: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    label_counts: Sequence[Sequence[int]] | None = None
    losses: Mapping[int, float] = field(default_factory=dict)
    preferences: Mapping[int, Sequence[int]] = field(default_factory=dict)
    stored: Callable[[int, int], float] = no_key

    @cached_property
    def order(self) -> list[int]:
        """All clients in the order in which this round draws them."""
        return self.shuffled(self.generator("pairs"))

    def shuffled(self, generator: np.random.Generator) -> list[int]:
        """Return all clients in an order of a generator's."""
        order: list[int] = generator.permutation(self.config.clients).tolist()
        return order

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the generator for one purpose in this round, the same at each call."""
        return numpy_generator(self.config.seed_of("pairing"), purpose, self.server_round)

    def joined(self, one: int, other: int) -> bool:
        """Say whether two clients may write to each other."""
        if self.graph is not None:
            return self.graph.has_edge(one, other)
        everybody = range(self.config.clients)
        return one != other and one in everybody and other in everybody
