"""What Prometheus can scrape, and whether the KME is well: both on the loopback interface only."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from deffd_flower.kme.ledger import Ledger
from deffd_flower.kme.neighbour import Neighbour
from deffd_flower.kme.streams import USES

HOST = "127.0.0.1"
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """Counts what happens; numbers start at 0 with the process, those of the ledger do not.

    Args:
        neighbours: The other ends of the KME's links.
    """

    def __init__(self, neighbours: Mapping[str, Neighbour]) -> None:
        self._neighbours = neighbours
        self._ledger: Ledger | None = None
        self.registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "deffd_kme_requests", "Requests of SAEs.", ["call", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "deffd_kme_request_seconds",
            "Seconds until a request of an SAE was answered.",
            ["call"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._made = Counter(
            "deffd_kme_keys_made",
            "Keys handed to masters.",
            ["relayed"],
            registry=self.registry,
        )
        self._fetched = Counter(
            "deffd_kme_keys_fetched", "Keys handed to slaves.", registry=self.registry
        )
        self.registry.register(self)

    def request(self, call: str, code: int, seconds: float) -> None:
        """Count a request of an SAE."""
        self._requests.labels(call, str(code)).inc()
        self._seconds.labels(call).observe(seconds)

    def made(self, keys: int, relayed: bool) -> None:
        """Count keys handed to a master."""
        self._made.labels(str(relayed).lower()).inc(keys)

    def fetched(self, keys: int) -> None:
        """Count keys handed to a slave."""
        self._fetched.inc(keys)

    def application(self, ledger: Callable[[], Awaitable[Ledger]]) -> web.Application:
        """Return an application with ``/metrics`` and ``/healthz``.

        Args:
            ledger: Counts all that is stored.
        """

        async def metrics(request: web.Request) -> web.Response:
            self._ledger = await ledger()
            return web.Response(
                body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
            )

        async def health(request: web.Request) -> web.Response:
            down = [kme for kme, neighbour in self._neighbours.items() if not neighbour.is_up]
            return web.json_response({"peers_down": down})

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        app.router.add_get("/healthz", health)
        return app

    def collect(self) -> Iterable[Metric]:
        """Yield what is read when it is asked for."""
        yield from self._links()
        if self._ledger is not None:
            yield from _of_ledger(self._ledger)

    def _links(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("deffd_kme_link_up", "1 if the other KME is heard.", labels=["peer"])
        qber = GaugeMetricFamily("deffd_kme_link_qber", "Quantum bit error rate.", labels=["peer"])
        blocks = CounterMetricFamily(
            "deffd_kme_link_blocks", "Blocks of the link.", labels=["peer", "outcome"]
        )
        lost = CounterMetricFamily(
            "deffd_kme_link_lost_bytes", "Key for which there was no room.", labels=["peer"]
        )
        for kme, neighbour in self._neighbours.items():
            up.add_metric([kme], float(neighbour.is_up))
            if neighbour.is_ours_to_make:
                qber.add_metric([kme], neighbour.production.qber)
                blocks.add_metric([kme, "key"], neighbour.blocks)
                blocks.add_metric([kme, "aborted"], neighbour.aborted)
                lost.add_metric([kme], neighbour.lost_bytes)
        return up, qber, blocks, lost


def _of_ledger(ledger: Ledger) -> Iterable[Metric]:
    streams = GaugeMetricFamily(
        "deffd_kme_ledger_bytes",
        "Link key by what has become of it.",
        labels=["peer", "way", "state"],
    )
    for balance in ledger.balances:
        for state in ("generated", "stored", *USES):
            streams.add_metric([balance.peer, balance.way, state], getattr(balance, state))
    yield streams
    keys = GaugeMetricFamily(
        "deffd_kme_waiting_keys",
        "Keys for the slaves of this KME by what has become of them.",
        labels=["state"],
    )
    for state, count in ledger.tally._asdict().items():
        keys.add_metric([state], count)
    yield keys
    yield GaugeMetricFamily(
        "deffd_kme_ledger_balanced", "1 if the ledger adds up.", value=float(ledger.balanced)
    )
