"""Clients that train together: the weights of those that train alone, sealed as ever."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message
from torch import Tensor, nn

from deffd_flower.ahead import TRAINED
from deffd_flower.cli import guarded
from deffd_flower.client_app import app as client_app
from deffd_flower.commands.run import run_command
from deffd_flower.config import RunConfig
from deffd_flower.data.client import client_data
from deffd_flower.engine.batched_grid import BatchedGrid
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.selection import in_process
from deffd_flower.errors import RequestError
from deffd_flower.federation import federate
from deffd_flower.peer import Peer
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.state import load_weights
from deffd_flower.together import can_be_stacked, train_together
from deffd_flower.training import Samples, arithmetic
from deffd_flower.transport.codec import decode_tensors

QUICK: dict[str, object] = {"dataset": "digits", "clients": 6, "rounds": 2, "local-epochs": 1}


class Parts(nn.Module):
    """A small smooth network, in which no rounding decides which way a ReLU goes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3)
        self.norm = self.layer()
        self.frozen = nn.Linear(8 * 36, 16).requires_grad_(False)
        self.last = nn.Linear(16, num_classes)

    def layer(self) -> nn.Module:
        return nn.GroupNorm(2, 8)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.conv(images)).tanh()
        logits: Tensor = self.last(self.frozen(maps.flatten(1)).tanh())
        return logits


class WithStatistics(Parts):
    """Keeps running means."""

    def layer(self) -> nn.Module:
        return nn.BatchNorm2d(8)


class WithNeighbours(Parts):
    """Normalises over the batch and keeps nothing."""

    def layer(self) -> nn.Module:
        return nn.BatchNorm2d(8, track_running_stats=False)


class WithDraws(Parts):
    """Draws."""

    def layer(self) -> nn.Module:
        return nn.Dropout(0.5)


class WithChoices(Parts):
    """Computes this or that, as the values are."""

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return super().forward(images if maps.sum() > 0 else -images)


def named(kind: type[nn.Module]) -> str:
    return f"{__name__}:{kind.__name__}"


def configured(**keys: Any) -> dict[str, object]:
    return {**QUICK, **{key.replace("_", "-"): value for key, value in keys.items()}}


def states(grid: LocalGrid) -> list[dict[str, Tensor]]:
    saved = [load_weights(context) for context in grid.contexts.values()]
    return [decode_tensors(weights) if weights else {} for weights in saved]


class Ended(LineProgress):
    """Looks at the clients' weights when the last round is over, before they are forgotten."""

    def __init__(self, grid: LocalGrid) -> None:
        self.grid = grid

    def evaluated(self, row: Any) -> None:
        super().evaluated(row)
        self.states = states(self.grid)


def run(grid: LocalGrid, directory: Path, keys: dict[str, object]) -> tuple[Any, Any]:
    ended = Ended(grid)
    return federate(grid, resolve(keys), directory, ended), ended.states


def both(directory: Path, most: int = 4, **keys: Any) -> tuple[BatchedGrid, Any, Any]:
    """Run alone and together; return the batched grid and both results."""
    given = configured(**keys)
    config = resolve(given)
    alone = LocalGrid(client_app, config.clients, config.values())
    together = BatchedGrid(client_app, config.clients, config.values(), most)
    return together, run(alone, directory / "a", given), run(together, directory / "t", given)


def gap(some: list[dict[str, Tensor]], others: list[dict[str, Tensor]]) -> float:
    return max(
        float((value - other[name]).abs().max())
        for one, other in zip(some, others, strict=True)
        for name, value in one.items()
    )


CASES: list[dict[str, Any]] = [
    {"rounds": 1},
    {"strategy": "local", "pairs": 3, "batch_size": 17, "momentum": 0.0},
    {"model": named(Parts), "strategy": "combo", "calibrate": "fedlc"},
    {"model": named(Parts), "eval_every": 2, "strategy": "full-avg", "clients": 7},
]


@pytest.mark.parametrize("keys", CASES)
def test_clients_end_with_the_weights_of_training_alone(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    grid, (alone, before), (together, after) = both(tmp_path, **keys)
    assert gap(before, after) < 1e-4
    assert max(grid.groups) > 1, "some did train together"
    assert together["sealed_failures"] == together["failures"] == 0
    for number in ("models_sent", "bytes_sent", "key_bits"):
        assert together[number] == alone[number]
    assert together["loss_train"] == pytest.approx(alone["loss_train"], rel=1e-3)
    assert not any(TRAINED in context.state for context in grid.contexts.values())


def test_no_more_train_together_than_asked_for(tmp_path: Path) -> None:
    keys = configured(clients=10, rounds=1)
    config = resolve(keys)
    grid = BatchedGrid(client_app, config.clients, config.values(), 2)
    run(grid, tmp_path / "run", keys)
    assert grid.groups == [2, 2, 1]


def peers(config: RunConfig, samples: list[int]) -> list[Peer]:
    """Return clients with so many samples each."""
    data = [client_data(config, client) for client in range(len(samples))]
    return [
        Peer(client, replace(each, train=first(each.train, samples[client])), config)
        for client, each in enumerate(data)
    ]


def first(samples: Samples, number: int) -> Samples:
    return Samples(samples.images[:number], samples.labels[:number], samples.spec)


def test_pupils_with_fewer_samples_stop_earlier() -> None:
    config = resolve(configured(clients=4, local_epochs=2))
    together, alone = (peers(config, [40, 100, 57, 100]) for _ in "ab")
    pupils = [peer.pupil(1) for peer in together]
    assert [len(pupil.orders) for pupil in pupils] == [4, 8, 4, 8]
    losses = train_together(pupils, config)
    assert losses == pytest.approx([peer.train(1)["train"] for peer in alone], rel=1e-5)
    trained, judges = ([peer.model.state_dict() for peer in each] for each in (together, alone))
    assert gap(trained, judges) < 1e-5


def test_bf16_is_used_there_too() -> None:
    losses = {}
    for precision in ("float32", "bf16"):
        config = resolve(configured(precision=precision))
        together, alone = (peers(config, [64, 64]) for _ in "ab")
        with arithmetic(precision, torch.device("cpu")):
            losses[precision] = train_together([peer.pupil(1) for peer in together], config)
        assert losses[precision] == pytest.approx(
            [peer.train(1)["train"] for peer in alone], rel=1e-2
        )
    assert losses["float32"] != losses["bf16"]


def test_only_models_whose_samples_stand_alone_can_be_stacked() -> None:
    kinds = [Parts, WithStatistics, WithNeighbours, WithDraws, WithChoices]
    cpu = torch.device("cpu")
    assert [kind for kind in kinds if can_be_stacked(kind(1, 10), (1, 8, 8), cpu)] == [Parts]


def test_a_model_that_cannot_be_stacked_trains_alone(tmp_path: Path) -> None:
    grid, (alone, _), (together, _) = both(tmp_path, model="defkt-cnn", strategy="def-kt", rounds=1)
    assert together["state_sha256"] == alone["state_sha256"]
    assert set(grid.groups) == {0}


def test_the_key_chooses_the_engine_and_is_refused_where_it_does_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_process(resolve(configured(batched_clients=3))) as grid:
        assert isinstance(grid, BatchedGrid)
    with in_process(resolve(configured(batched_clients="auto", workers=1))) as grid:
        assert type(grid) is LocalGrid
    with pytest.raises(RequestError, match=r"workers=2: takes one process"):
        resolve(configured(batched_clients=3, workers=2))
    with pytest.raises(RequestError, match=r"batched-clients=3: strategy=fedavg"):
        resolve(configured(batched_clients=3, strategy="fedavg", suite="none"))
    monkeypatch.chdir(tmp_path)
    words = ["dataset=digits", "model=defkt-cnn", "batched-clients=3", "out-dir=run"]
    assert guarded(lambda: run_command(words)) == 2
    assert "batched-clients=3: defkt-cnn can only be trained on its own" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_goes_wrong_ahead_goes_wrong_for_each_client_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = configured(rounds=1, strategy="local", pairs=2)
    config = resolve(keys)
    grid = Spoilt(client_app, config.clients, config.values(), 4)
    with caplog.at_level(logging.WARNING, "deffd"):
        summary, _ = run(grid, tmp_path / "run", keys)
    assert summary["failures"] == 2
    assert "2 clients train one by one" in caplog.text


class Spoilt(BatchedGrid):
    """Hands out no weights that anybody could read once training begins."""

    def _draft(self, message: Message) -> Context:
        draft = super()._draft(message)
        if message.metadata.message_type == "train":
            draft.run_config["model"] = "nowhere:Model"
        return draft
