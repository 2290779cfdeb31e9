"""What a federation asks of its quantum links in a round, on average.

Rounds are drawn by the run's own pairing plan and seed; the first are those that a run will draw.
Key flows instead of coming in blocks, so that no key has to be simulated.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from deffd_flower.config import RunConfig
from deffd_flower.errors import RequestError
from deffd_flower.qkd.network import DirectNetwork, QkdNetwork, Route, Width
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import Transfer, plans
from deffd_flower.strategy.presets import strategies
from deffd_flower.strategy.topology import topology

#: Transfers that are drawn: many where each link's load is counted, fewer where a mean over all
#: links is wanted, or where finding a route takes longer than drawing.
_COUNTED, _OTHERS = 50_000, 10_000
#: A key lives for no more rounds; more would make no difference to any number shown.
MOST_ROUNDS = 10**9

#: Key bits of a transfer.
Bits = Callable[[Transfer], float]


class Demand(NamedTuple):
    """What one link has to give in a round, on average.

    Attributes:
        links: How many links have the same load.
        messages: Sealed models whose key takes this link.
        bits: Key bits.
    """

    links: int
    messages: float
    bits: float


class Reuse(NamedTuple):
    """How often a key may seal again; see `RekeyPolicy`.

    Attributes:
        messages: Messages that one key may seal.
        rounds: Rounds after its first in which it is young enough.
    """

    messages: int = 1
    rounds: int = 0

    def fresh_share(self, probability: float) -> float:
        """Return the share of messages that take a fresh key.

        A sender writes to the same receiver in each round with the same probability. A key seals
        its first message and B more, B binomial over the rounds it lives, up to its limit.
        Lives follow each other alike, so the share is 1 / (1 + E[min(B, limit - 1)]).
        """
        more = self.messages - 1
        if not more or not self.rounds:
            return 1.0
        from scipy.stats import binom

        few = self.rounds * probability * binom.cdf(more - 2, self.rounds - 1, probability)
        return float(1 / (1 + few + more * binom.sf(more - 1, self.rounds, probability)))


class Traffic:
    """The transfers of a number of rounds, and what they ask of the links.

    Where any two clients share a link and the plan favours nobody, all links have the same load,
    and the mean over them is each one's expectation. Def-KT's draw sends exactly Q models a round:
    one of K (K - 1) / 2 links then carries Q / (K (K - 1) / 2) of them, with no error at all.
    Elsewhere loads are estimated: a client of a sparse graph may find its neighbours taken, where
    keys are relayed, each goes where most is stored, and models of several architectures differ in
    size.

    Args:
        config: A resolved config whose strategy has a pairing plan.
        network: The QKD network.

    Attributes:
        alike: Whether all links have the same load.
        exact: Whether loads are expectations and not estimates.
        rounds: The drawn rounds; one is enough where they are exact.
    """

    def __init__(self, config: RunConfig, network: QkdNetwork) -> None:
        graph = topology(config)
        name = strategies.get(config.strategy)().plan
        self._network = network
        self._direct = isinstance(network, DirectNetwork)
        self._pairs = config.clients * (config.clients - 1) // 2
        self._links = self._pairs if graph is None else graph.number_of_edges()
        self._head_start_s = config.head_start_s
        same_size = self._direct and graph is None and not config.cast.several
        self.alike = same_size and name in ("pairs", "segments", "nobody")
        self.exact = name == "nobody" or (self.alike and name == "pairs")
        self.rounds: list[list[Transfer]] = []
        counted = self._direct and not self.alike
        wanted = 1 if self.exact else _COUNTED if counted else _OTHERS
        while wanted > 0:
            knowledge = Knowledge(config, graph, len(self.rounds) + 1)
            self.rounds.append(plans.get(name)(knowledge).transfers)
            wanted -= max(1, len(self.rounds[-1]))

    @cached_property
    def transfers(self) -> list[Transfer]:
        """All transfers in their order."""
        return [transfer for transfers in self.rounds for transfer in transfers]

    @property
    def per_round(self) -> float:
        """Transfers per round."""
        return len(self.transfers) / len(self.rounds)

    def mean(self, quantity: Callable[[Transfer], float]) -> float:
        """Return a quantity's mean over all transfers; 0 if there are none."""
        return float(np.mean([quantity(t) for t in self.transfers])) if self.transfers else 0.0

    def mean_largest(self, quantity: Callable[[Transfer], float]) -> float:
        """Return the mean over rounds of the largest of a round; 0 in rounds without transfer."""
        return float(np.mean([max(map(quantity, sent), default=0.0) for sent in self.rounds]))

    def demands(self, bits: Bits, reuse: Reuse, rate: Width, round_s: float) -> dict[str, Demand]:
        """Return what each link that carries anything has to give, by its name.

        Args:
            bits: Key bits of a message under a fresh key.
            reuse: How often a key may seal again.
            rate: Bits per second that a link produces.
            round_s: Simulated seconds of a round that waits for no key.

        Raises:
            RequestError: The network has no way between two clients that write to each other.
        """
        if not self.mean(bits):
            return {}
        if self.alike:
            messages = self.per_round / self._pairs
            taken = messages * self.mean(bits) * reuse.fresh_share(messages / 2)
            return {"0-1": Demand(self._pairs, messages, taken)}
        balance = _Balance(self._network, rate, self._head_start_s)
        fresh_bits = self._fresh(bits, reuse)
        take = balance.take if self._direct else balance.take_in_time
        for sent in self.rounds:
            for transfer in sent:
                take(transfer, fresh_bits(transfer))
            balance.clock += round_s
        return self._per_round(balance)

    def _fresh(self, bits: Bits, reuse: Reuse) -> Bits:
        met = Counter((transfer.sender, transfer.receiver) for transfer in self.transfers)
        shares = {pair: reuse.fresh_share(times / len(self.rounds)) for pair, times in met.items()}
        return lambda transfer: bits(transfer) * shares[transfer.sender, transfer.receiver]

    def _per_round(self, balance: "_Balance") -> dict[str, Demand]:
        rounds, counted = len(self.rounds), balance.messages
        loads = evened(counted, self._links, rounds) if self._direct else counted
        return {
            link: Demand(1, loads[link] / rounds, taken / counted[link] * loads[link] / rounds)
            for link, taken in balance.taken.items()
        }


def evened(counts: Mapping[str, int], links: int, rounds: int) -> dict[str, float]:
    """Return links' counts without the part of their spread that is chance.

    Among many links of the same load, the one that was drawn most often seems a bottleneck. Each
    count moves towards the mean by the share of the variance that drawing alone explains
    (empirical Bayes: Efron and Morris, J. Am. Stat. Assoc. 68, 117, 1973).

    Args:
        counts: How often each link was drawn.
        links: Number of links, those that were never drawn included.
        rounds: Number of rounds, in each of which a link is drawn once or not at all.
    """
    drawn = np.array(list(counts.values()), dtype=float)
    mean = drawn.sum() / links
    variance = (drawn**2).sum() / links - mean**2
    kept = max(0.0, 1 - mean * (1 - mean / rounds) / variance) if variance > 0 else 0.0
    return {link: float(mean + kept * (count - mean)) for link, count in counts.items()}


class _Balance:
    """Every link's key while rounds go by: what has flowed in, less what was taken."""

    def __init__(self, network: QkdNetwork, rate: Width, clock: float) -> None:
        self.clock = clock
        self.taken: dict[str, float] = {}
        self.messages: Counter[str] = Counter()
        self._network = network
        self._rate = rate

    def take(self, transfer: Transfer, bits: float) -> None:
        """Take a message's key from the links that have most, there or not."""
        for link in self._route(transfer, self._stored).links:
            self.taken[link] = self.taken.get(link, 0.0) + bits
            self.messages[link] += 1

    def take_in_time(self, transfer: Transfer, bits: float) -> None:
        """Take it as the controller would, after a wait on the way that is ready first."""

        def ready(link: str) -> float:
            missing, rate = max(0.0, bits - self._stored(link)), self._rate(link)
            return -missing / rate if rate else -math.inf

        if min(map(ready, self._route(transfer, self._stored).links)) < 0:
            seconds = -min(map(ready, self._route(transfer, ready).links))
            self.clock += seconds if math.isfinite(seconds) else 0.0
        self.take(transfer, bits)

    def _stored(self, link: str) -> float:
        return self._rate(link) * self.clock - self.taken.get(link, 0.0)

    def _route(self, transfer: Transfer, width: Width) -> Route:
        route = self._network.route(transfer.sender, transfer.receiver, width)
        if route is None:
            advice = f"has no way for a key from client {transfer.sender} to {transfer.receiver}"
            raise RequestError("qkd-network", None, advice)
        return route
