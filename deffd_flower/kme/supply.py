"""The key supply agent (ITU-T Y.3802): what SAEs may ask a KME, whatever the binding."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from deffd_flower.kme.agent import KeyManagementAgent, Made, Order
from deffd_flower.kme.config import KmeConfig
from deffd_flower.kme.database import Database
from deffd_flower.kme.directory import (
    ANYHOW,
    AmbiguousSaeError,
    Directory,
    Route,
    UnknownSaeError,
)
from deffd_flower.kme.messages import PeerError
from deffd_flower.kme.requests import NO_SUCH_KEY, UNMET_EXTENSION, ApiError, KeyRequest
from deffd_flower.kme.streams import Stream, Way
from deffd_flower.kme.waiting_keys import (
    KeyNotFoundError,
    NamedKey,
    NotAuthorisedError,
    StoreFullError,
    WaitingKeys,
)
from deffd_flower.transport.refusal import KeyUnavailable


@dataclass(frozen=True)
class Status:
    """What a master SAE can expect with a slave SAE.

    Attributes:
        target: KME id of the slave's KME.
        stored: Keys of the default size that could be made now.
        route: KME ids that a key would go over now; empty if there is no way.
    """

    target: str
    stored: int
    route: Route


class KeySupplyAgent:
    """Hands keys to SAEs.

    Args:
        config: Of the KME.
        database: Its store.
        directory: Its view of the network.
        agent: Makes keys and takes them to other KMEs.
    """

    def __init__(
        self, config: KmeConfig, database: Database, directory: Directory, agent: KeyManagementAgent
    ) -> None:
        self._own = config.kme_id
        self._length = config.keys.size // 8
        self.max_key_count = config.pool.capacity // config.keys.size
        self._database = database
        self._directory = directory
        self._agent = agent

    async def status(self, master: str, slave: str) -> Status:
        """Say how much key there is between two SAEs.

        Raises:
            ApiError: There is no such slave.
        """
        target = self._place(master, slave)
        if target == self._own:
            return Status(target, self.max_key_count, (self._own,))
        route, stored = await self._stored(target, self._length)
        return Status(target, min(stored // self._length, self.max_key_count), route)

    async def get_key(self, master: str, slave: str, request: KeyRequest) -> Made:
        """Return new keys for a master, which its slaves can fetch from their KMEs.

        Raises:
            ApiError: There is no such slave, or no key.
        """
        slaves = [slave, *request.additional]
        if len(set(slaves)) < len(slaves):
            raise ApiError(400, "additional_slave_SAE_IDs has the slave of the path again")
        places: dict[str, list[str]] = {}
        for each in slaves:
            places.setdefault(self._place(master, each), []).append(each)
        length = request.size // 8
        lacking = ""
        try:
            for conditions in dict.fromkeys((request.wished, request.mandatory)):
                order = Order(master, places, request.number, length, conditions)
                try:
                    return await self._agent.make_keys(order)
                except KeyUnavailable as problem:
                    lacking = str(problem)
            if request.mandatory != ANYHOW and await self._has(places, order.size):
                raise ApiError(400, UNMET_EXTENSION, problem=lacking)
        except StoreFullError as problem:
            raise ApiError(503, str(problem)) from None
        except PeerError as problem:
            if problem.reason != "exhausted":
                message = "another KME did not take the keys"
                raise ApiError(503, message, problem=str(problem)) from None
            lacking = str(problem)
        raise ApiError(503, "not enough keys", problem=lacking)

    async def get_key_with_ids(
        self, slave: str, master: str, key_ids: Sequence[UUID]
    ) -> list[NamedKey]:
        """Return keys that a master has made, once to each slave.

        Raises:
            ApiError: One of them is not there, or was made for others.
        """
        if slave == master:
            raise ApiError(400, "the SAE ID in the path is your own")
        try:
            return await self._database.run(
                lambda db: WaitingKeys(db).fetch(key_ids, master, slave)
            )
        except KeyNotFoundError:
            raise ApiError(400, NO_SUCH_KEY) from None
        except NotAuthorisedError:
            raise ApiError(401, "these keys were not made for this SAE") from None

    def _place(self, master: str, slave: str) -> str:
        if master == slave:
            raise ApiError(400, "a slave SAE ID is your own")
        try:
            return self._directory.place(slave)
        except UnknownSaeError as problem:
            if not self._directory.is_settled:
                raise ApiError(503, "not all KMEs of the network have been heard yet") from None
            raise ApiError(400, "a slave SAE ID is not known", problem=str(problem)) from None
        except AmbiguousSaeError as problem:
            raise ApiError(503, "a slave SAE ID is ambiguous", problem=str(problem)) from None

    async def _stored(self, target: str, length: int) -> tuple[Route, int]:
        """Return the way to a KME, and the bytes of key that its scarcest link has."""
        route = self._directory.route(target, length)
        if route is None:
            return (), 0

        def first_hop(db: sqlite3.Connection) -> int:
            return Stream(db, route[1], Way.OUT).stored

        return route, self._directory.width(route[1:], await self._database.run(first_hop))

    async def _has(self, targets: Iterable[str], length: int) -> bool:
        others = [target for target in targets if target != self._own]
        return all([(await self._stored(target, length))[1] >= length for target in others])
