"""CIFAR-10's whole path, from its archive by torchvision's own reader to a report.

The real archive cannot be fetched by a test. This one has its format and its shapes; its ten
classes are ten colours under noise, so that there is something to learn.
"""

from pathlib import Path

import numpy as np
import pytest
import torchvision

from tests.data.idx_files import Labelled, write_cifar_archive
from tests.e2e.test_engines import run_in_process

COLOURS = np.random.default_rng(0).integers(40, 216, size=(10, 3, 1, 1))


def coloured(count: int, seed: int) -> Labelled:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    noise = random.normal(0, 40, size=(count, 3, 32, 32))
    images = (COLOURS[labels] + noise).clip(0, 255).astype(np.uint8)
    return images, labels.tolist()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar"
    reader = write_cifar_archive(folder, coloured(600, 1), coloured(100, 2))
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", reader)
    return folder


@pytest.mark.parametrize(
    ("strategy", "model"), [("def-fd", "cnn"), ("def-fd-plus", "cnn"), ("def-fd", "cnn*3,mlp")]
)
def test_a_federation_learns_from_the_archive(
    archive: Path, tmp_path: Path, strategy: str, model: str
) -> None:
    directory = tmp_path / "run"
    summary = run_in_process(
        directory,
        dataset="cifar10",
        data_dir=str(archive),
        strategy=strategy,
        model=model,
        samples_per_client=100,
        local_epochs=6,
        rounds=3,
    )
    assert (summary["dataset"], summary["failures"]) == ("cifar10", 0)
    assert summary["models_sent"] == 6
    assert summary["evaluation_samples"] == 100
    assert float(summary["local_accuracy_prior"]) > 0.5
    assert float(summary["global_accuracy"]) > 0.3
    assert (directory / "report.html").exists()
