"""Data sets that only benchmarks need, for ``dataset=benchmarks.datasets:NAME``."""

from pathlib import Path

import numpy as np

from deffd_flower.data.datasets import dataset, datasets
from deffd_flower.data.sources import RawData


@dataset("fashion-mnist-x5", classes=10, shape=(1, 28, 28), mean=(0.2860,), std=(0.3530,))
def fashion_mnist_x5(data_dir: Path | None) -> RawData:
    """Read Fashion-MNIST with every training image five times: 60 for each of 5,000 clients."""
    raw = datasets.get("fashion-mnist").read(data_dir)
    return RawData(
        np.tile(raw.train_images, (5, 1, 1, 1)),
        np.tile(raw.train_labels, 5),
        raw.test_images,
        raw.test_labels,
        raw.source,
    )


@dataset("patterns", classes=10, shape=(1, 28, 28), mean=(0.5,), std=(0.3,))
def patterns(data_dir: Path | None) -> RawData:
    """Draw a small set that can be learnt and needs no file: one picture per class, with noise."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (10, 28, 28, 1))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.permutation(np.arange(count) % 10)
        noise = generator.normal(0, 60, (count, 28, 28, 1))
        return (pictures[labels] + noise).clip(0, 255).astype(np.uint8), labels

    return RawData(*draw(2000), *draw(500), "drawn")
