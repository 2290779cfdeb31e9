"""What the server writes down while a federation runs, because the next pairs may go by it."""

import math
from collections.abc import Callable

from flwr.app import Message, MessageType

from deffd_flower.config import RunConfig
from deffd_flower.strategy.evaluation import numbers
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.orders import Nominations
from deffd_flower.strategy.plans import Transfer
from deffd_flower.strategy.roster import Roster
from deffd_flower.strategy.topology import Graph


class Notebook:
    """Keeps what the server knows of its clients, in whatever order it comes to know it.

    Args:
        config: The run's keys.
        graph: Who may write to whom; ``None`` for everybody to everybody.
        roster: The clients, and what they have said of themselves.
        stored: Bits of key that a message from one client to another could have now.
    """

    def __init__(
        self,
        config: RunConfig,
        graph: "Graph | None",
        roster: Roster,
        stored: Callable[[int, int], float],
    ) -> None:
        self._config = config
        self._graph = graph
        self._stored = stored
        counts = [member.label_counts for member in roster if member.label_counts is not None]
        self._label_counts = counts if len(counts) == len(roster) else None
        self._meetings: dict[int, dict[int, int]] = {member.partition: {} for member in roster}
        self._losses: dict[int, float] = {}
        self._preferences: dict[int, tuple[int, ...]] = {}
        self._later: dict[int, dict[int, tuple[int, ...]]] = {}

    def carried(self, server_round: int, transfer: Transfer) -> None:
        """Note that a model, or a part of one, has left its sender."""
        self._meetings[transfer.sender][transfer.receiver] = server_round
        self._meetings[transfer.receiver][transfer.sender] = server_round

    def heard(self, server_round: int, partition: int, reply: Message) -> None:
        """Note what a client says of its training and of its peers.

        A model that comes with an evaluation comes with the next round's training in a run that
        does not evaluate now. The preferences that follow from it count from the same round on, so
        that the rhythm of evaluation does not change who meets whom.
        """
        losses = numbers(reply)
        if "train" in losses:
            lost = losses["train"]
            self._losses[partition] = lost if math.isfinite(lost) else math.inf
        preferred = Nominations.read(reply.content).preferred
        if preferred:
            evaluated = reply.metadata.message_type == MessageType.EVALUATE
            self._later.setdefault(server_round + 1 + evaluated, {})[partition] = preferred

    def knowledge(self, server_round: int) -> Knowledge:
        """Return what is known as a round begins; rounds only go up."""
        for since in sorted(self._later):
            if since <= server_round:
                self._preferences |= self._later.pop(since)
        return Knowledge(
            self._config,
            self._graph,
            server_round,
            meetings={client: dict(peers) for client, peers in self._meetings.items()},
            label_counts=self._label_counts,
            losses=dict(self._losses),
            preferences=dict(self._preferences),
            stored=self._stored,
        )
