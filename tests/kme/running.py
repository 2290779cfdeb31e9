"""KMEs on real TLS sockets, each network in a thread of this process, and SAEs that call them."""

import asyncio
import base64
import datetime as dt
import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from pathlib import Path
from threading import Event, Thread
from typing import Any

from deffd_flower.kme.certificates import Authority, Role, Validity
from deffd_flower.kme.config import KmeConfig
from deffd_flower.kme.config_file import parse
from deffd_flower.kme.server import Kme
from tests.e2e.conftest import free_port

#: One fill of the stores, and then no more key for as long as a test lasts.
FILLED_ONCE = {"time-scale": 1e-9, "pool": {"capacity": 2**23}}
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Reply:
    """What a KME answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def keys(self) -> dict[str, bytes]:
        return {each["key_ID"]: base64.b64decode(each["key"]) for each in self.json["keys"]}


class Pki:
    """An authority, and a certificate for whoever is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)

    def issue(self, name: str, role: Role = Role.SAE, days: int = 7) -> None:
        if self.authority.valid_until(name) is None:
            self.authority.issue(name, role, Validity.days(days))

    def issue_expired(self, name: str) -> None:
        now = dt.datetime.now(dt.UTC)
        validity = Validity(now - dt.timedelta(days=2), now - dt.timedelta(days=1))
        self.authority.issue(name, Role.SAE, validity)

    def context(self, name: str | None, minimum: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.folder / "ca.crt")
        if name is not None:
            self.issue(name)
            context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        if minimum is not None:
            context.minimum_version = context.maximum_version = minimum
        return context


class Site:
    """One KME: its addresses, and calls of its API."""

    def __init__(self, config: KmeConfig, pki: Pki) -> None:
        self.config = config
        self.pki = pki
        self.port = config.port

    def call(
        self, sae: str, method: str, path: str, body: object = None, *, raw: bytes | None = None
    ) -> Reply:
        """Call as an SAE; ``path`` is what follows ``/api/v1/keys/``."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.pki.context(sae), timeout=PATIENCE_S
        )
        try:
            headers = {"Content-Type": "application/json"} if content else {}
            connection.request(method, f"/api/v1/keys/{path}", content or None, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()

    def status(self, sae: str, slave: str) -> Any:
        return self.call(sae, "GET", f"{slave}/status").json

    def enc(self, sae: str, slave: str, **request: object) -> Reply:
        return self.call(sae, "POST", f"{slave}/enc_keys", request or None)

    def dec(self, sae: str, master: str, key_ids: Sequence[str]) -> Reply:
        wanted = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return self.call(sae, "POST", f"{master}/dec_keys", wanted)


class Network:
    """KMEs in a thread of their own, started and stopped one by one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: dict[str, tuple[asyncio.Event, Any]] = {}

    def start(self, config: KmeConfig) -> str:
        """Start a KME; return the line it says when it is ready."""
        said: list[str] = []
        ready, stop = Event(), asyncio.Event()

        def tell(addresses: str) -> None:
            said.append(addresses)
            ready.set()

        over = asyncio.run_coroutine_threadsafe(Kme(config).run(tell, stop), self._loop)
        over.add_done_callback(lambda _: ready.set())
        ready.wait(PATIENCE_S)
        if not said:
            over.result(0)
        self._running[config.kme_id] = stop, over
        return said[0]

    def stop(self, kme_id: str) -> None:
        stop, over = self._running.pop(kme_id)
        self._loop.call_soon_threadsafe(stop.set)
        over.result(PATIENCE_S)

    def close(self) -> None:
        for kme_id in list(self._running):
            self.stop(kme_id)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def described(
    folder: Path, links: Sequence[tuple[str, str]], saes: Mapping[str, Sequence[str]], **keys: Any
) -> dict[str, dict[str, Any]]:
    """Return the files of a network's KMEs.

    Args:
        folder: Where stores and channels are; certificates are in ``pki`` within it.
        links: Pairs of KME ids.
        saes: SAEs of each KME.
        keys: Further keys of all files, with underscores.
    """
    ports = {kme: free_port() for kme in saes}
    files: dict[str, dict[str, Any]] = {}
    for kme, own in saes.items():
        others = [next(iter({*link} - {kme})) for link in links if kme in link]
        files[kme] = {
            "kme-id": kme,
            "port": free_port(),
            "certificate": f"pki/{kme}.crt",
            "private-key": f"pki/{kme}.key",
            "ca": "pki/ca.crt",
            "store": f"{kme}.sqlite",
            "saes": list(own),
            "heartbeat-s": 0.2,
            **({"peer-port": ports[kme]} if others else {}),
            "peers": [
                {
                    "kme-id": other,
                    "url": f"https://127.0.0.1:{ports[other]}",
                    "channel": f"{'-'.join(sorted((kme, other)))}.seed",
                }
                for other in others
            ],
            **{key.replace("_", "-"): value for key, value in keys.items()},
        }
    return files


def sites(folder: Path, files: Mapping[str, dict[str, Any]]) -> dict[str, Site]:
    """Return the KMEs of a network, with certificates, not yet started."""
    pki = Pki(folder / "pki")
    for kme, file in files.items():
        pki.issue(kme, Role.KME)
        for sae in file["saes"]:
            pki.issue(sae)
    return {kme: Site(parse(file, folder), pki) for kme, file in files.items()}


@contextmanager
def running(
    folder: Path,
    links: Sequence[tuple[str, str]],
    saes: Mapping[str, Sequence[str]],
    **keys: Any,
) -> Iterator[dict[str, Site]]:
    """Run a network while the ``with`` block lasts; every pair of KMEs has key when it begins."""
    network = Network()
    try:
        placed = sites(folder, described(folder, links, saes, **keys))
        for site in placed.values():
            network.start(site.config)
        wait_for_key(placed)
        yield placed
    finally:
        network.close()


def wait_for_key(placed: Mapping[str, Site]) -> None:
    """Wait until each KME has key to every other one."""
    for site in placed.values():
        if site.config.peers:
            until(partial(knows_the_network, site))
    for one, other in permutations(placed.values(), 2):
        until(partial(has_key, one, other))


def knows_the_network(site: Site) -> bool:
    """Say whether a KME would know by now that there is no such SAE."""
    return site.call(site.config.saes[0], "GET", "nobody/status").status == 400


def has_key(one: Site, other: Site) -> bool:
    """Say whether a KME has key to another one."""
    status = one.status(one.config.saes[0], other.config.saes[0])
    return bool(status["stored_key_count"] > 0)


def until(there: Any, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so; whatever does not work yet may fail meanwhile."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if there():
                return
            problem = "it is not so"
        except (OSError, KeyError, http.client.HTTPException) as failure:
            problem = repr(failure)
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(0.05)
