"""The consensus distance: what the server works out from projections, against exact distances."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from torch import nn

from deffd_flower.client_app import app as client_app
from deffd_flower.consensus import DIMENSION, METRICS, consensus_distance, projection
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid
from deffd_flower.federation import federate
from deffd_flower.models import build_model
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.state import load_weights
from deffd_flower.transport.codec import decode_tensors
from tests.e2e.test_engines import QUICK, run_in_process


def cnn(seed: int) -> nn.Module:
    return build_model("cnn", (1, 28, 28), 10, seed)


def exact(models: list[nn.Module]) -> float:
    """Return the definition's value: the root mean square distance to the mean."""
    flat = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in models]
    weights = torch.stack(flat).double()
    return float((weights - weights.mean(0)).square().sum(1).mean().sqrt())


def estimate(models: list[nn.Module], seed: int) -> float:
    return consensus_distance([metrics(model, seed) for model in models])


def metrics(model: nn.Module, seed: int) -> dict[str, float]:
    return dict(zip(METRICS, projection(model, seed), strict=True))


def test_the_estimate_is_within_the_error_that_random_projections_have() -> None:
    models = [cnn(seed) for seed in range(8)]
    truth = exact(models)
    # Seven independent directions: a relative standard deviation of sqrt(2 / (64 x 7)) of squares.
    for seed in range(10):
        assert estimate(models, seed) ** 2 == pytest.approx(
            truth**2, rel=5 * math.sqrt(2 / DIMENSION / 7)
        )


def test_the_squared_estimate_is_unbiased_with_the_variance_of_random_signs() -> None:
    model, other = nn.Linear(30, 10), nn.Linear(30, 10)
    truth = exact([model, other]) ** 2
    ratios = np.array([estimate([model, other], seed) ** 2 / truth for seed in range(2000)])
    error = math.sqrt(2 / DIMENSION)
    assert ratios.mean() == pytest.approx(1, abs=4 * error / math.sqrt(2000))
    assert ratios.std() == pytest.approx(error, rel=0.1)


def test_it_is_the_same_projection_for_all_models_and_linear_in_the_weights() -> None:
    one, two, middle = cnn(1), cnn(2), cnn(3)
    with torch.no_grad():
        for mine, theirs, mean in zip(
            one.parameters(), two.parameters(), middle.parameters(), strict=True
        ):
            mean.copy_((mine + theirs) / 2)
    first, second, between = (np.array(projection(model, 4)) for model in (one, two, middle))
    np.testing.assert_allclose(between, (first + second) / 2, atol=1e-5)
    assert len(projection(one, 4)) == DIMENSION == 64
    assert projection(one, 4) == projection(one, 4)
    assert projection(one, 4) != projection(one, 5)


def test_a_known_case_by_hand() -> None:
    """One weight: every projected number is plus or minus it over 8, and the distance is exact."""
    near, far = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        near.weight.fill_(3.0)
        far.weight.fill_(-1.0)
    assert {abs(value) for value in projection(near, 0)} == {3 / 8}
    assert estimate([near, far], 0) == 2.0


def test_how_much_is_projected_at_once_changes_no_more_than_rounding() -> None:
    whole, pieces = (projection(cnn(1), 0, chunk) for chunk in (10**6, 100))
    np.testing.assert_allclose(whole, pieces, atol=1e-5)


def test_equal_models_are_at_distance_zero_exactly() -> None:
    assert estimate([cnn(1)] * 7, 0) == 0.0
    assert estimate([cnn(1)], 0) == 0.0


def test_only_parameters_count_not_the_buffers_of_batch_normalisation() -> None:
    model = build_model("defkt-cnn", (1, 8, 8), 10, 0)
    before = projection(model, 0)
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.add_(5)
    assert projection(model, 0) == before


def test_no_big_matrix_is_ever_in_memory() -> None:
    import tracemalloc

    wide = nn.Linear(2000, 500)
    tracemalloc.start()
    projection(wide, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < DIMENSION * sum(p.numel() for p in wide.parameters()) / 10


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "rounds.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("strategy", ["def-fd", "local"])
def test_every_evaluated_round_has_the_distance_of_all_clients_models(
    strategy: str, tmp_path: Path
) -> None:
    """Trainers report as they train, others when asked, and unchanged models once."""
    config = resolve(
        {**QUICK, "rounds": 4, "pairs": 1, "strategy": strategy, "consensus-distance": True}
    )
    grid = Watched(client_app, config.clients, config.values())
    federate(grid, config, tmp_path / "run", LineProgress())
    found = [float(row["consensus_distance"]) for row in rows(tmp_path / "run")]
    assert len(found) == len(grid.after_round) == 4
    for distance, models in zip(found, grid.after_round.values(), strict=True):
        assert len(models) == config.clients
        assert distance == pytest.approx(estimate(models, config.seed), rel=1e-6)
        assert distance == pytest.approx(exact(models), rel=0.5)
    assert len(set(found)) == 4


class Watched(LocalGrid):
    """Remembers all clients' models as they are after the last message of each round."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.after_round: dict[str, list[nn.Module]] = {}

    def _deliver(self, message: Any) -> Any:
        reply = super()._deliver(message)
        if message.metadata.group_id:
            saved = [load_weights(context) for context in self.contexts.values()]
            models = [_model(weights) for weights in saved if weights is not None]
            self.after_round[message.metadata.group_id] = models
        return reply


class LastFirst(LocalGrid):
    """Answers the last of several open messages first, as a network may."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return super().pull_messages(reversed(list(message_ids)))


@pytest.mark.parametrize("strategy", ["def-fd", "local"])
def test_the_order_in_which_clients_answer_changes_no_digit(strategy: str, tmp_path: Path) -> None:
    config = resolve({**QUICK, "rounds": 4, "strategy": strategy, "consensus-distance": True})
    found = []
    for kind in (LocalGrid, LastFirst):
        grid = kind(client_app, config.clients, config.values())
        federate(grid, config, tmp_path / kind.__name__, LineProgress())
        timeless = {"wall_s": "", "compute_s": ""}
        found.append([row | timeless for row in rows(tmp_path / kind.__name__)])
    assert found[0] == found[1]


def _model(weights: bytes) -> nn.Module:
    model = build_model("cnn", (1, 8, 8), 10, 0)
    model.load_state_dict(decode_tensors(weights))
    return model


def test_a_central_model_is_at_one(tmp_path: Path) -> None:
    summary = run_in_process(tmp_path / "run", strategy="fedavg", consensus_distance=True)
    assert summary["consensus_distance"] == 0.0


def test_it_changes_no_weight_and_without_it_nothing_is_told(tmp_path: Path) -> None:
    plain = run_in_process(tmp_path / "off")
    told = run_in_process(tmp_path / "on", consensus_distance=True)
    assert told["state_sha256"] == plain["state_sha256"]
    assert told["global_accuracy"] == plain["global_accuracy"]
    assert "consensus_distance" not in plain
    assert "consensus_distance" not in rows(tmp_path / "off")[0]
    assert not (tmp_path / "off" / "figures" / "consensus.svg").exists()
    assert (tmp_path / "on" / "figures" / "consensus.svg").exists()


def test_worker_processes_estimate_the_same(tmp_path: Path) -> None:
    here = run_in_process(tmp_path / "here", consensus_distance=True)
    config = resolve({**QUICK, "consensus-distance": True})
    with ProcessGrid(client_app, config.clients, config.values(), workers=2) as grid:
        there = federate(grid, config, tmp_path / "there", LineProgress())
    assert there["consensus_distance"] == here["consensus_distance"] > 0
