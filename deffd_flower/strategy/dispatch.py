"""Key for every model before it is sent, and what happens to a model when there is too little.

The server plays the QKD network's controller here: it counts key and sets it aside, and never
sees a bit of it. ``on-starved`` decides for a model that finds too little:

* ``wait``: simulated time passes until there is enough, at most ``max-wait-s``;
* ``repick``: another neighbour with key gets the model (combo: another sender has the segments);
* ``degrade``: the strongest suite that there is key for, not below ``min-suite``;
* ``skip``, and whatever else failed: the model is not sent. Never plaintext.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deffd_flower.config import RunConfig
from deffd_flower.qkd.controller import QkdnController
from deffd_flower.qkd.grant import Grant, Level, Tally
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
from deffd_flower.transport.rekeying import RekeyPolicy
from deffd_flower.transport.suite import Suite
from deffd_flower.transport.suites import suites

__all__ = ["Consignment", "Dispatcher", "suites_in_play"]

# Bytes by which parts of a model outgrow their share of it: in all, and for each part.
_PARTS_OVERHEAD, _PART_OVERHEAD = 128, 128


class Dispatcher(BaseDispatcher):
    """Finds key in a simulated network, and lets simulated time pass.

    Args:
        config: The run's keys.
        graph: Who may write to whom; ``None`` for everybody to everybody.
        controller: Counts the network's key.
        package_bytes: Size of a client's whole model as it is sealed, by partition id.
    """

    def __init__(
        self,
        config: RunConfig,
        graph: "Graph | None",
        controller: QkdnController,
        package_bytes: Mapping[int, int],
    ) -> None:
        super().__init__(config, graph)
        self.controller = controller
        self._package_bytes = package_bytes
        self._policy = RekeyPolicy(config.rekey_messages, config.rekey_bytes, config.rekey_seconds)
        self._in_use: dict[tuple[int, int], _Use] = {}
        self._largest = 0

    @property
    def now(self) -> float:
        """Simulated seconds since the start of the federation."""
        return self.controller.now

    @property
    def tally(self) -> Tally:
        """What the network has done for the federation so far."""
        return self.controller.tally

    def begin_round(self, server_round: int, plan: RoundPlan) -> list[Consignment]:
        """Return what can be sent in this round, ordered by sender, then receiver."""
        self.controller.begin_round(server_round)
        consigned: list[Consignment] = []
        going_on = list(plan.transfers)
        # Again and again, because waiting for one model's key lets those in use grow older.
        while True:
            decided = [(each, self._goes_on_with_its_key(each)) for each in going_on]
            starting = [each for each, goes_on in decided if not goes_on]
            if not starting:
                break
            going_on = [each for each, goes_on in decided if goes_on]
            for transfer in starting:
                found = self._consign(transfer, plan, consigned, server_round)
                if found:
                    consigned.append(found)
                else:
                    self.counts["skipped"] += 1
                    self.unsent.append((transfer, NO_KEY))
        consigned += [self._go_on(transfer) for transfer in going_on]
        return sorted(consigned, key=lambda c: (c.transfer.sender, c.transfer.receiver))

    def sent(self, consignment: Consignment, blob: bytes, models: float) -> None:
        """Settle the key of a model that came in sealed; what it did not need is burnt."""
        super().sent(consignment, blob, models)
        if consignment.grant:
            self.exposed |= consignment.grant.exposed
            self.controller.settle(consignment.grant, _used_bits(consignment.grant, blob))

    def lost(self, consignment: Consignment) -> None:
        """Burn the key of a model that never came."""
        self.unsent.append((consignment.transfer, NO_REPLY))
        pair = consignment.transfer.sender, consignment.transfer.receiver
        self._in_use.pop(pair, None)
        if consignment.grant:
            self.controller.abandon(consignment.grant)

    def carried(self, size: int) -> None:
        """Note a transfer of so many bytes in this round."""
        self._largest = max(self._largest, size)

    def end_round(self) -> None:
        """Let the round's computing and its largest transfer take their simulated time."""
        transfer_s = 8 * self._largest / (1e6 * self._config.transfer_mbps)
        self._largest = 0
        self.controller.advance(self._config.round_compute_s + transfer_s)

    def levels(self) -> dict[str, Level]:
        """Return the links' key."""
        return self.controller.levels()

    def available(self, sender: int, receiver: int) -> int:
        """Return the key bits that a message between two clients could have now."""
        return self.controller.available(sender, receiver)

    def again(self, starved: Sequence[Consignment]) -> list[Consignment]:
        """Return nothing: key that was granted is there."""
        return []

    def delivers_again(self, server_round: int, sender: int, receiver: int) -> bool:
        """Say no: what is not there now will not come."""
        return False

    def close(self) -> None:
        """Bring the ledger to its end, and check it.

        Raises:
            DeffdError: It does not add up.
        """
        self.controller.close()

    def _consign(
        self,
        transfer: Transfer,
        plan: RoundPlan,
        consigned: Sequence[Consignment],
        server_round: int,
    ) -> Consignment | None:
        found = self._grant(transfer, self._config.suite)
        if found:
            return found
        self.counts["starved"] += 1
        if self._config.on_starved == "wait":
            return self._wait(transfer)
        if self._config.on_starved == "repick":
            return self._repick(transfer, plan, consigned, server_round)
        if self._config.on_starved == "degrade":
            return self._degrade(transfer)
        return None

    def _grant(self, transfer: Transfer, suite: str, wait_s: float = 0.0) -> Consignment | None:
        bits = self._bits(transfer, suites.get(suite)())
        grant = self.controller.grant(transfer.sender, transfer.receiver, bits, suite, wait_s)
        if grant is None:
            return None
        if self._policy.messages > 1 and suites.get(suite).reuses_keys and grant.references:
            use = _Use(suite, 1, self._bytes(transfer), self.controller.now)
            self._in_use[transfer.sender, transfer.receiver] = use
        return Consignment(transfer, suite, grant)

    def _wait(self, transfer: Transfer) -> Consignment | None:
        bits = self._bits(transfer, suites.get(self._config.suite)())
        seconds = self.controller.seconds_until(transfer.sender, transfer.receiver, bits)
        if not seconds <= self._config.max_wait_s or math.isinf(seconds):
            return None
        self.controller.advance(seconds)
        found = self._grant(transfer, self._config.suite, seconds)
        self.counts["waits"] += found is not None
        return found

    def _repick(
        self,
        transfer: Transfer,
        plan: RoundPlan,
        consigned: Sequence[Consignment],
        server_round: int,
    ) -> Consignment | None:
        others = list(self._alternatives(transfer, plan, [each.transfer for each in consigned]))
        keys = (server_round, transfer.sender, transfer.receiver)
        seed = self._config.seed_of("pairing")
        order = numpy_generator(seed, "repick", *keys).permutation(len(others))
        for index in order:
            found = self._grant(others[index], self._config.suite)
            if found:
                self.counts["repicked"] += 1
                return found
        return None

    def _degrade(self, transfer: Transfer) -> Consignment | None:
        for suite in suites_in_play(self._config)[1:]:
            found = self._grant(transfer, suite)
            if found:
                self.counts["degraded"] += 1
                return found
        return None

    def _bits(self, transfer: Transfer, suite: Suite) -> int:
        return suite.key_bits(self._bytes(transfer))

    def _bytes(self, transfer: Transfer) -> int:
        """Return the size of a parcel: exact for a whole model, never too little for segments."""
        whole, count = self._package_bytes[transfer.sender], len(transfer.segments)
        share = math.ceil(whole / self._config.segments) + _PART_OVERHEAD
        return _PARTS_OVERHEAD + count * share if count else whole

    def _goes_on_with_its_key(self, transfer: Transfer) -> bool:
        """Follow the sender's own key schedule, which takes the same decision."""
        use = self._in_use.get((transfer.sender, transfer.receiver))
        if use is None or use.suite != self._config.suite:
            return False
        return use.allows(self._policy, self._bytes(transfer), self.controller.now)

    def _go_on(self, transfer: Transfer) -> Consignment:
        use = self._in_use[transfer.sender, transfer.receiver]
        use.messages += 1
        use.bytes += self._bytes(transfer)
        return Consignment(transfer, use.suite, None)


@dataclass
class _Use:
    """What a key that is used more than once has sealed so far."""

    suite: str
    messages: int
    bytes: int
    since: float

    def allows(self, policy: RekeyPolicy, size: int, now: float) -> bool:
        return (
            self.messages < policy.messages
            and self.bytes + size <= policy.bytes
            and now - self.since < policy.seconds
        )


def _used_bits(grant: Grant, blob: bytes) -> int:
    """Return how much of a grant a sealed model names, which its header tells everybody."""
    try:
        header, _ = parse(blob)
    except EnvelopeError:
        return 0
    granted = {reference.key_id for reference in grant.references}
    named = sum(each.length for each in header.references if each.key_id in granted)
    return min(named, grant.bits)
