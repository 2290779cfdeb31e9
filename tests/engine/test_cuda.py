"""What only a GPU can show: that clients on it do what clients on the CPU do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deffd_flower.client_app import app as client_app
from deffd_flower.data.client import client_data, device_of
from deffd_flower.engine.batched_grid import BatchedGrid
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.errors import RequestError
from deffd_flower.federation import federate
from deffd_flower.fusion.package import Package
from deffd_flower.peer import Peer
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.transport.codec import decode_tensors

QUICK: dict[str, object] = {"dataset": "digits", "clients": 4, "rounds": 2, "local-epochs": 1}

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def trained(device: str, **keys: Any) -> dict[str, torch.Tensor]:
    """Return a receiver's weights after its own training and a fusion."""
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve({**QUICK, "lr": 0.001, **given, "device": device})
    sender, receiver = (Peer(c, client_data(config, c), config) for c in (0, 1))
    sender.train(1)
    receiver.train(1)
    receiver.fuse([Package.decode(sender.package([]))], 1)
    assert {parameter.device.type for parameter in receiver.model.parameters()} == {device}
    return decode_tensors(receiver.weights())


def run(directory: Path, grid_type: Any = LocalGrid, **keys: Any) -> dict[str, Any]:
    config = resolve({**QUICK, **{key.replace("_", "-"): value for key, value in keys.items()}})
    more = (config.clients_at_once,) if grid_type is BatchedGrid else ()
    grid = grid_type(client_app, config.clients, config.values(), *more)
    return federate(grid, config, directory, LineProgress())


@gpu
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"teacher": "frozen", "fusion_epochs": 3},
        {"strategy": "combo", "average_epochs": 1},
        {"strategy": "average-then-distil", "calibrate": "prior"},
        {"model": "defkt-cnn", "feature_loss": "fitnet", "gamma": "auto"},
        {"model": "cnn,mlp", "feature_loss": "mse", "gamma": 1},
    ],
)
def test_a_gpu_learns_what_the_cpu_learns(keys: dict[str, Any]) -> None:
    ours, theirs = trained("cuda", **keys), trained("cpu", **keys)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-3, rtol=1e-3)


@gpu
@pytest.mark.parametrize("strategy", ["def-fd", "full-avg", "fedavg"])
def test_a_federation_on_a_gpu_repeats_itself(strategy: str, tmp_path: Path) -> None:
    keys = {"strategy": strategy, "device": "cuda"}
    keys |= {"suite": "none"} if strategy == "fedavg" else {}
    summaries = [run(tmp_path / name, **keys) for name in "ab"]
    assert summaries[0]["failures"] == 0
    assert summaries[0]["state_sha256"] == summaries[1]["state_sha256"]


@gpu
def test_layers_that_draw_draw_by_key_on_a_gpu_too(tmp_path: Path) -> None:
    keys = {"model": "tests.e2e.flaky_strategy:Forgetful", "strategy": "def-kt", "device": "cuda"}
    state = torch.cuda.get_rng_state()
    digests = {run(tmp_path / name, **keys)["state_sha256"] for name in "ab"}
    assert len(digests) == 1
    assert torch.equal(torch.cuda.get_rng_state(), state)


@gpu
def test_clients_train_together_on_a_gpu(tmp_path: Path) -> None:
    keys = {"device": "cuda", "clients": 8, "rounds": 1, "batched_clients": 4}
    summary = run(tmp_path / "run", BatchedGrid, **keys)
    assert summary["failures"] == summary["sealed_failures"] == 0


@gpu
def test_bf16_computes_on_a_gpu(tmp_path: Path) -> None:
    assert run(tmp_path / "run", device="cuda", precision="bf16", rounds=1)["failures"] == 0


@gpu
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["workers=1", "workers=3"])
def test_several_processes_share_a_gpu(workers: str, tmp_path: Path) -> None:
    words = ["run", "dataset=digits", "clients=6", "rounds=2", "device=cuda", workers]
    deffd = [sys.executable, "-m", "deffd_flower.cli", *words, "out-dir=run"]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        deffd, cwd=tmp_path, env={**os.environ, **path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()


def test_a_gpu_that_is_not_there_is_refused() -> None:
    number = torch.cuda.device_count()
    with pytest.raises(RequestError, match=f"device=cuda:{number}: PyTorch finds {number} CUDA"):
        device_of(f"cuda:{number}")
    with pytest.raises(RequestError, match="must be cpu, cuda or cuda:N"):
        device_of("gpu")
