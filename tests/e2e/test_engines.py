"""One program, several engines: equal keys and seed give equal weights, and failures are alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid
from deffd_flower.errors import DeffdError
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.results.reader import read_run
from tests.e2e.conftest import Command
from tests.e2e.flaky_strategy import TOO_MANY

STRATEGIES = [
    *("def-fd", "def-fd-plus", "def-kt", "hand-off", "average-then-distil"),
    *("full-avg", "combo", "local", "fedavg"),
]
QUICK: dict[str, object] = {"dataset": "digits", "clients": 4, "rounds": 2, "local-epochs": 1}


def run_in_process(directory: Path, isolate: bool = False, **keys: Any) -> dict[str, Any]:
    central = {"suite": "none"} if keys.get("strategy") == "fedavg" else {}
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve({**QUICK, **central, **given})
    grid = LocalGrid(client_app, config.clients, config.values(), isolate)
    return federate(grid, config, directory, LineProgress())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_runs_and_counts_its_traffic(strategy: str, tmp_path: Path) -> None:
    summary = run_in_process(tmp_path / "run", strategy=strategy)
    expected = {"local": 0, "fedavg": 2 * 2 * 4}.get(strategy, 2 * 2)
    assert summary["models_sent"] == pytest.approx(expected)
    assert summary["failures"] == 0
    assert 0 < summary["global_accuracy"] < 1


def test_strategies_end_in_different_weights(tmp_path: Path) -> None:
    digests = {
        run_in_process(tmp_path / name, strategy=name)["state_sha256"] for name in STRATEGIES
    }
    assert len(digests) == len(STRATEGIES)


def test_server_and_clients_share_no_objects(tmp_path: Path) -> None:
    shared = run_in_process(tmp_path / "shared")
    isolated = run_in_process(tmp_path / "isolated", isolate=True)
    assert shared["state_sha256"] == isolated["state_sha256"]


def test_different_initial_weights_are_an_option(tmp_path: Path) -> None:
    common = run_in_process(tmp_path / "common", strategy="local")
    own = run_in_process(tmp_path / "own", strategy="local", common_init=False)
    assert common["state_sha256"] != own["state_sha256"]


def test_layers_that_draw_draw_the_same_in_every_engine(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"strategy": "def-kt", "model": "tests.e2e.flaky_strategy:Forgetful"}
    digests = {run_in_process(tmp_path / name, **keys)["state_sha256"] for name in ("one", "two")}
    config = resolve({**QUICK, **keys})
    with ProcessGrid(client_app, config.clients, config.values(), workers=3) as grid:
        digests.add(str(federate(grid, config, tmp_path / "three", LineProgress())["state_sha256"]))
    assert len(digests) == 1


MIXED: dict[str, Any] = {"model": "cnn,mlp,defkt-cnn", "feature_loss": "mse", "gamma": 0.1}


@pytest.mark.parametrize("keys", [{}, {"common_init": False, "teacher": "frozen"}])
def test_architectures_mixed_end_in_the_same_weights_in_one_process_and_in_two(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    given = {**MIXED, "clients": 6, "rounds": 3, **keys}
    one = run_in_process(tmp_path / "one", **given)
    config = resolve({**QUICK, **{key.replace("_", "-"): value for key, value in given.items()}})
    with ProcessGrid(client_app, config.clients, config.values(), workers=2) as grid:
        two = federate(grid, config, tmp_path / "two", LineProgress())
    assert one["failures"] == two["failures"] == 0
    assert one["loss_feature"] > 0
    assert one["state_sha256"] == two["state_sha256"]
    rows = [row["model"] for row in read_run(tmp_path / "two").clients]
    assert rows == ["cnn", "mlp", "defkt-cnn"] * 2


def test_a_perceptron_a_small_and_a_residual_network_learn_in_one_federation(
    tmp_path: Path,
) -> None:
    keys: dict[str, Any] = {"model": "mlp,cnn,resnet18", "clients": 3, "samples_per_client": 40}
    summary = run_in_process(tmp_path / "run", calibrate="prior", rounds=3, seed=1, **keys)
    assert (summary["models_sent"], summary["failures"]) == (3, 0)
    assert summary["loss_feature"] > 0
    assert 'id="model-table"' in (tmp_path / "run" / "report.html").read_text()


def test_bf16_is_used_in_fusion_too(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"strategy": "hand-off", "rounds": 1, "lr": 1e-9, "fusion_epochs": 3}
    losses = [
        float(read_run(tmp_path / name).rounds[0]["loss_ce"])
        for name in ("float32", "bf16")
        if run_in_process(tmp_path / name, precision=name, **keys)
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_client_that_fails_is_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "strategy": "flaky",
        "plugins": "tests.e2e.flaky_strategy",
        "clients": 10,
        "rounds": 4,
    }
    summary = run_in_process(tmp_path / "run", **keys)
    assert summary["failures"] > 0
    assert summary["sealed_failures"] == 0
    assert "ValueError: too many samples" in (tmp_path / "run" / "run.log").read_text()


def test_a_run_in_which_everybody_fails_ends_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DeffdError, match=r"16 messages in a row failed; .*broken model"):
        run_in_process(
            tmp_path / "run",
            strategy="def-kt",
            model="tests.e2e.flaky_strategy:BreaksInTraining",
            rounds=99,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "model"),
    [("def-fd", "cnn"), ("combo", "cnn"), ("fedavg", "cnn"), ("def-fd", "cnn*2,mlp")],
)
def test_flwr_run_gives_the_weights_of_deffd_run(
    strategy: str, model: str, flwr_run: Command, tmp_path: Path
) -> None:
    ours = run_in_process(tmp_path / "ours", strategy=strategy, model=model)
    theirs = tmp_path / "theirs"
    done = flwr_run(
        4,
        *(f"{key}={value!r}" for key, value in QUICK.items()),
        f"strategy='{strategy}'",
        f"model='{model}'",
        f"suite='{'none' if strategy == 'fedavg' else 'aes'}'",
        f"out-dir='{theirs}'",
    )
    assert done.code == 0, done.out + done.err
    summary = json.loads((theirs / "summary.json").read_text())
    assert summary["engine"] == "ray"
    assert summary["state_sha256"] == ours["state_sha256"]
    (result,) = [line for line in done.out.splitlines() if line.startswith("RESULT ")]
    assert json.loads(result.removeprefix("RESULT ")) == summary
    assert "round 2/2  global" in done.out
    for name in ("rounds.csv", "clients.csv", "config.yaml", "report.html"):
        assert (theirs / name).exists()


@pytest.mark.slow
def test_a_failing_client_leaves_the_same_weights_on_ray(flwr_run: Command, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"strategy": "flaky", "clients": 6, "rounds": 3}
    ours = run_in_process(tmp_path / "ours", plugins="tests.e2e.flaky_strategy", **keys)
    theirs = tmp_path / "theirs"
    words = {**QUICK, **keys, "plugins": "flaky_strategy", "out-dir": str(theirs)}
    done = flwr_run(6, *(f"{key}={value!r}" for key, value in words.items()))
    assert done.code == 0, done.out + done.err
    summary = json.loads((theirs / "summary.json").read_text())
    assert summary["failures"] == ours["failures"] > 0, f"nobody has more than {TOO_MANY} samples"
    assert summary["state_sha256"] == ours["state_sha256"]


@pytest.mark.slow
def test_two_supernodes_for_ten_clients_says_what_to_type(
    flwr_run: Command, tmp_path: Path
) -> None:
    done = flwr_run(2, "dataset='digits'", f"out-dir='{tmp_path / 'run'}'")
    assert 'num-supernodes=10 client-resources-num-cpus=1" to flwr run' in done.out
    assert "Traceback" not in done.out
    assert not (tmp_path / "run").exists()
