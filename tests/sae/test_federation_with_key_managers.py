"""Whole federations whose keys come from key managers, of which one may die in the middle."""

import csv
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.request import resolve
from deffd_flower.results import report
from tests.sae.kme_processes import KmeProcesses

CLIENTS = 4
QUICK: dict[str, object] = {
    "dataset": "digits",
    "clients": CLIENTS,
    "rounds": 3,
    "local-epochs": 1,
    "samples-per-client": 80,
    "test-samples": 100,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kmes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmeProcesses]:
    with KmeProcesses(tmp_path_factory.mktemp("kmes"), CLIENTS) as kmes:
        yield kmes


@pytest.fixture(autouse=True)
def _own_files_and_no_drawing(
    kmes: KmeProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFFD_SAE_FILE", str(kmes.sae_file))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(report, "render", lambda directory: directory / "report.html")
    torch.set_num_threads(1)


class Interrupted(LocalGrid):
    """Something happens when the messages of the second round are about to be sent."""

    happens: Callable[[], None] | None = None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        if self.happens and any(message.metadata.group_id == "2" for message in messages):
            self.happens()
            self.happens = None
        return super().push_messages(messages)


def run(
    directory: Path, happens: Callable[[], None] | None = None, **keys: object
) -> dict[str, Any]:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve({**QUICK, **given})
    grid = Interrupted(client_app, config.clients, config.values())
    grid.happens = happens
    return federate(grid, config, directory, LineProgress())


def with_key_managers(
    directory: Path, happens: Callable[[], None] | None = None, **keys: object
) -> dict[str, Any]:
    return run(directory, happens, key_source="etsi014", **keys)


@pytest.fixture
def without_kme_b(kmes: KmeProcesses) -> Iterator[Callable[[], None]]:
    """Kills the key manager of clients 1 and 3; it is back when the test is over."""
    yield lambda: kmes.kill("kme-b")
    kmes.start("kme-b")
    kmes.wait_for_key("kme-a", "kme-b")
    kmes.wait_for_key("kme-b", "kme-a")


@pytest.mark.parametrize(
    "keys",
    [
        {"suite": "aes"},
        {"suite": "otp"},
        {"suite": "hybrid", "rekey_messages": 2},
        {"strategy": "combo", "suite": "otp"},
    ],
)
def test_the_keys_come_from_elsewhere_and_the_weights_are_the_same(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    real = with_key_managers(tmp_path / "real", **keys)
    simulated = run(tmp_path / "simulated", **keys)
    assert real["state_sha256"] == simulated["state_sha256"]
    for count in ("models_sent", "bytes_sent", "key_bits", "failures", "starved", "skipped"):
        assert real[count] == simulated[count], count
    counted = [(tmp_path / name / "partition.csv").exists() for name in ("real", "simulated")]
    assert counted == [False, True], (
        "on real nodes nobody tells the server its label counts unasked"
    )
    ledger = tmp_path / "real" / "keys.csv"
    assert verify_ledger(ledger) > 0
    with ledger.open() as file:
        booked = sum(int(r["bits"]) for r in csv.DictReader(file) if r["event"] == "delivered")
    assert booked == real["key_bits"]


def test_a_key_manager_that_comes_back_in_time_costs_nothing_but_time(
    kmes: KmeProcesses, tmp_path: Path
) -> None:
    back = threading.Timer(4.0, lambda: kmes.start("kme-b"))

    def restart() -> None:
        kmes.kill("kme-b")
        back.start()

    try:
        run_ = with_key_managers(tmp_path / "run", restart, max_wait_s=60)
    finally:
        back.join()
    calm = run(tmp_path / "calm")
    assert run_["starved"] > 0
    assert run_["waits"] > 0
    assert run_["waited_s"] > 0
    assert run_["skipped"] == 0
    assert run_["models_sent"] == calm["models_sent"]
    assert run_["last_evaluated_round"] == 3


@pytest.mark.parametrize("policy", ["skip", "wait", "repick"])
def test_a_federation_goes_on_without_a_key_manager_that_has_died(
    policy: str, without_kme_b: Callable[[], None], tmp_path: Path
) -> None:
    waiting = {"max_wait_s": 2.0} if policy == "wait" else {}
    keys = {"on_starved": policy, "pairs": 1, "rounds": 5, **waiting}
    summary = with_key_managers(tmp_path / "run", without_kme_b, **keys)
    assert summary["last_evaluated_round"] == 5
    assert summary["starved"] > 0
    assert summary["models_sent"] + summary["skipped"] == 5
    assert summary["skipped"] > 0
    assert summary["waits"] == 0
    assert (summary["repicked"] > 0) == (policy == "repick")
    verify_ledger(tmp_path / "run" / "keys.csv")


def test_a_federation_degrades_to_what_needs_no_key_manager(
    without_kme_b: Callable[[], None], tmp_path: Path
) -> None:
    keys = {"suite": "otp", "min_suite": "pqc", "on_starved": "degrade", "rounds": 3}
    summary = with_key_managers(tmp_path / "run", without_kme_b, **keys)
    assert summary["degraded"] > 0
    assert summary["skipped"] == 0
    assert summary["models_sent"] == 6
    assert set(summary["models_by_suite"]) == {"otp", "pqc"}
    assert summary["models_by_suite"]["pqc"] == summary["degraded"]
