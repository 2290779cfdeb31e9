"""Who is where in the network, and which way a key goes: the QKDN controller (ITU-T Y.3800).

Each KME tells its neighbours about itself, and passes on what it hears of others (link state).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import networkx as nx

from deffd_flower.errors import DeffdError
from deffd_flower.kme.messages import Advert

Route = tuple[str, ...]

#: A KME that nobody has heard of for so long is no way for a key: heartbeats, at least seconds.
_LIFETIME_HEARTBEATS = 10
_LIFETIME_S = 10.0


class UnknownSaeError(DeffdError):
    """No KME of the network has such an SAE."""


class AmbiguousSaeError(DeffdError):
    """Two KMEs of the network say that they have this SAE."""


class RouteType(StrEnum):
    """Which ways a key may go: any, without a trusted node, or over trusted nodes only."""

    ANY = "any"
    DIRECT = "direct"
    INDIRECT = "indirect"


class Conditions(NamedTuple):
    """What a key and its way have to be like.

    Attributes:
        route_type: Which ways are good enough.
        max_age_ms: Link key must not be older; ``None`` for any age.
    """

    route_type: RouteType = RouteType.ANY
    max_age_ms: int | None = None


ANYHOW = Conditions()


class Directory:
    """One KME's view of the network.

    Args:
        kme_id: Its own id.
        saes: Its own SAEs; what others say about these is not believed.
        neighbours: Ids of the KMEs that it has links to.
        is_up: Says whether one of them answers.
        boot: How often it has been started.
        heartbeat_s: Seconds between two adverts of a KME.
        clock: Seconds that pass.
    """

    def __init__(
        self,
        kme_id: str,
        saes: Iterable[str],
        neighbours: Iterable[str],
        is_up: Callable[[str], bool],
        boot: int,
        heartbeat_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = Advert(kme=kme_id, boot=boot, number=0, saes=list(saes), peers=list(neighbours))
        self._is_up = is_up
        self._stored: dict[str, int] = {}
        self._lifetime_s = max(_LIFETIME_S, _LIFETIME_HEARTBEATS * heartbeat_s)
        self._clock = clock
        self._others: dict[str, tuple[Advert, float]] = {}

    @property
    def is_settled(self) -> bool:
        """Whether every KME that anybody has a link to has been heard, at least once."""
        heard = {self._own.kme, *self._others}
        adverts = [self._own, *(advert for advert, _ in self._others.values())]
        return all(heard.issuperset(advert.peers) for advert in adverts)

    def note(self, stored: Mapping[str, int]) -> None:
        """Note how many bytes of key there are towards some neighbours."""
        self._stored.update(stored)

    def renew(self) -> None:
        """Make the own advert news for others."""
        self._own = self._own.model_copy(update={"number": self._own.number + 1})

    def hear(self, adverts: Iterable[Advert]) -> None:
        """Take over what is news."""
        for advert in adverts:
            known = self._others.get(advert.kme)
            if advert.kme != self._own.kme and (known is None or _age(advert) > _age(known[0])):
                self._others[advert.kme] = advert, self._clock()

    def adverts(self) -> list[Advert]:
        """Return the own advert, and all that are fresh."""
        stored = {kme: count for kme, count in self._stored.items() if self._is_up(kme)}
        return [self._own.model_copy(update={"stored": stored}), *self._fresh()]

    def place(self, sae: str) -> str:
        """Return the id of an SAE's KME, which may be out of reach at present.

        Raises:
            UnknownSaeError: There is no such SAE.
            AmbiguousSaeError: Two KMEs claim it.
        """
        if sae in self._own.saes:
            return self._own.kme
        places = [advert.kme for advert, _ in self._others.values() if sae in advert.saes]
        if not places:
            raise UnknownSaeError(f"no KME of this network has an SAE {sae}")
        if len(places) > 1:
            raise AmbiguousSaeError(f"{' and '.join(sorted(places))} both claim to have SAE {sae}")
        return places[0]

    def route(self, target: str, wanted: int, kind: RouteType = RouteType.ANY) -> Route | None:
        """Return the best way for a key: KME ids, this one's first; ``None`` if there is none.

        Of all ways that have ``wanted`` bytes of key on every link, it is one with the fewest
        trusted nodes; if none has, one whose scarcest link has most.
        """
        hops = self._hops(target, wanted, kind)
        for least in sorted(set(hops.values()), reverse=True):
            wide = nx.DiGraph(hop for hop, width in hops.items() if width >= least)
            if {self._own.kme, target} <= set(wide) and nx.has_path(wide, self._own.kme, target):
                return tuple(nx.shortest_path(wide, self._own.kme, target))
        return None

    def width(self, route: Sequence[str], most: int) -> int:
        """Return how many bytes of key the scarcest link of a route has; at most ``most``."""
        stored = {advert.kme: advert.stored for advert in self.adverts()}
        return min([most, *(stored.get(a, {}).get(b, 0) for a, b in pairwise(route))])

    def _hops(self, target: str, wanted: int, kind: RouteType) -> dict[tuple[str, str], int]:
        """Return every link that a key may take, and its bytes of key, at most ``wanted``."""
        hops: dict[tuple[str, str], int] = {}
        for advert in self.adverts():
            for neighbour, stored in advert.stored.items():
                direct = (advert.kme, neighbour) == (self._own.kme, target)
                if kind is RouteType.ANY or direct == (kind is RouteType.DIRECT):
                    hops[advert.kme, neighbour] = min(stored, wanted)
        return hops

    def _fresh(self) -> list[Advert]:
        since = self._clock() - self._lifetime_s
        return [advert for advert, heard in self._others.values() if heard >= since]


def _age(advert: Advert) -> tuple[int, int]:
    return advert.boot, advert.number
