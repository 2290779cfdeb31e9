"""Partitioners of flwr-datasets on labels in memory."""

import inspect
import os
import sys
from typing import Any

import numpy as np
import pytest

from deffd_flower.data.partition import Indices, PartitionRequest, options_read, partition
from deffd_flower.errors import RequestError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 100))


def ask(options: dict[str, Any] | None = None, **changes: Any) -> PartitionRequest:
    request: dict[str, Any] = {
        "clients": 5,
        "classes": 5,
        "classes_per_client": 5,
        "class_alpha": 0.5,
        "samples_per_client": 0,
        "seed": 0,
        "partitioner_options": options or {},
    }
    return PartitionRequest(**{**request, **changes})


def made(name: str, request: PartitionRequest) -> list[Indices]:
    pytest.importorskip("flwr_datasets")
    parts = partition(name, LABELS, request)
    dealt = np.concatenate(parts)
    assert len(np.unique(dealt)) == len(dealt)
    return parts


def test_shards_hold_few_classes() -> None:
    parts = made("ShardPartitioner", ask({"num_shards_per_partition": 2}))
    assert [len(part) for part in parts] == [100] * 5
    assert all(len(np.unique(LABELS[part])) <= 3 for part in parts)


def test_options_reach_the_partitioner() -> None:
    for wanted in (1, 3):
        request = ask({"num_classes_per_partition": wanted})
        parts = made("PathologicalPartitioner", request)
        assert [len(np.unique(LABELS[part])) for part in parts] == [wanted] * 5


def test_class_alpha_reaches_the_partitioner() -> None:
    def largest_class_share(alpha: float) -> float:
        parts = made("DirichletPartitioner", ask({"min_partition_size": 2}, class_alpha=alpha))
        return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))

    assert largest_class_share(0.1) > 0.5 > largest_class_share(1000.0)


def test_class_alpha_is_read_by_those_that_take_an_alpha_and_no_others() -> None:
    package = pytest.importorskip("flwr_datasets.partitioner")
    for name in (name for name in package.__all__ if name != "Partitioner"):
        takes = "alpha" in inspect.signature(getattr(package, name)).parameters
        assert ("class-alpha" in options_read(name)) == takes, name


def test_samples_per_client_is_the_size_where_sizes_are_free_and_else_the_most() -> None:
    sizes = [len(part) for part in made("SizePartitioner", ask(samples_per_client=40))]
    assert sizes == [40] * 5
    everything = [len(part) for part in made("LinearPartitioner", ask())]
    limited = [len(part) for part in made("LinearPartitioner", ask(samples_per_client=90))]
    assert max(everything) > 90
    assert limited == [min(size, 90) for size in everything]


@pytest.mark.parametrize("name", ["IidPartitioner", "DirichletPartitioner"])
def test_the_runs_seed_decides_the_parts(name: str) -> None:
    first, same, other = (made(name, ask(seed=seed)) for seed in (1, 1, 2))
    assert [part.tolist() for part in first] == [part.tolist() for part in same]
    assert [part.tolist() for part in first] != [part.tolist() for part in other]


@pytest.mark.parametrize(
    ("name", "options", "key", "advice"),
    [
        ("ShrdPartitioner", {}, "partition", "Did you mean 'ShardPartitioner'"),
        ("ShardPartitioner", {"shards": 2}, "partition-options", "num_shards_per_partition"),
        ("PathologicalPartitioner", {}, "partition-options", "num_classes_per_partition"),
        ("VerticalEvenPartitioner", {}, "partition-options", "VerticalEvenPartitioner says"),
    ],
)
def test_what_the_partitioner_refuses_is_told_in_our_words(
    name: str, options: dict[str, Any], key: str, advice: str
) -> None:
    pytest.importorskip("flwr_datasets")
    with pytest.raises(RequestError) as caught:
        partition(name, LABELS, ask(options))
    assert caught.value.key == key
    assert advice in caught.value.advice


def test_a_number_of_parts_fixed_by_the_data_is_told() -> None:
    pytest.importorskip("flwr_datasets")
    with pytest.raises(RequestError, match="type clients=5"):
        partition("NaturalIdPartitioner", LABELS, ask(clients=7))


def test_without_flwr_datasets_the_extra_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("flwr_datasets", "flwr_datasets.partitioner"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RequestError, match=r'pip install "deffd-flower\[partitioners\]"'):
        partition("ShardPartitioner", LABELS, ask())


def test_the_hub_is_told_to_stay_offline() -> None:
    made("IidPartitioner", ask())
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["HF_DATASETS_OFFLINE"] == "1"
