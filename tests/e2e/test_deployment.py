"""SuperLink, SuperNodes and key managers as real processes, with the compose file's commands."""

import csv
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flwr.app import Message

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.state import load_weights
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import pairs
from deffd_flower.transport import decode_tensors
from tests.e2e import key_spy
from tests.e2e.compose_processes import ComposeProcesses
from tests.e2e.deployed import QUICK, Deployment, deployment
from tests.e2e.recording_proxy import RecordingProxy
from tests.security.windows import Windows

pytestmark = pytest.mark.slow

ONCE = {"eval_every": 2}


class Watched(LocalGrid):
    """Keeps every client's weights after each message."""

    def __init__(self, **keys: Any) -> None:
        config = resolve(keys)
        super().__init__(client_app, config.clients, config.values())
        self.weights: set[bytes] = set()

    def _deliver(self, message: Message) -> Message:
        reply = super()._deliver(message)
        weights = load_weights(self.contexts[message.metadata.dst_node_id])
        if weights is not None:
            self.weights.add(weights)
        return reply


def in_process(directory: Path, **keys: Any) -> tuple[dict[str, Any], set[bytes]]:
    """Run the same federation as `deffd run` does; return summary and all weights there were."""
    given = {**QUICK, **{key.replace("_", "-"): value for key, value in keys.items()}}
    grid = Watched(**given)
    return federate(grid, resolve(given), directory, LineProgress()), grid.weights


def seed_for(wanted: list[tuple[int, int]]) -> int:
    """Return the first seed with which these are the transfers, a round each."""
    for seed in count():
        config = resolve({**QUICK, "seed": seed})
        rounds = range(1, len(wanted) + 1)
        drawn = [pairs(Knowledge(config, None, number)).transfers for number in rounds]
        if [(one.sender, one.receiver) for (one,) in drawn] == wanted:
            return seed
    raise AssertionError


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """With TLS, and SuperNodes that are known by their keys."""
    folder = tmp_path_factory.mktemp("trusted")
    with deployment(folder, "compose.yaml", "with-tls.yaml") as deployed:
        yield deployed


def test_the_weights_are_those_of_deffd_run_and_the_superlink_has_no_sae_certificate(
    trusted: Deployment, tmp_path: Path
) -> None:
    with trusted.running("whole", key_source="etsi014", **ONCE) as federation:
        federation.wait_for_round(2)
        servers = [trusted.processes.pids[name] for name in ("superlink", "superexec-server")]
        known = "".join(what_is_known_to(pid) for pid in servers for pid in family(pid))
        own = "".join(
            what_is_known_to(pid) for pid in family(trusted.processes.pids["supernode-0"])
        )
    assert federation.process.returncode == 0, federation.log.read_text()
    summary, ours = federation.summary, in_process(tmp_path / "ours", **ONCE)[0]
    assert summary["engine"] == "superlink"
    assert (summary["failures"], summary["models_sent"]) == (0, 2)
    assert summary["state_sha256"] == ours["state_sha256"]
    assert "flwr-serverapp" in known
    assert "secrets/flower/superlink.crt" in known
    assert "secrets/qkd" not in known
    assert "sae" not in known
    assert "secrets/qkd/sae-0.crt" in own, "a client has what the search is for"


def family(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [pid, *(each for child in own for each in family(child))]


def what_is_known_to(pid: int) -> str:
    """Return a process's command line, environment, open files and mapped files."""
    process = Path(f"/proc/{pid}")
    opened = [os.readlink(link) for link in (process / "fd").iterdir()]  # noqa: PTH115 - sockets, too
    texts = [(process / name).read_bytes() for name in ("cmdline", "environ", "maps")]
    return "\n".join(
        [*opened, *(text.decode(errors="replace").replace("\0", "\n") for text in texts)]
    )


def test_without_one_key_manager_others_get_the_models_and_the_run_ends_cleanly(
    trusted: Deployment,
) -> None:
    seed = seed_for([(2, 0), (0, 1)])
    keys = {"key_source": "etsi014", "on_starved": "repick", "seed": seed, **ONCE}
    with trusted.running("no-kme-b", **keys) as federation:
        federation.wait_for_round(2)
        trusted.processes.stop("kme-b")
    trusted.processes.start("kme-b")
    assert federation.process.returncode == 0, federation.log.read_text()
    summary = federation.summary
    assert (summary["starved"], summary["repicked"], summary["skipped"]) == (1, 1, 0)
    assert (summary["models_sent"], summary["sealed_failures"]) == (2, 0)
    assert summary["failures"] == 0
    with (federation.directory / "keys.csv").open() as file:
        sent = [
            (r["sender"], r["receiver"]) for r in csv.DictReader(file) if r["event"] == "delivered"
        ]
    assert sent == [("2", "0"), ("0", "2")]
    assert summary["state_sha256"]


def test_without_one_supernode_the_run_ends_cleanly(trusted: Deployment) -> None:
    keys = {"key_source": "etsi014", "on_starved": "skip", **ONCE}
    with trusted.running("no-node-2", **keys) as federation:
        federation.wait_for_round(2)
        trusted.processes.stop("supernode-2")
        trusted.processes.stop("superexec-2")
    assert federation.process.returncode == 0, federation.log.read_text()
    summary = federation.summary
    assert summary["last_evaluated_round"] == 2
    assert summary["evaluated"] == 2
    assert summary["failures"] > 0
    assert summary["state_sha256"] is None
    assert (federation.directory / "report.html").exists()


def test_what_passes_the_superlink_holds_no_tensor_and_no_key(tmp_path: Path) -> None:
    proxies: list[RecordingProxy] = []
    book = tmp_path / "keys"

    def listen(processes: ComposeProcesses) -> None:
        proxies.append(RecordingProxy(processes.port("superlink", 8000)))
        processes.stand_in["superlink", 8000] = proxies[0].port

    spying = {"PYTHONPATH": str(Path(key_spy.__file__).parent), key_spy.FILE_VARIABLE: str(book)}
    keys: dict[str, Any] = {"key_source": "etsi014", "suite": "otp", **ONCE}
    with (
        deployment(tmp_path, "compose.yaml", environment=spying, before=listen) as deployed,
        deployed.running("heard", plugins="key_spy", **keys) as federation,
    ):
        pass
    proxies[0].close()
    seen, summary = proxies[0].seen, federation.summary
    assert (summary["failures"], summary["models_sent"]) == (0, 2)
    assert len(seen) > 2 * summary["bytes_sent"]
    assert all(key_id.bytes in seen for key_id in key_ids(federation.directory / "keys.csv"))
    ours, weights = in_process(tmp_path / "ours", suite="otp", **ONCE)
    assert ours["state_sha256"] == summary["state_sha256"]
    tensors = [
        t for each in weights for t in decode_tensors(each).values() if t.is_floating_point()
    ]
    searched = Windows(tensor.numpy().tobytes() for tensor in tensors)
    assert len(searched) > 10_000
    assert not searched.found_in(seen)
    used = book.read_bytes()
    assert 8 * len(used) == 2 * summary["key_bits"], "at both ends"
    assert not Windows([used]).found_in(seen)


def key_ids(ledger: Path) -> list[UUID]:
    with ledger.open() as file:
        found = [UUID(row["key_id"]) for row in csv.DictReader(file) if row["key_id"]]
    assert found
    return found
