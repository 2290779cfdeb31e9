"""The paper's data set, where it can be had."""

from pathlib import Path

import pytest

from deffd_flower.data.datasets import load_dataset
from deffd_flower.errors import DeffdError
from tests.e2e.test_engines import run_in_process


def test_two_rounds_on_fashion_mnist_learn_the_held_classes(tmp_path: Path) -> None:
    try:
        load_dataset("fashion-mnist")
    except DeffdError as reason:
        pytest.skip(str(reason))
    summary = run_in_process(
        tmp_path / "run",
        dataset="fashion-mnist",
        samples_per_client=600,
        local_epochs=3,
        test_samples=1000,
        rounds=3,
    )
    assert summary["held_accuracy"] > 0.25
    assert summary["held_accuracy"] > summary["absent_accuracy"]
    assert summary["local_accuracy"] > 0.4
