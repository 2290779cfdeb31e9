"""What Prometheus sees, on the loopback interface and without a certificate."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import free_port
from tests.kme.running import FILLED_ONCE, Network, described, sites, until

PAIR = {"kme-a": ["alice"], "kme-b": ["bob"]}


@pytest.fixture
def network() -> Iterator[Network]:
    running = Network()
    yield running
    running.close()


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    assert response.status == 200
    return body


def values(port: int) -> dict[tuple[str, ...], float]:
    """Return every sample: its name and the values of its labels, and its value."""
    return {
        (sample.name.removeprefix("deffd_kme_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(get(port, "/metrics"))
        for sample in family.samples
    }


def test_everything_that_happens_is_counted(folder: Path, network: Network) -> None:
    files = described(folder, [("kme-a", "kme-b")], PAIR, **FILLED_ONCE)
    port = files["kme-a"]["metrics-port"] = free_port()
    a, b = sites(folder, files).values()
    said = network.start(a.config)
    assert f"metrics http://127.0.0.1:{port}" in said
    assert json.loads(get(port, "/healthz")) == {"peers_down": ["kme-b"]}
    assert values(port)["link_up", "kme-b"] == 0
    network.start(b.config)
    until(lambda: a.enc("alice", "bob").status == 200)
    before = values(port)
    made = a.enc("alice", "bob", number=7)
    a.enc("alice", "bob", size=100)
    a.call("stranger", "GET", "bob/status")
    back = b.enc("bob", "alice", number=2)
    assert a.dec("alice", "bob", list(back.keys)).status == 200
    after = values(port)

    def change(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert len(made.keys) == 7
    assert change("requests_total", "enc_keys", "200") == 1
    assert change("requests_total", "enc_keys", "400") == 1
    assert change("requests_total", "status", "401") == 1
    assert change("requests_total", "dec_keys", "200") == 1
    assert change("request_seconds_count", "enc_keys") == 2
    assert change("keys_made_total", "false") == 7
    assert change("keys_fetched_total") == change("waiting_keys", "fetched") == 2
    assert change("ledger_bytes", "kme-b", "delivered", "out") == 7 * 32
    assert change("ledger_bytes", "kme-b", "stored", "out") == -7 * 32
    assert change("ledger_bytes", "kme-b", "delivered", "in") == 2 * 32
    assert after["link_up", "kme-b"] == after["ledger_balanced",] == 1
    assert after["link_blocks_total", "key", "kme-b"] > 0
    assert 0.01 < after["link_qber", "kme-b"] < 0.05
    assert json.loads(get(port, "/healthz")) == {"peers_down": []}


def test_metrics_are_not_on_the_api_and_the_api_is_not_on_the_metrics(
    folder: Path, network: Network
) -> None:
    files = described(folder, [], {"kme-x": ["alice"]})
    port = files["kme-x"]["metrics-port"] = free_port()
    (site,) = sites(folder, files).values()
    network.start(site.config)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/api/v1/keys/bob/status")
    assert connection.getresponse().status == 404
    connection.close()
    assert site.call("alice", "GET", "../../../metrics").status == 404
