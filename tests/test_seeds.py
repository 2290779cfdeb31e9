"""Seeds of the partition, the initial weights and the pairing: apart, and by default together."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deffd_flower.config import RunConfig
from deffd_flower.data.client import client_data
from deffd_flower.errors import RequestError
from deffd_flower.peer import Peer
from deffd_flower.request import resolve
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import pairs, segments
from deffd_flower.strategy.topology import topology
from deffd_flower.training import Samples
from tests.e2e.test_engines import run_in_process

SEEDS = ("partition-seed", "init-seed", "pairing-seed")


def asked(**keys: Any) -> RunConfig:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    sparse = {"clients": 6, "topology": "random-regular", "topology-degree": 3}
    return resolve({"dataset": "digits", **sparse, **given})


def partition_of(config: RunConfig) -> str:
    """Return a digest of every client's samples, those it trains on and those it holds out."""
    sha = hashlib.sha256()
    for client in range(config.clients):
        data = client_data(config, client)
        for samples in (data.train, data.held_out):
            sha.update(samples.images.numpy().tobytes() + samples.labels.numpy().tobytes())
    return sha.hexdigest()[:16]


def init_of(config: RunConfig) -> list[list[float]]:
    """Return the first weights of two clients."""
    models = [Peer(client, client_data(config, client), config).model for client in (0, 1)]
    first = [next(model.parameters()).detach().flatten()[:4] for model in models]
    return [[round(float(weight), 6) for weight in weights] for weights in first]


def pairing_of(config: RunConfig) -> list[object]:
    """Return the graph, the pairs and the segments."""
    graph = topology(config)
    assert graph is not None
    known = Knowledge(config, None, 1)
    pulled = segments(known).transfers
    drawn = [(transfer.sender, transfer.receiver) for transfer in pairs(known).transfers]
    return [drawn, sorted(graph.edges)[:5], [transfer.segments for transfer in pulled][:2]]


def order_of(config: RunConfig) -> list[int]:
    """Return in which order a client trains on samples that are as bright as their number."""
    data = client_data(config, 0)
    spec, numbers = data.train.spec, torch.arange(100, dtype=torch.uint8)
    images = numbers.view(-1, 1, 1, 1).expand(-1, 8, 8, 1).contiguous()
    numbered = Samples(images, torch.zeros(100, dtype=torch.int64), spec)
    peer, seen = Peer(0, replace(data, train=numbered), config), []
    peer.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 0, 0, 0]))
    peer.train(1)
    brightness = torch.cat(seen)[:10] * spec.std[0] + spec.mean[0]
    return [round(float(value)) for value in brightness * 255]


# Drawn by version 0.1.0 before there were any seeds but one.
BEFORE = {
    0: (
        "17f8d764b88067f0",
        [-0.118964, -0.08484, 0.275393, 0.027208],
        [
            [(0, 5), (2, 1), (4, 3)],
            [(0, 1), (0, 3), (0, 4), (1, 4), (1, 5)],
            [(0, 2, 4, 5, 6), (0, 5, 7, 8)],
        ],
        [80, 35, 16, 56, 82, 2, 87, 76, 33, 28],
    ),
    5: (
        "729e605487e79a53",
        [-0.106067, 0.090687, -0.168592, -0.32836],
        [
            [(0, 3), (4, 1), (5, 2)],
            [(0, 2), (0, 3), (0, 5), (1, 2), (1, 3)],
            [(3, 9), (2, 3, 4, 7)],
        ],
        [44, 3, 5, 74, 16, 26, 43, 36, 41, 20],
    ),
}


@pytest.mark.parametrize("seed", BEFORE)
@pytest.mark.parametrize("given", [False, True])
def test_all_draws_follow_the_seed_as_they_always_have(seed: int, given: bool) -> None:
    own = dict.fromkeys(SEEDS, seed) if given else {}
    config = asked(seed=seed, **own)
    held, weights, plan, order = BEFORE[seed]
    assert partition_of(config) == held
    assert init_of(config) == [weights, weights]
    assert pairing_of(config) == plan
    assert order_of(config) == order


@pytest.mark.parametrize("key", [*SEEDS, "seed"])
def test_each_seed_changes_its_own_draws_and_no_others(key: str) -> None:
    pinned: dict[str, Any] = {**dict.fromkeys(SEEDS, 0), "seed": 0}
    one, other = asked(**pinned), asked(**{**pinned, key: 5})
    changed = {
        "partition-seed": partition_of(one) != partition_of(other),
        "init-seed": init_of(one) != init_of(other),
        "pairing-seed": pairing_of(one) != pairing_of(other),
        "seed": order_of(one) != order_of(other),
    }
    assert {name for name, has in changed.items() if has} == {key}


def test_clients_with_their_own_start_follow_the_init_seed_too() -> None:
    one, other = (asked(common_init=False, init_seed=seed) for seed in (1, 2))
    mine, theirs = init_of(one), init_of(other)
    assert mine[0] != mine[1]
    assert not [weights for weights in mine if weights in theirs]
    assert mine == init_of(asked(common_init=False, init_seed=1, seed=9))


def test_the_validation_split_follows_the_partition_seed() -> None:
    def drawn(**seeds: int) -> list[int]:
        config = asked(evaluate_on="validation", samples_per_client=100, **seeds)
        return client_data(config, 0).test.images.flatten(1).float().sum(1).tolist()

    assert drawn() == drawn(init_seed=3, pairing_seed=4)
    assert drawn() != drawn(partition_seed=3)


@pytest.mark.parametrize("key", SEEDS)
def test_a_seed_is_a_number_or_follows(key: str) -> None:
    assert resolve({key: "7"}).values()[key] == 7
    assert resolve({}).values()[key] == "auto"
    with pytest.raises(RequestError, match=f"{key}=-1: must be at least 0, or auto"):
        resolve({key: -1})
    with pytest.raises(RequestError, match=f"{key}=x: must be a whole number, or auto"):
        resolve({key: "x"})


def test_without_pairs_there_is_no_pairing_to_seed() -> None:
    with pytest.raises(RequestError, match="pairing-seed=1: strategy=fedavg does not use it"):
        resolve({"strategy": "fedavg", "suite": "none", "pairing-seed": 1})


def test_a_run_repeated_with_its_seeds_spelled_out_ends_in_the_same_weights(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"seed": 3, "strategy": "combo", "common_init": False}
    following = run_in_process(tmp_path / "following", **keys)
    spelled: dict[str, Any] = {**dict.fromkeys(SEEDS, 3), **keys, "seed": 3}
    apart = run_in_process(tmp_path / "apart", **spelled)
    assert apart["state_sha256"] == following["state_sha256"]
    assert [apart[key.replace("-", "_")] for key in SEEDS] == [3, 3, 3]
    ends = {
        run_in_process(tmp_path / key, **{**spelled, key: 4})["state_sha256"]
        for key in (*SEEDS, "seed")
    }
    assert len(ends | {apart["state_sha256"]}) == 5
