"""One KME's end of the link to another: what it knows of it, and how it talks to it."""

import asyncio
import hashlib
import logging
import math
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from deffd_flower.kme.config import KmeConfig, PeerConfig
from deffd_flower.kme.link_keys import LinkState
from deffd_flower.kme.messages import Message, PeerError, Refusal
from deffd_flower.kme.quantum import NewKey, Production, QuantumChannel
from deffd_flower.kme.streams import Range

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Message)

PATH = "/kme/v1"
EPOCH_BYTES = 16
#: A KME that has ended is noticed at once, as nothing listens there; this is for one that hangs.
_PATIENCE_S = 5.0


class Neighbour:
    """Another KME with a quantum link to this one.

    The end with the lower id is called Alice and makes the key; see `quantum`.

    Args:
        config: Of this KME.
        peer: The part of it about the other.
        state: What the store knows of the link.

    Raises:
        DeffdError: The quantum channel's seed file cannot be used.
    """

    def __init__(self, config: KmeConfig, peer: PeerConfig, state: LinkState) -> None:
        self.kme_id = peer.kme_id
        self.is_ours_to_make = config.kme_id < peer.kme_id
        self.alice, self.bob = sorted((config.kme_id, peer.kme_id))
        self.channel = QuantumChannel(peer.channel, self.alice, self.bob)
        self.agreement = _agreement(config, peer)
        self.state = state
        self.problem = "not heard yet"
        self.blocks = 0
        self.aborted = 0
        self.unstored = 0
        self.lost_bytes = 0
        self._url = peer.url.rstrip("/") + PATH
        self._patience_s = max(_PATIENCE_S, 3 * config.heartbeat_s)
        self._heard = -math.inf
        self._fault = ""
        self._boot = 0
        self._outstanding: list[int] = []
        self.production = Production(
            f"{self.alice}-{self.bob}",
            config.quantum_link(peer),
            config.pool.settings(),
            config.eve(peer),
            config.time_scale,
            state.simulated_ns,
        )

    @property
    def epoch(self) -> bytes:
        """The link's epoch; empty before the two have met."""
        return epoch_of(self.state, self.is_ours_to_make)

    @property
    def is_up(self) -> bool:
        """Whether the two have heard of each other lately, and agree."""
        late = time.monotonic() - self._heard > self._patience_s
        return not late and not self.problem and bool(self.state.peer_nonce)

    def heard(self, boot: int, problem: str) -> None:
        """Note that the other KME is alive, and what is the matter with it, if anything."""
        self._heard = time.monotonic()
        if boot != self._boot:
            self._fault = ""
        self._boot = boot
        self._tell(self._fault or problem)

    def spoke(self) -> None:
        """Note that the other KME, which has been heard before, has said something."""
        if self._heard > -math.inf:
            self._heard = time.monotonic()

    def fail(self, fault: str) -> None:
        """Note what keeps the link from working until one of the two is started anew."""
        self._fault = fault
        self._tell(fault)

    def missed(self, problem: PeerError) -> None:
        """Note that the other KME did not answer: it is down, or only slow."""
        if problem.reason == "unreachable" or not self.is_up:
            self._heard = -math.inf
            self._tell(f"down ({problem})")

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            level = logging.WARNING if problem else logging.INFO
            log.log(level, "%s: %s", self.kme_id, problem or "up")
        self.problem = problem

    def made(self, made: NewKey) -> None:
        """Count what the link has made."""
        self.blocks += made.blocks
        self.aborted += made.aborted
        self.unstored += made.length

    def lose(self) -> None:
        """Count what was made and not stored as lost."""
        self.lost_bytes += self.unstored
        self.unstored = 0

    def floor(self, lowest: int) -> int:
        """Return the position below which this end will name no byte any more."""
        return min([lowest, *self._outstanding])

    @contextmanager
    def naming(self, ranges: Sequence[Range]) -> Iterator[None]:
        """Keep the floor below these ranges, which are about to be named to the other end."""
        first = ranges[0].position
        self._outstanding.append(first)
        try:
            yield
        finally:
            self._outstanding.remove(first)

    async def ask(
        self,
        session: "ClientSession",
        what: str,
        message: Message,
        reply: type[T],
        patience_s: float,
    ) -> T:
        """Send a message and return the answer.

        The other end has to show a certificate for its KME id, whatever its address is.

        Raises:
            PeerError: It cannot be reached, or says no.
        """
        import aiohttp

        try:
            async with (
                asyncio.timeout(patience_s),
                session.post(
                    f"{self._url}/{what}",
                    data=message.model_dump_json().encode(),
                    headers={"Content-Type": "application/json"},
                    server_hostname=self.kme_id,
                    allow_redirects=False,
                ) as response,
            ):
                body = await response.read()
                self.spoke()
                if response.status == 200:
                    return reply.model_validate_json(body)
                refusal = Refusal.model_validate_json(body)
        except TimeoutError:
            raise PeerError("late", f"no answer within {patience_s:g} s") from None
        except (aiohttp.ClientError, ssl.SSLError, OSError) as problem:
            raise PeerError("unreachable", str(problem) or type(problem).__name__) from None
        except ValidationError:
            raise PeerError("unreachable", "gives no answer of a deffd KME") from None
        raise PeerError(refusal.reason, refusal.message)


def epoch_of(state: LinkState, is_alice: bool) -> bytes:
    """Return what names a link's epoch: a hash of both ends' nonces; empty before they met."""
    if not state.peer_nonce:
        return b""
    nonces = [state.nonce, state.peer_nonce]
    return hashlib.sha256(b"".join(nonces if is_alice else nonces[::-1])).digest()[:EPOCH_BYTES]


def _agreement(config: KmeConfig, peer: PeerConfig) -> dict[str, str | int | float]:
    """Return what has to be equal at both ends, as they simulate one link between them."""
    pool = config.pool.model_dump(by_alias=True)
    return {
        "link": str(peer.link.model_dump(by_alias=True, exclude_none=True)),
        "eve": peer.eve,
        "seed": config.seed,
        "time-scale": config.time_scale,
        **{f"pool.{key}": value for key, value in pool.items()},
    }


def disagreement(ours: dict[str, str | int | float], theirs: dict[str, str | int | float]) -> str:
    """Return the first key whose value differs, with both values; empty if none does."""
    for key in [*ours, *theirs]:
        if ours.get(key) != theirs.get(key):
            both = f"{ours.get(key)} here, {theirs.get(key)} there"
            return f"{key} must be the same in both files, and is {both}"
    return ""
