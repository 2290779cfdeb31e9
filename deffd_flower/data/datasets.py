"""Data sets by name, each held once per process as one tensor of bytes.

A data set of one's own is one decorated function in a module named by the ``plugins`` key (or
reached by its dotted path, ``dataset=package.module:read``):

    @dataset("mine", classes=3, shape=(1, 16, 16), mean=(0.5,), std=(0.25,))
    def read(data_dir: Path | None) -> RawData:
        ...  # four NumPy arrays: images uint8 [N, H, W, C] and labels [N], twice
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deffd_flower.data.sources import RawData, embedded_digits, read_image_set
from deffd_flower.data.split import stratified_split
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.randomness import numpy_generator
from deffd_flower.registry import Registry

if TYPE_CHECKING:
    import torch

__all__ = [
    "Dataset",
    "DatasetSpec",
    "RawData",
    "dataset",
    "datasets",
    "load_dataset",
    "normalise",
    "resolve_auto",
]

Reader = Callable[[Path | None], RawData]

FASHION_MNIST_PACKAGE = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before it is read.

    Attributes:
        classes: Number of classes; labels are 0..classes-1.
        shape: Channels, height and width of an image.
        mean: Mean of the training pixels in [0, 1], per channel.
        std: Their standard deviation, per channel.
        read: Reads the data set, given the ``data-dir`` or ``None``.
        samples_per_client: What ``samples-per-client=auto`` stands for; 0 is everything.
    """

    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Reader
    samples_per_client: int = 0


@dataclass(frozen=True)
class Dataset:
    """A data set in memory, channels last, so that a batch of it is channels-last too.

    Attributes:
        spec: What it is.
        train_images: uint8 [N, H, W, C].
        train_labels: int64 [N].
        test_images: uint8 [M, H, W, C].
        test_labels: int64 [M].
        source: Where it was read from.
    """

    spec: DatasetSpec
    train_images: "torch.Tensor"
    train_labels: "torch.Tensor"
    test_images: "torch.Tensor"
    test_labels: "torch.Tensor"
    source: str


datasets: Registry[DatasetSpec] = Registry("dataset")

_loading = Lock()


def dataset(
    name: str,
    *,
    classes: int,
    shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    samples_per_client: int = 0,
) -> Callable[[Reader], DatasetSpec]:
    """Return a decorator that registers a reading function as a data set.

    The decorated name becomes the `DatasetSpec`; see there for the arguments.

    Raises:
        ValueError: The name is taken, or the statistics do not fit the channels.
    """
    if not len(mean) == len(std) == shape[0]:
        raise ValueError(f"{name}: mean and std need one value for each of {shape[0]} channels")

    def add(read: Reader) -> DatasetSpec:
        spec = DatasetSpec(classes, shape, mean, std, read, samples_per_client)
        return datasets.register(name)(spec)

    return add


def load_dataset(name: str, data_dir: str = "") -> Dataset:
    """Return a data set, read once per process.

    Args:
        name: A value of the ``dataset`` key; ``auto`` only as `resolve_auto` resolved it.
        data_dir: The folder with its files; empty to look in the usual places.

    Raises:
        RequestError: There is no such data set.
        DeffdError: It cannot be had, or is not what its spec says.
    """
    with _loading:
        return _load(name, data_dir)


def resolve_auto(data_dir: str = "") -> str:
    """Return what ``dataset=auto`` stands for here.

    Returns:
        ``fashion-mnist`` if it can be had, else ``digits``, which needs no file. The caller owes
        the user a word when it is ``digits``: results are not comparable.
    """
    try:
        load_dataset("fashion-mnist", data_dir)
    except DeffdError:
        return "digits"
    return "fashion-mnist"


def normalise(images: "torch.Tensor", spec: DatasetSpec) -> "torch.Tensor":
    """Turn stored images into a model's input, (x / 255 - mean) / std.

    Args:
        images: uint8 [B, H, W, C], on any device.
        spec: The data set they come from.

    Returns:
        float32 [B, C, H, W] in channels-last memory format.
    """
    # Whole images as rows: broadcasting over three channels is several times slower.
    values = images.shape[1:].numel()
    scale, shift = _affine(spec.mean, spec.std, values, images.device)
    rows = images.flatten(1).float().mul_(scale).add_(shift)
    return rows.view(images.shape).permute(0, 3, 1, 2)


@lru_cache(maxsize=32)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], values: int, device: "torch.device"
) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    deviation = torch.tensor(std, dtype=torch.float64)
    shift = -torch.tensor(mean, dtype=torch.float64) / deviation
    repeats = values // len(mean)
    pair = (1 / (255 * deviation)).repeat(repeats), shift.repeat(repeats)
    return pair[0].to(device, torch.float32), pair[1].to(device, torch.float32)


@lru_cache(maxsize=4)
def _load(name: str, data_dir: str) -> Dataset:
    import torch

    spec = datasets.get(name)
    if not isinstance(spec, DatasetSpec):
        raise RequestError("dataset", name, "is no data set; decorate its function with @dataset")
    raw = spec.read(Path(data_dir).expanduser() if data_dir else None)
    _check(name, spec, raw.train_images, raw.train_labels)
    _check(name, spec, raw.test_images, raw.test_labels)
    return Dataset(
        spec,
        torch.from_numpy(np.ascontiguousarray(raw.train_images)),
        torch.from_numpy(raw.train_labels.astype(np.int64)),
        torch.from_numpy(np.ascontiguousarray(raw.test_images)),
        torch.from_numpy(raw.test_labels.astype(np.int64)),
        raw.source,
    )


def _check(
    name: str, spec: DatasetSpec, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    channels, height, width = spec.shape
    if images.dtype != np.uint8 or images.shape != (len(labels), height, width, channels):
        found, wanted = f"{images.dtype} {images.shape}", (len(labels), height, width, channels)
        raise DeffdError(f"{name}: its images are {found}, but should be uint8 {wanted}")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= spec.classes:
        raise DeffdError(f"{name}: its labels must be 0..{spec.classes - 1} and not none")


dataset(
    "fashion-mnist",
    classes=10,
    shape=(1, 28, 28),
    mean=(0.2860,),
    std=(0.3530,),
    samples_per_client=600,
)(partial(read_image_set, "FashionMNIST", packaged=FASHION_MNIST_PACKAGE))

dataset(
    "mnist", classes=10, shape=(1, 28, 28), mean=(0.1307,), std=(0.3081,), samples_per_client=600
)(partial(read_image_set, "MNIST"))

dataset(
    "cifar10",
    classes=10,
    shape=(3, 32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    samples_per_client=600,
)(partial(read_image_set, "CIFAR10"))

dataset(
    "cifar100",
    classes=100,
    shape=(3, 32, 32),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    samples_per_client=600,
)(partial(read_image_set, "CIFAR100"))


@dataset("digits", classes=10, shape=(1, 8, 8), mean=(0.3053,), std=(0.3759,))
def digits(data_dir: Path | None) -> RawData:
    """Read scikit-learn's embedded digits, with one fixed stratified 80/20 split for all runs."""
    pixels, labels = embedded_digits()
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    train, test = stratified_split(labels, 0.2, numpy_generator(0, "digits-split"))
    return RawData(images[train], labels[train], images[test], labels[test], "scikit-learn")
