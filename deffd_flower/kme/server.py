"""A KME as a process: its parts put together, its sites opened, its end."""

import asyncio
import logging
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager

import aiohttp
from aiohttp import web

from deffd_flower.errors import DeffdError
from deffd_flower.kme import link_keys, metrics, waiting_keys
from deffd_flower.kme.agent import KeyManagementAgent
from deffd_flower.kme.binding import Etsi014
from deffd_flower.kme.channel import PeerChannel
from deffd_flower.kme.config import KmeConfig
from deffd_flower.kme.database import Database
from deffd_flower.kme.directory import Directory
from deffd_flower.kme.ledger import ledger
from deffd_flower.kme.limits import TlsSite
from deffd_flower.kme.link_keys import LinkKeys, LinkState
from deffd_flower.kme.links import LinkKeeper
from deffd_flower.kme.metrics import Metrics
from deffd_flower.kme.neighbour import Neighbour
from deffd_flower.kme.supply import KeySupplyAgent
from deffd_flower.kme.tls import check_certificate, client_context, server_context
from deffd_flower.kme.waiting_keys import WaitingKeys

log = logging.getLogger(__name__)
http_log = logging.getLogger("deffd_flower.kme.http")

SCHEMA = (
    link_keys.SCHEMA
    + waiting_keys.SCHEMA
    + "CREATE TABLE IF NOT EXISTS kme (id TEXT NOT NULL, boot INTEGER NOT NULL);"
)
_SWEEP_S = 10.0


class Kme:
    """A key management entity.

    Args:
        config: Its file.

    Raises:
        RequestError: A certificate cannot be used.
        DeffdError: The store or a channel's file cannot be used.
    """

    def __init__(self, config: KmeConfig) -> None:
        self.config = config
        self._server_context = server_context(config)
        self._client_context = client_context(config)
        check_certificate(config.certificate, config.kme_id)
        self._database = Database(config.store, SCHEMA)

    async def run(self, ready: Callable[[str], None], stop: asyncio.Event) -> None:
        """Serve until told to stop.

        Args:
            ready: Hears the addresses once they are open.
            stop: Set when it is time.

        Raises:
            DeffdError: A port cannot be had, or the store belongs to another KME.
        """
        try:
            async with AsyncExitStack() as stack:
                await self._serve(stack, ready, stop)
        finally:
            self._database.close()

    async def _serve(
        self, stack: AsyncExitStack, ready: Callable[[str], None], stop: asyncio.Event
    ) -> None:
        config = self.config
        boot, states = await self._database.run(self._start)
        neighbours = {
            peer.kme_id: Neighbour(config, peer, states[peer.kme_id]) for peer in config.peers
        }
        connector = aiohttp.TCPConnector(ssl=self._client_context, limit=0, limit_per_host=32)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        directory = Directory(
            config.kme_id,
            config.saes,
            neighbours,
            lambda kme: neighbours[kme].is_up,
            boot,
            config.heartbeat_s,
        )
        parts = config, self._database, directory, neighbours, session
        links, agent = LinkKeeper(*parts), KeyManagementAgent(*parts)
        counts = Metrics(neighbours)
        supply = KeySupplyAgent(config, self._database, directory, agent)
        # The keys of the largest request, in Base64, and what belongs to them.
        most_bytes = config.keys.max_per_request * config.keys.max_size // 8 * 3 // 2 + 2**20
        addresses = []
        if config.peer_port is not None:
            channel = PeerChannel(neighbours, links, agent, most_bytes).application()
            addresses.append("KMEs " + await self._open(stack, channel, config.peer_port))
        if config.metrics_port is not None:
            watch = counts.application(lambda: self._database.run(ledger))
            addresses.append("metrics " + await _open_plain(stack, watch, config.metrics_port))
        api = Etsi014(config, supply, counts).application()
        addresses.insert(0, "SAEs " + await self._open(stack, api, config.port))
        ready(", ".join(addresses))
        keeping = [links.run()] if neighbours else []
        await _first_of(stop.wait(), self._sweep(), *keeping)
        log.info("%s stops", config.kme_id)

    def _start(self, db: sqlite3.Connection) -> tuple[int, dict[str, LinkState]]:
        row = db.execute("SELECT id, boot FROM kme").fetchone()
        if row and row[0] != self.config.kme_id:
            raise DeffdError(f"key store {self.config.store} belongs to {row[0]}")
        boot = row[1] + 1 if row else 1
        db.execute("DELETE FROM kme")
        db.execute("INSERT INTO kme VALUES (?, ?)", (self.config.kme_id, boot))
        states = {peer.kme_id: LinkKeys(db, peer.kme_id).open() for peer in self.config.peers}
        ledger(db).check()
        return boot, states

    async def _sweep(self) -> None:
        """Burn keys that nobody has fetched in time."""
        waiting_ns = round(self.config.keys.waiting_s * 1e9)
        while True:
            await self._database.run(lambda db: WaitingKeys(db).expire(time.time_ns() - waiting_ns))
            await asyncio.sleep(min(_SWEEP_S, self.config.keys.waiting_s / 4))

    async def _open(self, stack: AsyncExitStack, app: web.Application, port: int) -> str:
        limits = self.config.limits
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=http_log,
            keepalive_timeout=limits.idle_s,
            lingering_time=1.0,
            shutdown_timeout=limits.shutdown_s,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = TlsSite(
            runner,
            self.config.host,
            port,
            self._server_context,
            limits.handshake_s,
            limits.connections,
        )
        with _port_problem(self.config.host, port):
            await site.start()
        return site.name


async def _open_plain(stack: AsyncExitStack, app: web.Application, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, logger=http_log)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, metrics.HOST, port)
    with _port_problem(metrics.HOST, port):
        await site.start()
    return site.name


def _without_text(record: logging.LogRecord) -> bool:
    """Keep of a problem with HTTP no more than its kind: its text quotes what was sent."""
    if record.exc_info:
        kind = record.exc_info[0]
        record.msg += f" ({kind.__name__ if kind else 'unknown'})"
        record.exc_info = record.exc_text = None
    return True


http_log.addFilter(_without_text)


async def _first_of(*work: Coroutine[object, object, object]) -> None:
    """Wait until one of several is over, and end the others.

    Raises:
        Exception: What it ended with.
    """
    tasks = [asyncio.create_task(each) for each in work]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


@contextmanager
def _port_problem(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DeffdError(
            f"cannot listen on {host}:{port}: {os.strerror(problem.errno or 0)}"
        ) from problem


def _allow_open_files(wanted: int) -> None:
    """Let this process have more connections than systems allow by default."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(least, wanted), most), most))


def serve(config: KmeConfig, ready: Callable[[str], None]) -> None:
    """Run a KME until SIGTERM or SIGINT; open requests are answered first.

    Args:
        config: Its file.
        ready: Hears the addresses once they are open.

    Raises:
        RequestError: A certificate cannot be used.
        DeffdError: A port, the store or a channel's file cannot be used.
    """
    kme = Kme(config)
    _allow_open_files(3 * config.limits.connections)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await kme.run(ready, stop)

    asyncio.run(run())
