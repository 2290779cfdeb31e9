"""What keeps one SAE, or a stranger, from using a KME up."""

import asyncio
import ssl
import time
from collections.abc import Callable

from aiohttp.web import AppRunner, BaseSite


class RateLimit:
    """A token bucket for each SAE.

    Args:
        per_second: Requests on average.
        burst: Requests at once.
        clock: Seconds that pass.
    """

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, name: str) -> float:
        """Take a token, and return 0; without one, return the seconds until there is one."""
        now = self._clock()
        tokens, before = self._buckets.get(name, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - before) * self._per_second)
        missing = max(0.0, 1 - tokens)
        self._buckets[name] = (tokens if missing else tokens - 1), now
        return missing / self._per_second


class TlsSite(BaseSite):
    """A listening address with limits that aiohttp's own `TCPSite` does not have.

    Args:
        runner: Whose requests are handled.
        host: Address to listen on.
        port: 0 for any.
        context: TLS.
        handshake_s: Seconds that a TLS handshake may take.
        connections: How many may be open; further ones are closed at once.
    """

    def __init__(
        self,
        runner: AppRunner,
        host: str,
        port: int,
        context: ssl.SSLContext,
        handshake_s: float,
        connections: int,
    ) -> None:
        super().__init__(runner, ssl_context=context)
        self._address = host, port
        self._handshake_s = handshake_s
        self._connections = connections

    @property
    def name(self) -> str:
        """The site's URL."""
        return f"https://{self._address[0]}:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        sockets = getattr(self._server, "sockets", ())
        return int(sockets[0].getsockname()[1]) if sockets else self._address[1]

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: The address cannot be had.
        """
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._new_connection,
            *self._address,
            ssl=self._ssl_context,
            ssl_handshake_timeout=self._handshake_s,
            ssl_shutdown_timeout=1.0,
            backlog=self._backlog,
        )

    def _new_connection(self) -> asyncio.Protocol:
        server = self._runner.server
        # The event loop closes a connection for which there is no protocol.
        if server is None or len(server.connections) >= self._connections:
            raise ConnectionRefusedError("too many connections")
        return server()
