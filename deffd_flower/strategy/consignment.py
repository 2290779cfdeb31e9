"""What every dispatcher does: books of what was sent, and who else could send or get a model."""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from deffd_flower.config import RunConfig
from deffd_flower.qkd.grant import Grant, Level, Tally
from deffd_flower.strategy.plans import RoundPlan, Transfer
from deffd_flower.strategy.topology import Graph
from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.suites import suites

NO_KEY, NO_REPLY = "no key", "no reply"


@dataclass(frozen=True)
class Consignment:
    """A transfer with what it needs to be sealed.

    Attributes:
        transfer: Who sends what to whom.
        suite: Name of the suite that seals it.
        grant: Key set aside; ``None`` when the sender goes on with the key it has, or asks its
            own key manager.
    """

    transfer: Transfer
    suite: str
    grant: Grant | None

    @property
    def references(self) -> tuple[KeyReference, ...]:
        """What the key is called."""
        return self.grant.references if self.grant else ()


def suites_in_play(config: RunConfig) -> list[str]:
    """Return the names of the suites a run may seal with, strongest first."""
    best = suites.get(config.suite).strength
    least = suites.get(config.min_suite or config.suite).strength
    if config.on_starved != "degrade":
        return [config.suite]
    strengths = {name: suites.get(name).strength for name in suites.names() if name != "none"}
    names = [name for name, strength in strengths.items() if least <= strength <= best]
    return sorted(names, key=strengths.__getitem__, reverse=True)


class BaseDispatcher(ABC):
    """Finds key for the transfers of each round, and keeps the books.

    Args:
        config: The run's keys.
        graph: Who may write to whom; ``None`` for everybody to everybody.

    Attributes:
        unsent: What was not sent since somebody last cleared this, and why: `NO_KEY`, `NO_REPLY`.
    """

    def __init__(self, config: RunConfig, graph: "Graph | None") -> None:
        self.counts: Counter[str] = Counter()
        self.bytes_by_suite: Counter[str] = Counter()
        self.models_by_suite: dict[str, float] = defaultdict(float)
        self.exposed: set[str] = set()
        self.unsent: list[tuple[Transfer, str]] = []
        self._config = config
        self._graph = graph

    @property
    @abstractmethod
    def now(self) -> float:
        """Seconds on the run's clock."""

    @property
    @abstractmethod
    def tally(self) -> Tally:
        """What key has been used for so far."""

    @abstractmethod
    def begin_round(self, server_round: int, plan: RoundPlan) -> list[Consignment]:
        """Return what can be sent in this round, ordered by sender, then receiver."""

    @abstractmethod
    def again(self, starved: Sequence[Consignment]) -> list[Consignment]:
        """Return what to order instead of what senders had no key for; empty to give up."""

    @abstractmethod
    def delivers_again(self, server_round: int, sender: int, receiver: int) -> bool:
        """Say whether to deliver a model again for which its receiver had no key.

        Args:
            server_round: The round it was sent in.
            sender: Partition id.
            receiver: Partition id.
        """

    @abstractmethod
    def lost(self, consignment: Consignment) -> None:
        """Settle the key of a model that never came."""

    @abstractmethod
    def carried(self, size: int) -> None:
        """Note a transfer of so many bytes in this round."""

    @abstractmethod
    def end_round(self) -> None:
        """Bring a round to its end."""

    @abstractmethod
    def levels(self) -> Mapping[str, Level]:
        """Return the links' key, where the server knows of it."""

    @abstractmethod
    def available(self, sender: int, receiver: int) -> int:
        """Return the key bits that a message between two clients could have now.

        0 where the server does not know.
        """

    @abstractmethod
    def close(self) -> None:
        """Bring the books to their end, and check them.

        Raises:
            DeffdError: They do not add up.
        """

    def sent(self, consignment: Consignment, blob: bytes, models: float) -> None:
        """Note a model, or a part of one, that came in sealed."""
        self.carried(len(blob))
        self.bytes_by_suite[consignment.suite] += len(blob)
        self.models_by_suite[consignment.suite] += models

    def totals(self) -> dict[str, float]:
        """Return the counts so far, as they stand in rounds.csv."""
        return {
            "key_bits": self.tally.key_bits,
            "sim_time_s": round(self.now, 6),
            "starved": self.counts["starved"],
            "waits": self.counts["waits"],
            "waited_s": round(self.tally.waited_s, 6),
            "repicked": self.counts["repicked"],
            "degraded": self.counts["degraded"],
            "skipped": self.counts["skipped"],
        }

    def _alternatives(
        self, transfer: Transfer, plan: RoundPlan, ordered: Iterable[Transfer]
    ) -> Iterator[Transfer]:
        """Yield the same parcel to other free receivers, or from other senders of segments."""
        ordered = [*plan.transfers, *ordered]
        if transfer.segments:
            busy = {
                other.sender
                for other in ordered
                if other.receiver == transfer.receiver
                and not set(other.segments).isdisjoint(transfer.segments)
            }
            for sender in plan.trainers:
                if sender not in busy and self._joined(sender, transfer.receiver):
                    yield replace(transfer, sender=sender)
            return
        taken = {*plan.trainers, *(other.receiver for other in ordered)}
        for receiver in range(self._config.clients):
            if receiver not in taken and self._joined(transfer.sender, receiver):
                yield replace(transfer, receiver=receiver)

    def _joined(self, one: int, other: int) -> bool:
        return self._graph is None or self._graph.has_edge(one, other)
