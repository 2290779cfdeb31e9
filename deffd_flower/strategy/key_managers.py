"""Dispatch for clients with key managers of their own, of whose store the server knows nothing.

A sender asks its key manager when it seals. One that gets no key says so and sends the rest, and
``on-starved`` decides, in real time:

* ``wait``: the same order again, after longer and longer pauses, for at most ``max-wait-s``;
* ``repick``: another neighbour gets the model (combo: another sender has the segments), or one of
  a few more, if that link is starved, too;
* ``degrade``: the next weaker suite, not below ``min-suite``;
* ``skip``, and whatever else failed: the model is not sent. Never plaintext.

A receiver that gets no key for a model in its inbox says so, too. With ``wait`` it is delivered
again with the receiver's next message; otherwise it is lost.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from deffd_flower.config import RunConfig
from deffd_flower.qkd.grant import Level, Tally
from deffd_flower.qkd.ledger import Use
from deffd_flower.qkd.usage import UsageLedger
from deffd_flower.randomness import numpy_generator
from deffd_flower.strategy.consignment import (
    NO_KEY,
    NO_REPLY,
    BaseDispatcher,
    Consignment,
    suites_in_play,
)
from deffd_flower.strategy.plans import RoundPlan, Transfer
from deffd_flower.strategy.topology import Graph
from deffd_flower.transport.envelope import parse
from deffd_flower.transport.refusal import EnvelopeError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
#: Others tried at most. Each is an exchange of messages, and behind a dead key manager all fail.
MOST_OTHERS = 5
_COUNTED = {"wait": "waits", "repick": "repicked", "degrade": "degraded"}


@dataclass
class _Search:
    """The search for key for one transfer of the plan.

    Attributes:
        planned: What the plan wants.
        since: When its sender first had no key.
        tried: What was ordered for it, in vain.
    """

    planned: Transfer
    since: float
    tried: list[Consignment] = field(default_factory=list)


class KeyManagerDispatcher(BaseDispatcher):
    """Orders models, and orders anew what senders had no key for.

    Args:
        config: The run's keys.
        graph: Who may write to whom; ``None`` for everybody to everybody.
        ledger: Where ``keys.csv`` goes; ``None`` writes none.
    """

    def __init__(
        self, config: RunConfig, graph: "Graph | None", ledger: Path | None = None
    ) -> None:
        super().__init__(config, graph)
        self._started = time.monotonic()
        self._tally = Tally()
        self._ledger = UsageLedger(ledger)
        self._round = 0
        self._plan = RoundPlan([], [])
        self._ordered: set[Transfer] = set()
        self._searches: dict[Transfer, _Search] = {}
        self._pause = FIRST_PAUSE_S
        self._unopened: dict[tuple[int, int, int], float] = {}
        self._keys_seen: set[UUID] = set()

    @property
    def now(self) -> float:
        """Real seconds since the start of the federation."""
        return time.monotonic() - self._started

    @property
    def tally(self) -> Tally:
        """What key has been used for so far, as far as headers tell."""
        return self._tally

    def begin_round(self, server_round: int, plan: RoundPlan) -> list[Consignment]:
        """Return the whole plan: whether there is key for it is for the senders to find out."""
        self._round = server_round
        self._plan = plan
        self._searches.clear()
        self._pause = FIRST_PAUSE_S
        self._ordered = set(plan.transfers)
        return [Consignment(each, self._config.suite, None) for each in plan.transfers]

    def sent(self, consignment: Consignment, blob: bytes, models: float) -> None:
        """Note a sealed model, and the key that its header names."""
        super().sent(consignment, blob, models)
        search = self._searches.pop(consignment.transfer, None)
        if search:
            self.counts[_COUNTED[self._config.on_starved]] += 1
            self._tally.waited_s += self.now - search.since
        try:
            header, _ = parse(blob)
        except EnvelopeError:
            return
        # A key that seals several models is counted once.
        fresh = [each for each in header.references if each.key_id not in self._keys_seen]
        self._keys_seen |= {reference.key_id for reference in fresh}
        self._tally.messages += bool(header.references)
        self._tally.key_bits += sum(reference.length for reference in fresh)
        self._ledger.used(self.now, self._round, _use(consignment), fresh)

    def again(self, starved: Sequence[Consignment]) -> list[Consignment]:
        """Return what to order instead, after a pause if the policy is to wait."""
        ordered = []
        for consignment in starved:
            search = self._search(consignment)
            choice = self._next_choice(search)
            if choice is None:
                self.counts["skipped"] += 1
                self.unsent.append((search.planned, NO_KEY))
                continue
            self._searches[choice.transfer] = search
            self._ordered.add(choice.transfer)
            ordered.append(choice)
        if ordered and self._config.on_starved == "wait":
            self._wait(ordered)
        return sorted(ordered, key=lambda c: (c.transfer.sender, c.transfer.receiver))

    def delivers_again(self, server_round: int, sender: int, receiver: int) -> bool:
        """Say whether to deliver a model again: for ``max-wait-s``, if the policy is to wait."""
        letter = (server_round, sender, receiver)
        if letter not in self._unopened:
            self._unopened[letter] = self.now
            self.counts["starved"] += 1
        waited = self.now - self._unopened[letter]
        return self._config.on_starved == "wait" and waited < self._config.max_wait_s

    def totals(self) -> dict[str, float]:
        """Return the counts so far; there is no simulated time."""
        return {**super().totals(), "sim_time_s": math.nan}

    def lost(self, consignment: Consignment) -> None:
        """Forget a model that never came; its key, if there was one, opens nothing."""
        self.unsent.append((consignment.transfer, NO_REPLY))
        self._searches.pop(consignment.transfer, None)

    def carried(self, size: int) -> None:
        """Do nothing: transfers take the time they take."""

    def end_round(self) -> None:
        """Write the ledger down."""
        self._ledger.flush()

    def levels(self) -> Mapping[str, Level]:
        """Return nothing: the store is the key managers' affair."""
        return {}

    def available(self, sender: int, receiver: int) -> int:
        """Return 0: the store is the key managers' affair."""
        return 0

    def close(self) -> None:
        """Write the ledger to its end."""
        self._ledger.flush()

    def _search(self, consignment: Consignment) -> _Search:
        search = self._searches.pop(consignment.transfer, None)
        if search is None:
            search = _Search(consignment.transfer, self.now)
            self.counts["starved"] += 1
        search.tried.append(consignment)
        self._ordered.discard(consignment.transfer)
        self._ledger.starved(self.now, self._round, _use(consignment))
        return search

    def _next_choice(self, search: _Search) -> Consignment | None:
        policy, last = self._config.on_starved, search.tried[-1]
        if policy == "wait":
            return last if self._left(search) > 0 else None
        if policy == "repick":
            return self._other_peer(search)
        if policy == "degrade":
            weaker = suites_in_play(self._config)[len(search.tried) :]
            return Consignment(last.transfer, weaker[0], None) if weaker else None
        return None

    def _other_peer(self, search: _Search) -> Consignment | None:
        planned = search.planned
        busy = self._ordered.union(tried.transfer for tried in search.tried)
        others = list(self._alternatives(planned, self._plan, busy))
        if not others or len(search.tried) > MOST_OTHERS:
            return None
        keys = (self._round, planned.sender, planned.receiver, len(search.tried))
        generator = numpy_generator(self._config.seed_of("pairing"), "repick", *keys)
        return Consignment(others[generator.integers(len(others))], self._config.suite, None)

    def _left(self, search: _Search) -> float:
        return self._config.max_wait_s - (self.now - search.since)

    def _wait(self, ordered: Sequence[Consignment]) -> None:
        longest = max(self._left(self._searches[each.transfer]) for each in ordered)
        time.sleep(max(0.0, min(self._pause, longest)))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)


def _use(consignment: Consignment) -> Use:
    transfer = consignment.transfer
    return Use("", transfer.sender, transfer.receiver, consignment.suite)
