"""The network's controller: how much key there is, who gets it, and which nodes see it."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid5

from deffd_flower.errors import RequestError
from deffd_flower.qkd.attacks import CompromisedNode, LinkAttack
from deffd_flower.qkd.eve import Eve
from deffd_flower.qkd.grant import Grant, Level, Tally
from deffd_flower.qkd.ledger import Ledger, Use
from deffd_flower.qkd.network import QkdNetwork, Route
from deffd_flower.qkd.pool import KeyPool, PoolSettings
from deffd_flower.qkd.production import NANOSECONDS, block_yield, nanoseconds
from deffd_flower.transport.references import KeyReference

#: Names the key_IDs of this package; drawn once, of no further meaning.
KEY_IDS = UUID("6c1a6bb7-0c3c-4b0e-9d43-7f4b5f0f5a2e")


class QkdnController:
    """The QKDN controller (ITU-T Y.3800) of a simulated network: it counts key and sees none.

    Links come to life when first asked for, and are brought up to date when they are. What they
    hold depends on simulated time alone, so that this changes nothing.

    Args:
        network: Nodes, links and routes.
        settings: How each link's key is kept.
        eve: What happens to links and nodes.
        ledger: Hears of every bit.
        seed: Seed of the run; the key_IDs follow from it.

    Raises:
        RequestError: Eve attacks a link or node that is not there.
    """

    def __init__(
        self,
        network: QkdNetwork,
        settings: PoolSettings | None = None,
        eve: Eve | None = None,
        ledger: Ledger | None = None,
        seed: int = 0,
    ) -> None:
        self.network = network
        self.tally = Tally()
        self._settings = settings or PoolSettings()
        self._eve = eve or Eve()
        self._ledger = ledger or Ledger()
        self._seed = seed
        self._time = 0
        self._rounds: list[tuple[int, int]] = []
        self._pools: dict[str, KeyPool] = {}
        self._drawn: Counter[tuple[int, int]] = Counter()
        self._open: dict[UUID, Grant] = {}
        _check_targets(self._eve, network)

    @property
    def now(self) -> float:
        """Simulated seconds since the start of the federation."""
        return self._time / NANOSECONDS

    def advance(self, seconds: float) -> None:
        """Let simulated time pass.

        Raises:
            ValueError: ``seconds`` is negative or infinite.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time cannot pass by {seconds} s")
        self._time += nanoseconds(seconds)

    def begin_round(self, server_round: int) -> None:
        """Begin a round, now; rounds only go up.

        Raises:
            ValueError: The round has begun before.
        """
        if self._rounds and server_round <= self._rounds[-1][0]:
            raise ValueError(f"round {server_round} after round {self._rounds[-1][0]}")
        self._rounds.append((server_round, self._time))
        self._ledger.begin_round(server_round)

    def available(self, sender: int, receiver: int) -> int:
        """Return the bits that a message between two clients could have now."""
        route = self._route(sender, receiver)
        return min(self._pool(link).available for link in route.links) if route else 0

    def seconds_until(self, sender: int, receiver: int, bits: int) -> float:
        """Return how long until a message could have so many bits; infinite if it never will.

        Holds if nobody takes any meanwhile and Eve goes on as she does now.
        """

        def sooner(link: str) -> float:
            return -self._wait(link, bits)

        route = self.network.route(sender, receiver, sooner)
        return max(self._wait(link, bits) for link in route.links) if route else math.inf

    def grant(
        self, sender: int, receiver: int, bits: int, suite: str, wait_s: float = 0.0
    ) -> Grant | None:
        """Set key aside for one message, or return ``None`` when there is too little.

        Each grant is a key of its own, with its own id: no bit serves two messages, so none
        serves two directions. It has to be settled or abandoned.

        Args:
            sender: Partition id.
            receiver: Partition id.
            bits: What the suite needs, a multiple of 8; 0 gives a grant without key.
            suite: Its name, for the ledger.
            wait_s: How long the message has waited, for the record.

        Raises:
            ValueError: ``bits`` is negative or no multiple of 8.
        """
        if bits < 0 or bits % 8:
            raise ValueError(f"{bits} key bits: must be a multiple of 8")
        wanted = Grant(sender, receiver, suite, bits, wait_s=wait_s)
        if not bits:
            return wanted
        route = self._route(sender, receiver)
        if route is None or not self._covers(route, bits, Use("", sender, receiver, suite)):
            self.tally.starved += 1
            return None
        return self._set_aside(wanted, route)

    def settle(self, grant: Grant, used_bits: int) -> None:
        """Close the grant of a message that was sealed; burn what it did not need.

        Raises:
            ValueError: The grant is closed, or has fewer bits.
        """
        if not 0 <= used_bits <= grant.bits:
            raise ValueError(f"{used_bits} bits used of a grant of {grant.bits}")
        self.tally.waited_s += grant.wait_s
        if not grant.references:
            return
        key_id = grant.references[0].key_id
        if self._open.pop(key_id, None) is None:
            raise ValueError(f"grant {key_id} is closed")
        exposed = " ".join(sorted(grant.exposed))
        use = Use(str(key_id), grant.sender, grant.receiver, grant.suite, exposed)
        for link, lease in grant.leases:
            pool = self._pool(link)
            self._ledger.catch_up(link, pool)
            pool.deliver(lease, used_bits)
            self._ledger.close_lease(link, pool, lease, used_bits, use)
        self._count(grant, used_bits)

    def abandon(self, grant: Grant) -> None:
        """Close the grant of a message nothing was heard of: all of its bits are burnt.

        Raises:
            ValueError: The grant is closed.
        """
        self.settle(grant, 0)

    def levels(self) -> dict[str, Level]:
        """Return every link that was ever asked for."""
        pools = {link: self._pool(link) for link in self._pools}
        return {
            link: Level(pool.stored, pool.available, pool.qber, pool.books.aborted)
            for link, pool in pools.items()
        }

    def close(self) -> None:
        """Abandon what is open, bring the ledger to its end, and check it.

        Raises:
            DeffdError: The ledger does not add up.
        """
        for grant in list(self._open.values()):
            self.abandon(grant)
        for link in self._pools:
            self._ledger.catch_up(link, self._pool(link))
        self._ledger.flush()
        self._ledger.check()

    def _route(self, sender: int, receiver: int) -> Route | None:
        return self.network.route(sender, receiver, lambda link: self._pool(link).available)

    def _set_aside(self, wanted: Grant, route: Route) -> Grant:
        leases = tuple((link, self._pool(link).lease(wanted.bits)) for link in route.links)
        key_id = self._next_key_id(wanted.sender, wanted.receiver)
        read_by_eve = self._eve.compromised(self._time, self._rounds)
        grant = self._open[key_id] = replace(
            wanted,
            references=(KeyReference(key_id, 0, wanted.bits),),
            exposed=route.exposed,
            compromised=not read_by_eve.isdisjoint(route.nodes),
            age_s=(self._time - min(lease.born for _, lease in leases)) / NANOSECONDS,
            leases=leases,
        )
        return grant

    def _covers(self, route: Route, bits: int, use: Use) -> bool:
        narrowest = min(route.links, key=lambda link: self._pool(link).available)
        pool = self._pool(narrowest)
        if pool.available >= bits:
            return True
        self._ledger.catch_up(narrowest, pool)
        self._ledger.starve(narrowest, pool, use)
        return False

    def _wait(self, link: str, bits: int) -> float:
        pool = self._pool(link)
        return pool.seconds_until(bits, self._eve.at(link, self._time, self._rounds))

    def _next_key_id(self, sender: int, receiver: int) -> UUID:
        count = self._drawn[sender, receiver]
        self._drawn[sender, receiver] += 1
        return uuid5(KEY_IDS, f"{self._seed}/{sender}/{receiver}/{count}")

    def _count(self, grant: Grant, used_bits: int) -> None:
        tally = self.tally
        if not used_bits:
            tally.abandoned += 1
            return
        tally.messages += 1
        tally.key_bits += used_bits
        tally.link_bits += used_bits * len(grant.leases)
        tally.relayed += bool(grant.exposed)
        tally.compromised += grant.compromised

    def _pool(self, link: str) -> KeyPool:
        """Return a link's pool, brought up to the present."""
        pool = self._pools.get(link)
        if pool is None:
            system = self.network.link(link)
            yield_of = partial(block_yield, system, self._settings.abort_qber)
            pool = self._pools[link] = KeyPool(yield_of, self._settings)
        if pool.time < self._time:
            past = self._eve.conditions(link, pool.time, self._time, self._rounds)
            for until, conditions in past:
                pool.advance_to(until, conditions)
        return pool


def _check_targets(eve: Eve, network: QkdNetwork) -> None:
    for attack in eve.schedule:
        if isinstance(attack, LinkAttack):
            for link in attack.links:
                network.link(link)
        elif isinstance(attack, CompromisedNode) and not network.has_node(attack.node):
            raise RequestError("node", attack.node, "there is no such node in the QKD network")
