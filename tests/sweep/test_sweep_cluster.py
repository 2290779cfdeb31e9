"""A sweep over several machines: two raylets, each with its own worker processes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, free_port, wait_for
from tests.sweep.raylets import BIN, Cluster, can_hide, cluster, wait
from tests.sweep.sweeping import PATIENCE_S, SMALL, Sweeping, lasting, rows, run

pytestmark = pytest.mark.slow

TEXTS = {"strategy", "dataset"}
"""Keys whose values `flwr run` wants in quotes."""

TRIAL = "ImplicitFunc.train"
"""What Ray calls a process that is at a trial."""


@pytest.fixture(scope="module")
def two_raylets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.getbasetemp()) as started:
        yield started


@pytest.mark.skipif(not can_hide(), reason="needs the right to mount")
def test_the_machines_of_these_tests_share_no_folder(two_raylets: Cluster, tmp_path: Path) -> None:
    theirs = Path(f"/proc/{two_raylets.nodes[1].raylet}/root")
    for folder in (tmp_path.parent, two_raylets.scratch):
        (folder / "seen").touch()
        assert list((theirs / folder.relative_to("/")).iterdir()) == []


def test_it_does_not_matter_where_a_trial_runs(
    whole: Path, two_raylets: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    sweeping = sweep_on(two_raylets, tmp_path, "small.yaml", "--out", "out")
    wait(lambda: all(node.hosts(TRIAL) for node in two_raylets.nodes), PATIENCE_S)
    code, out, err = sweeping.end()
    assert code == 0, err
    assert "lost" not in out
    assert lasting(tmp_path / "out") == lasting(whole)


def test_the_address_may_come_from_the_environment_and_trials_be_limited(
    two_raylets: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text("base: {dataset: digits, clients: 4, rounds: 1}\nseeds: 2\n")
    address = {"RAY_ADDRESS": two_raylets.address}
    out = run(tmp_path, "one.yaml", "--workers", "1", environment=address)
    assert "2/2 finished" in out


def sweep_on(on: Cluster, folder: Path, *words: str) -> Sweeping:
    own = {"TMPDIR": str(on.scratch)}
    return Sweeping(folder, *words, "--address", on.address, environment=own)


@pytest.fixture
def flwr_on_cluster(two_raylets: Cluster, tmp_path: Path) -> Iterator[list[str]]:
    """The beginning of a `flwr run` whose SuperLink was started with the cluster's address."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink.test]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    own = {
        "FLWR_HOME": str(home),
        "RAY_ADDRESS": two_raylets.address,
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    own |= {"FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    own["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    superlink = [str(BIN / "flower-superlink"), "--insecure", "--simulation"]
    superlink += ["--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port)]
    superlink += ["--control-api-address", f"127.0.0.1:{free_port()}"]
    settings = [f"{name}={value}" for name, value in own.items()]
    with (tmp_path / "superlink.log").open("w") as log:
        process = subprocess.Popen(
            ["env", *settings, *superlink], stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(port)
        yield ["env", *settings, str(BIN / "flwr"), "run", str(ROOT), "test", "--stream"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def test_flwr_run_uses_the_same_cluster_with_the_same_weights(
    flwr_on_cluster: list[str], two_raylets: Cluster, whole: Path, tmp_path: Path
) -> None:
    row = next(row for row in rows(whole) if row["strategy"] == "def-fd")
    asked = ("strategy", "dataset", "clients", "rounds", "local-epochs", "seed")
    keys = " ".join(f"{key}='{row[key]}'" if key in TEXTS else f"{key}={row[key]}" for key in asked)
    words = [*flwr_on_cluster, "-c", f"{keys} out-dir='{tmp_path / 'run'}'"]
    words += ["--federation-config", "num-supernodes=4 client-resources-num-cpus=1"]
    flwr = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    wait(lambda: all(node.hosts("ClientAppActor") for node in two_raylets.nodes), PATIENCE_S)
    out, _ = flwr.communicate(timeout=PATIENCE_S)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["engine"] == "ray", out
    assert summary["state_sha256"] == row["state_sha256"]


def test_a_raylet_that_is_killed_costs_its_running_trial_which_is_tried_again(
    whole: Path, two_raylets: Cluster, tmp_path: Path
) -> None:
    node = two_raylets.nodes[1]
    (tmp_path / "small.yaml").write_text(SMALL)
    sweeping = sweep_on(two_raylets, tmp_path, "small.yaml", "--out", "out")
    wait(lambda: node.hosts(TRIAL), PATIENCE_S)
    node.kill()
    code, out, err = sweeping.end()
    assert code == 0, err
    assert out.count("lost ") == 1, out
    assert "6/6 finished" in out
    assert lasting(tmp_path / "out") == lasting(whole)


def test_an_address_where_nobody_answers_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    code, _, err = Sweeping(tmp_path, "small.yaml", "--address", "127.0.0.1:1").end()
    assert code == 2
    assert err == "deffd: --address=127.0.0.1:1: no Ray cluster answers (Connection refused)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
