"""The validation split: nobody's images, in the training set's proportions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.data.client import client_data
from deffd_flower.data.datasets import load_dataset
from deffd_flower.data.partition import Indices, PartitionRequest, partition
from deffd_flower.data.validation import partition_beside_validation
from deffd_flower.errors import RequestError
from deffd_flower.request import resolve
from tests.e2e.test_engines import run_in_process

SIZES = np.array([900, 800, 700, 600, 500, 400, 300, 300, 300, 200])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), SIZES))
REQUEST = PartitionRequest(
    clients=10, classes=10, classes_per_client=8, class_alpha=0.5, samples_per_client=100, seed=0
)


def split(most: int = 1000, name: str = "classes", **changes: Any) -> tuple[list[Indices], Indices]:
    return partition_beside_validation(name, LABELS, replace(REQUEST, **changes), most)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["classes", "dirichlet", "iid"]),
    st.integers(10, 4000),
    st.sampled_from([0, 20, 60]),
    st.integers(0, 99),
)
def test_no_client_holds_a_validation_image_and_classes_keep_their_proportions(
    name: str, most: int, size: int, seed: int
) -> None:
    parts, validation = split(most, name, samples_per_client=size, seed=seed)
    held = np.concatenate(parts)
    assert np.intersect1d(held, validation).size == 0
    assert len(np.unique(validation)) == len(validation) <= most
    counts = np.bincount(LABELS[validation], minlength=10)
    assert (abs(counts - len(validation) * SIZES / SIZES.sum()) < 1).all()


@pytest.mark.parametrize("name", ["classes", "dirichlet", "iid"])
def test_with_a_fixed_size_the_clients_hold_what_they_hold_when_tested(name: str) -> None:
    parts, validation = split(name=name)
    tested = partition(name, LABELS, REQUEST)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(parts, tested, strict=True))
    assert len(validation) == 1000


def test_where_fewer_are_left_it_is_as_large_as_the_scarcest_class_allows() -> None:
    parts, validation = split(most=5000, name="iid", samples_per_client=300)
    left = np.setdiff1d(np.arange(len(LABELS)), np.concatenate(parts))
    stock = np.bincount(LABELS[left], minlength=10)
    assert len(validation) == min(stock * len(LABELS) // SIZES) < len(left)


def test_where_everything_is_dealt_out_a_fifth_at_most_is_set_aside_first() -> None:
    parts, validation = split(most=5000, samples_per_client=0)
    assert len(validation) == len(LABELS) // 5
    everything = np.sort(np.concatenate([*parts, validation]))
    assert np.array_equal(everything, np.arange(len(LABELS)))
    assert len(split(most=50, samples_per_client=0)[1]) == 50


def test_equal_seeds_give_equal_splits_and_other_seeds_others() -> None:
    for size in (0, 100):
        one, again, other = (split(samples_per_client=size, seed=seed)[1] for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)


def test_too_little_to_judge_by_is_refused_with_what_to_do() -> None:
    with pytest.raises(RequestError, match="validation-samples=9: must be at least 10"):
        split(most=9)
    told = r"evaluate-on=validation: class \d has 0 of its \d00 training images left for it; "
    with pytest.raises(RequestError, match=told + "type a smaller samples-per-client"):
        split(name="iid", samples_per_client=500)
    with pytest.raises(RequestError, match="class 9 has 0 of its 200"):
        split(samples_per_client=150, seed=18)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"validation-samples": 500}, "validation-samples=500: evaluate-on=test does not use it"),
        (
            {"evaluate-on": "validation", "test-samples": 100},
            "test-samples=100: evaluate-on=validation does not use it",
        ),
        ({"evaluate-on": "train"}, "evaluate-on=train: must be 'test' or 'validation'"),
        ({"validation-samples": 0}, "validation-samples=0: must be at least 1"),
    ],
)
def test_keys_of_the_other_set_are_refused(request_: dict[str, object], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        resolve(request_)


@pytest.mark.parametrize(("size", "origin"), [(100, "left over"), (0, "set aside")])
def test_a_run_is_judged_on_training_images_alone_and_says_so(
    size: int, origin: str, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"evaluate_on": "validation", "samples_per_client": size}
    summary = run_in_process(tmp_path / "run", **keys)
    said = [summary[name] for name in ("evaluated_on", "validation_split")]
    assert said == ["validation", origin]
    config = resolve(
        {"dataset": "digits", "clients": 4, **{k.replace("_", "-"): v for k, v in keys.items()}}
    )
    judged = client_data(config, 0).test
    assert len(judged) == summary["evaluation_samples"]
    known = {image.numpy().tobytes() for image in load_dataset("digits").train_images}
    assert all(image.numpy().tobytes() in known for image in judged.images)
    warned = "were set aside for validation" in (tmp_path / "run" / "run.log").read_text()
    assert warned == (size == 0)


def test_a_fixed_size_leads_to_the_same_weights_whatever_they_are_judged_on(tmp_path: Path) -> None:
    tested = run_in_process(tmp_path / "test", samples_per_client=100)
    chosen = run_in_process(
        tmp_path / "validation", samples_per_client=100, evaluate_on="validation"
    )
    assert chosen["state_sha256"] == tested["state_sha256"]
    assert chosen["global_accuracy"] != tested["global_accuracy"]
    assert chosen["local_accuracy"] == tested["local_accuracy"]
    assert (tested["evaluated_on"], tested["evaluation_samples"]) == ("test", 359)
    assert "validation_split" not in tested


def test_central_averaging_is_judged_on_it_too(tmp_path: Path) -> None:
    summary = run_in_process(
        tmp_path / "run", strategy="fedavg", evaluate_on="validation", validation_samples=40
    )
    assert (summary["evaluated_on"], summary["evaluation_samples"]) == ("validation", 40)
