"""Keeping a KME's links alive: greetings between neighbours, and key that comes into being."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deffd_flower.errors import DeffdError
from deffd_flower.kme.config import KmeConfig
from deffd_flower.kme.database import Database
from deffd_flower.kme.directory import Directory
from deffd_flower.kme.link_keys import LinkKeys, LinkState, Lot
from deffd_flower.kme.messages import Greeting, LotOffer, LotRecord, PeerError
from deffd_flower.kme.neighbour import Neighbour, disagreement, epoch_of

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger(__name__)

LOT_BYTES = 2**22
_TICK_S = 0.1
_RETRY_S = 0.2
_PATIENCE_S = 5.0
_DIFFERENT = "the files for channel differ at the two ends"


class LinkKeeper:
    """Greets the neighbours, makes key with them, and throws away what has grown too old.

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
        self._config = config
        self._database = database
        self._directory = directory
        self._neighbours = neighbours
        self._session = session
        self._capacity = config.pool.capacity // 8
        self._max_age_ns = round(config.pool.max_age_s / config.time_scale * 1e9)

    async def run(self) -> None:
        """Keep all links alive until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for neighbour in self._neighbours.values():
                tasks.create_task(self._greet_on(neighbour))
                if neighbour.is_ours_to_make:
                    tasks.create_task(self._make_on(neighbour))

    async def greeted(self, sender: Neighbour, greeting: Greeting) -> Greeting:
        """Take a neighbour's greeting, and greet back."""
        await self._take(sender, greeting)
        return await self._greeting(sender)

    async def take_lot(self, sender: Neighbour, offer: LotOffer) -> LotRecord:
        """Bob's part of a lot of key: store it, unless it is stored already.

        Raises:
            PeerError: The two ends do not have the same key, or the same past.
        """
        if sender.is_ours_to_make or not 0 < offer.alice + offer.bob <= LOT_BYTES:
            raise PeerError("refused", "this is no lot that can be stored")
        if offer.proof != sender.channel.proof(offer.epoch, offer.number):
            sender.fail(_DIFFERENT)
            raise PeerError("proof", _DIFFERENT)

        def store(db: sqlite3.Connection) -> tuple[LotRecord, LinkState]:
            link = LinkKeys(db, sender.kme_id)
            state = link.state()
            if epoch_of(state, is_alice=False) != offer.epoch:
                raise PeerError("epoch", "the epoch of this link is over")
            if offer.number == state.lot:
                return LotRecord(number=state.lot, alice=state.lot_in, bob=state.lot_out), state
            if offer.number != state.lot + 1:
                raise PeerError("lot", f"lot {state.lot} was the last, so it cannot be this")
            key = sender.channel.key(offer.epoch, offer.number, offer.alice + offer.bob)
            lot = Lot(offer.number, key[offer.alice :], key[: offer.alice])
            record = LotRecord(number=offer.number, alice=offer.alice, bob=offer.bob)
            return record, link.store(lot, 0)

        record, sender.state = await self._database.run(store)
        return record

    async def _greet_on(self, neighbour: Neighbour) -> None:
        patience = max(_PATIENCE_S, self._config.heartbeat_s)
        while True:
            try:
                greeting = await self._greeting(neighbour)
                reply = await neighbour.ask(self._session, "greeting", greeting, Greeting, patience)
                await self._take(neighbour, reply)
            except PeerError as problem:
                neighbour.missed(problem)
            except DeffdError as problem:
                log.error("%s", problem)
            pause = self._config.heartbeat_s
            await asyncio.sleep(pause if neighbour.is_up else min(pause, _RETRY_S))

    async def _greeting(self, neighbour: Neighbour) -> Greeting:
        def look(db: sqlite3.Connection) -> int:
            link = LinkKeys(db, neighbour.kme_id)
            if self._max_age_ns:
                link.outward.expire(time.time_ns() - self._max_age_ns)
            return link.outward.lowest

        lowest = await self._database.run(look)
        await self._look()
        self._directory.renew()
        adverts = self._directory.adverts()
        return Greeting(
            boot=adverts[0].boot,
            agreement=neighbour.agreement,
            nonce=neighbour.state.nonce,
            epoch=neighbour.epoch,
            floor=neighbour.floor(lowest),
            adverts=adverts,
        )

    async def _take(self, neighbour: Neighbour, greeting: Greeting) -> None:
        def meet(db: sqlite3.Connection) -> LinkState:
            link = LinkKeys(db, neighbour.kme_id)
            state = link.meet(greeting.nonce)
            if epoch_of(state, neighbour.is_ours_to_make) == greeting.epoch:
                link.drop_below(greeting.floor)
            return state

        neighbour.state = await self._database.run(meet)
        neighbour.heard(greeting.boot, disagreement(neighbour.agreement, greeting.agreement))
        self._directory.hear(greeting.adverts)
        await self._look()

    async def _look(self) -> None:
        """Tell the directory what is stored now."""

        def stored(db: sqlite3.Connection) -> dict[str, int]:
            return {peer: LinkKeys(db, peer).outward.stored for peer in self._neighbours}

        self._directory.note(await self._database.run(stored))

    async def _make_on(self, neighbour: Neighbour) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if not neighbour.is_up:
                neighbour.production.pause()
                continue
            made = neighbour.production.advance()
            neighbour.made(made)
            try:
                if neighbour.unstored:
                    await self._fill(neighbour)
                    await self._look()
            except DeffdError as problem:
                log.error("%s", problem)

    async def _fill(self, neighbour: Neighbour) -> None:
        """Store new key at both ends, as far as there is room for it; the rest is lost."""

        def stored(db: sqlite3.Connection) -> tuple[int, int]:
            link = LinkKeys(db, neighbour.kme_id)
            return link.outward.stored, link.inward.stored

        while neighbour.unstored:
            alice, bob = await self._database.run(stored)
            size = min(neighbour.unstored, self._capacity - alice - bob, LOT_BYTES)
            if size <= 0:
                neighbour.lose()
                return
            # The stream that has less gets more, so that either way can use nearly all of a link.
            share = min(size, max(0, (size + bob - alice) // 2))
            try:
                await self._make_lot(neighbour, share, size - share)
            except PeerError as problem:
                await self._recover(neighbour, problem)
                return
            neighbour.unstored -= size

    async def _make_lot(self, neighbour: Neighbour, alice: int, bob: int) -> None:
        """Alice's part of a lot of key. What Bob has stored is what counts."""
        epoch, number = neighbour.epoch, neighbour.state.lot + 1
        offer = LotOffer(
            epoch=epoch,
            number=number,
            alice=alice,
            bob=bob,
            proof=neighbour.channel.proof(epoch, number),
        )
        patience = self._config.limits.delivery_s
        record = await neighbour.ask(self._session, "lots", offer, LotRecord, patience)
        if record.number != number or not 0 < record.alice + record.bob <= LOT_BYTES:
            raise PeerError("lot", f"has stored lot {record.number} instead of {number}")
        key = neighbour.channel.key(epoch, number, record.alice + record.bob)
        lot = Lot(number, key[: record.alice], key[record.alice :])

        def store(db: sqlite3.Connection) -> LinkState:
            link = LinkKeys(db, neighbour.kme_id)
            if epoch_of(link.state(), is_alice=True) != epoch:
                raise PeerError("epoch", "the epoch has ended meanwhile")
            return link.store(lot, neighbour.production.simulated_ns)

        neighbour.state = await self._database.run(store)

    async def _recover(self, neighbour: Neighbour, problem: PeerError) -> None:
        if problem.reason in ("late", "unreachable"):
            neighbour.missed(problem)
        elif problem.reason == "lot":
            log.warning("%s: %s; all stored key of this link is burnt", neighbour.kme_id, problem)
            neighbour.state = await self._database.run(
                lambda db: LinkKeys(db, neighbour.kme_id).renew()
            )
        elif problem.reason == "proof":
            neighbour.fail(str(problem))
        else:
            log.warning("%s: %s", neighbour.kme_id, problem)
