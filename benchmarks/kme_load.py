"""Many SAEs at once that ask two KMEs for keys: what each key took, and whether all were right."""

import asyncio
import base64
import ssl
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import aiohttp

from deffd_flower.errors import DeffdError
from deffd_flower.kme.certificates import Authority, Role, Validity

RETRY_S, RETRIES = 0.1, 50


@dataclass(frozen=True)
class Load:
    """What is asked for.

    Attributes:
        pairs: Masters, each with a slave of its own at the other KME; all ask at once.
        requests: How often each master asks, and each slave fetches.
        keys: Keys of a request.
        size: Bits of a key.
    """

    pairs: int
    requests: int
    keys: int
    size: int = 256

    @property
    def total(self) -> int:
        """Keys of all pairs together."""
        return self.pairs * self.requests * self.keys

    def saes(self, role: str) -> list[str]:
        """Return the names of all masters, or of all slaves."""
        return [f"{role}-{number}" for number in range(self.pairs)]


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        seconds: From the first request to the last answer; connections stood before.
        enc_s: Seconds of each enc_keys.
        dec_s: Seconds of each dec_keys.
        seen: All keys.
    """

    seconds: float = 0.0
    enc_s: list[float] = field(default_factory=list)
    dec_s: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def latency_ms(self) -> dict[str, float]:
        """Return median and 99th percentile of both calls."""
        told: dict[str, float] = {}
        for call, seconds in (("enc_keys", self.enc_s), ("dec_keys", self.dec_s)):
            cuts = quantiles(seconds, n=100)
            told[f"{call} p50"] = round(1e3 * cuts[49], 2)
            told[f"{call} p99"] = round(1e3 * cuts[98], 2)
        return told


class Saes:
    """Masters at one KME and slaves at another, each with a connection that is kept.

    Args:
        pki: Folder of the certificates; those of the SAEs are made if they are not there.
        masters_at: Port of the masters' KME on this machine.
        slaves_at: Port of the slaves' KME.
        load: What they ask for.
    """

    def __init__(self, pki: Path, masters_at: int, slaves_at: int, load: Load) -> None:
        self._pki = pki
        self._ports = {"master": masters_at, "slave": slaves_at}
        self._load = load
        issue(pki, [*load.saes("master"), *load.saes("slave")])

    def run(self) -> Outcome:
        """Ask for everything, and check that each pair has the same keys and no key is there twice.

        Raises:
            DeffdError: They have not, or a KME did not answer as it should.
        """
        return asyncio.run(self._run())

    async def _run(self) -> Outcome:
        outcome = Outcome()
        async with AsyncExitStack() as stack:
            sessions: dict[str, list[aiohttp.ClientSession]] = {}
            for role, port in self._ports.items():
                sessions[role] = []
                for sae in self._load.saes(role):
                    session = self._session(sae, port)
                    sessions[role].append(await stack.enter_async_context(session))
            both = [*enumerate(sessions["master"]), *enumerate(sessions["slave"])]
            await asyncio.gather(*(self._connect(*each) for each in both))
            started = time.perf_counter()
            pairs = zip(sessions["master"], sessions["slave"], strict=True)
            await asyncio.gather(
                *(self._exchange(number, *pair, outcome) for number, pair in enumerate(pairs))
            )
            outcome.seconds = time.perf_counter() - started
        if len(outcome.seen) != self._load.total:
            raise DeffdError(f"{len(outcome.seen)} different keys, not {self._load.total}")
        return outcome

    def _session(self, sae: str, port: int) -> aiohttp.ClientSession:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self._pki / "ca.crt")
        context.load_cert_chain(self._pki / f"{sae}.crt", self._pki / f"{sae}.key")
        connector = aiohttp.TCPConnector(ssl=context, limit=1)
        return aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=connector)

    async def _connect(self, number: int, session: aiohttp.ClientSession) -> None:
        """Open the connection, and wait until there is a way to the other KME."""
        path = f"/api/v1/keys/{{}}-{number}/status"
        for _ in range(RETRIES):
            for other in ("slave", "master"):
                async with session.get(path.format(other)) as response:
                    status = await response.json()
                    if response.status == 200 and status["stored_key_count"]:
                        return
            await asyncio.sleep(RETRY_S)
        raise DeffdError(f"no key to be had: {status}")

    async def _exchange(
        self,
        number: int,
        master: aiohttp.ClientSession,
        slave: aiohttp.ClientSession,
        outcome: Outcome,
    ) -> None:
        wanted = {"number": self._load.keys, "size": self._load.size}
        for _ in range(self._load.requests):
            started = time.perf_counter()
            made = await _ask(master, f"slave-{number}/enc_keys", wanted)
            between = time.perf_counter()
            ids = {"key_IDs": [{"key_ID": key_id} for key_id in made]}
            fetched = await _ask(slave, f"master-{number}/dec_keys", ids)
            ended = time.perf_counter()
            if made != fetched or len(made) != self._load.keys:
                raise DeffdError("master and slave do not have the same keys")
            outcome.enc_s.append(between - started)
            outcome.dec_s.append(ended - between)
            outcome.seen.update(made.values())


async def _ask(session: aiohttp.ClientSession, path: str, body: object) -> dict[str, str]:
    async with session.post(f"/api/v1/keys/{path}", json=body) as response:
        answer = await response.json()
        if response.status != 200:
            raise DeffdError(f"{path}: {response.status} {answer}")
    for key in answer["keys"]:
        base64.b64decode(key["key"], validate=True)
    return {key["key_ID"]: key["key"] for key in answer["keys"]}


def issue(pki: Path, saes: Sequence[str]) -> None:
    """Make the certificates of SAEs that have none."""
    authority = Authority(pki)
    for sae in saes:
        if authority.valid_until(sae) is None:
            authority.issue(sae, Role.SAE, Validity.days(1))
