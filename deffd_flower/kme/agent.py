"""The key management agent (ITU-T Y.3802): makes keys, and takes them to other KMEs."""

import asyncio
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from deffd_flower.kme import transactions
from deffd_flower.kme.config import KmeConfig
from deffd_flower.kme.database import Database
from deffd_flower.kme.directory import ANYHOW, Conditions, Directory, Route, RouteType
from deffd_flower.kme.messages import Accepted, Delivery, PeerError
from deffd_flower.kme.neighbour import Neighbour
from deffd_flower.kme.streams import Taken
from deffd_flower.kme.waiting_keys import NamedKey, WaitingKeys
from deffd_flower.transport.refusal import KeyUnavailable

if TYPE_CHECKING:
    from aiohttp import ClientSession

#: Part of the time left to deliver a key that the next KME on its way gets.
_HOP_SHARE = 0.9


@dataclass(frozen=True)
class Order:
    """Keys that a master SAE asks for.

    Attributes:
        master: SAE id.
        slaves: SAE ids by the KME they are at.
        number: How many keys.
        length: Bytes of each.
        conditions: What the keys and their ways have to be like.
    """

    master: str
    slaves: Mapping[str, Sequence[str]]
    number: int
    length: int
    conditions: Conditions = ANYHOW

    @property
    def size(self) -> int:
        """Bytes of all keys."""
        return self.number * self.length


@dataclass(frozen=True)
class Made:
    """Keys that have reached the KMEs of all who shall have them.

    Attributes:
        keys: The keys.
        trusted: KMEs on the way that have seen them, beside those of master and slaves; sorted.
    """

    keys: list[NamedKey]
    trusted: list[str]


class KeyManagementAgent:
    """Makes keys, and takes them to other KMEs.

    A key between SAEs of two neighbouring KMEs is key of their link. On any further link, and to
    any further KME, it is sent encrypted with as much link key (one-time pad). Keys between SAEs
    of this very KME are random numbers of the operating system: no link has a part in them.

    Args:
        config: Of the KME.
        database: Its store.
        directory: Its view of the network.
        neighbours: The other ends of its links.
        session: For messages to them.
    """

    def __init__(
        self,
        config: KmeConfig,
        database: Database,
        directory: Directory,
        neighbours: Mapping[str, Neighbour],
        session: "ClientSession",
    ) -> None:
        self._own = config.kme_id
        self._saes = frozenset(config.saes)
        self._delivery_s = config.limits.delivery_s
        self._most_waiting = config.pool.capacity // 8
        self._database = database
        self._directory = directory
        self._neighbours = neighbours
        self._session = session

    async def make_keys(self, order: Order) -> Made:
        """Make keys and take them to everyone; they are on all disks when this returns.

        Raises:
            KeyUnavailable: There is too little key, or no way.
            PeerError: Another KME did not take them; what they are made of is burnt.
            StoreFullError: Too many keys wait for their SAEs.
        """
        if self._own in order.slaves and order.conditions.route_type is RouteType.INDIRECT:
            raise KeyUnavailable("a key between SAEs of one KME goes no way")
        routes = [self._route(kme, order) for kme in order.slaves if kme != self._own]
        peers = [route[1] for route in routes]
        pads, left = await self._database.run(
            lambda db: transactions.reserve(db, peers, order.size, order.conditions.max_age_ms)
        )
        self._directory.note(left)
        with ExitStack() as named:
            for peer, pad in zip(peers, pads, strict=True):
                named.enter_context(self._neighbours[peer].naming(pad.ranges))
            try:
                keys = await self._deliver(order, routes, pads)
            except BaseException:
                await self._settle(peers, order.size, "burnt")
                raise
        trusted = {kme for route in routes for kme in route[1:-1]} - set(order.slaves)
        return Made(keys, sorted(trusted))

    async def take_delivery(self, sender: Neighbour, delivery: Delivery) -> Accepted:
        """Take keys from a neighbour: for SAEs of this KME, or to be sent on.

        Raises:
            PeerError: They cannot be taken, or not be sent on.
        """
        following = self._next_on(sender, delivery)
        if following is None:
            await self._database.run(
                lambda db: transactions.keep(db, sender, delivery, self._most_waiting)
            )
            return Accepted()
        material, pad = await self._database.run(
            lambda db: transactions.swap(db, sender, delivery, following)
        )
        with self._neighbours[following].naming(pad.ranges):
            try:
                ciphertext = transactions.xor(material, pad.material)
                await self._send(delivery, following, pad, ciphertext, _HOP_SHARE)
            except BaseException:
                await self._settle([following], len(material), "burnt")
                raise
            await self._settle([following], len(material), "relayed")
        return Accepted()

    def _route(self, target: str, order: Order) -> Route:
        route = self._directory.route(target, order.size, order.conditions.route_type)
        if route is None or not self._neighbours[route[1]].is_up:
            raise KeyUnavailable(f"there is no way for a key to {target} at present")
        # What the first link has is known exactly when it is taken; of others, what they told.
        if self._directory.width(route[1:], order.size) < order.size:
            raise KeyUnavailable(f"too little key on the way to {target}")
        return route

    def _next_on(self, sender: Neighbour, delivery: Delivery) -> str | None:
        """Return the KME that a delivery has to be sent on to; ``None`` if it ends here."""
        route = delivery.route
        if len(set(route)) < len(route) or self._own not in route[1:]:
            raise PeerError("refused", "this is no way for a key")
        place = route.index(self._own)
        if route[place - 1] != sender.kme_id:
            raise PeerError("refused", "this is not the way that the key has come")
        if place < len(route) - 1:
            if route[place + 1] not in self._neighbours:
                raise PeerError("refused", f"has no link to {route[place + 1]}")
            return route[place + 1]
        if not self._saes.issuperset(delivery.slaves):
            raise PeerError("refused", "has no such SAE")
        return None

    async def _deliver(
        self, order: Order, routes: Sequence[Route], pads: Sequence[Taken]
    ) -> list[NamedKey]:
        """Take keys to all KMEs, let own slaves have them, and settle what they are made of.

        The first link's key is the keys; that of others encrypts them.
        """
        material = pads[0].material if pads else os.urandom(order.size)
        relayed = len(routes) > 1 or any(len(route) > 2 for route in routes)
        keys = [
            NamedKey(uuid4(), material[start : start + order.length])
            for start in range(0, order.size, order.length)
        ]
        sendings = []
        for route, pad in zip(routes, pads, strict=True):
            delivery = Delivery(
                ranges=list(pad.ranges),
                relayed=relayed,
                route=list(route),
                master=order.master,
                slaves=list(order.slaves[route[-1]]),
                key_ids=[key.key_id for key in keys],
                max_age_ms=order.conditions.max_age_ms,
                budget_s=self._delivery_s,
            )
            ciphertext = None if pad is pads[0] else transactions.xor(material, pad.material)
            sendings.append(self._send(delivery, route[1], pad, ciphertext))
        # All have to be over before their link key is settled, even if one has failed.
        for outcome in await asyncio.gather(*sendings, return_exceptions=True):
            if outcome is not None:
                raise outcome
        use, own_slaves = "relayed" if relayed else "delivered", order.slaves.get(self._own, ())

        def finish(db: sqlite3.Connection) -> None:
            transactions.settle(db, [route[1] for route in routes], order.size, use)
            if own_slaves:
                WaitingKeys(db).add(keys, order.master, own_slaves, self._most_waiting)

        await self._database.run(finish)
        return keys

    async def _send(
        self,
        delivery: Delivery,
        receiver: str,
        pad: Taken,
        ciphertext: bytes | None,
        share: float = 1.0,
    ) -> None:
        neighbour = self._neighbours[receiver]
        changes = {
            "epoch": neighbour.epoch,
            "ranges": list(pad.ranges),
            "ciphertext": ciphertext,
            "budget_s": delivery.budget_s * share,
        }
        message = delivery.model_copy(update=changes)
        try:
            await neighbour.ask(self._session, "keys", message, Accepted, message.budget_s)
        except PeerError as problem:
            if problem.reason in ("late", "unreachable"):
                neighbour.missed(problem)
            raise

    async def _settle(self, peers: Sequence[str], length: int, use: str) -> None:
        await self._database.run(lambda db: transactions.settle(db, peers, length, use))
