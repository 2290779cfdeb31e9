"""One client's share of a data set."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from deffd_flower.config import RunConfig
from deffd_flower.data.datasets import Dataset, load_dataset
from deffd_flower.data.partition import (
    Indices,
    PartitionRequest,
    client_split,
    parse_partitioner_options,
    partition,
)
from deffd_flower.errors import RequestError
from deffd_flower.training import Samples


@dataclass(frozen=True)
class ClientData:
    """What one client works with, on its device.

    Attributes:
        train: Its own samples to learn from.
        held_out: Its own samples to be judged on.
        test: The global test set.
        label_counts: Training samples per class, int64 [classes].
        device: Where the samples are.
    """

    train: Samples
    held_out: Samples
    test: Samples
    label_counts: Tensor
    device: torch.device


def client_data(config: RunConfig, client: int) -> ClientData:
    """Return the data of client number ``client``.

    Raises:
        RequestError: The partition cannot be made, or the device is not there.
        DeffdError: The data set cannot be had.
    """
    device = _device(config.device)
    dataset = load_dataset(config.dataset, config.data_dir)
    own = client_split(
        _parts(config)[client],
        dataset.train_labels.numpy(),
        dataset.spec.classes,
        config.local_test_fraction,
        config.seed,
        client,
    )
    return ClientData(
        train=_samples(dataset, own.train, device),
        held_out=_samples(dataset, own.test, device),
        test=_test_set(config.dataset, config.data_dir, device),
        label_counts=torch.from_numpy(own.train_counts),
        device=device,
    )


@lru_cache(maxsize=4)
def _parts(config: RunConfig) -> list[Indices]:
    """Return every client's indices; the same list for all clients of a process."""
    dataset = load_dataset(config.dataset, config.data_dir)
    request = PartitionRequest(
        clients=config.clients,
        classes=dataset.spec.classes,
        classes_per_client=config.classes_per_client,
        class_alpha=config.class_alpha,
        samples_per_client=int(config.samples_per_client),
        seed=config.seed,
        partitioner_options=parse_partitioner_options(config.partition_options),
    )
    return partition(config.partition, dataset.train_labels.numpy(), request)


@lru_cache(maxsize=4)
def _test_set(name: str, data_dir: str, device: torch.device) -> Samples:
    dataset = load_dataset(name, data_dir)
    return Samples(dataset.test_images.to(device), dataset.test_labels.to(device), dataset.spec)


def _samples(dataset: Dataset, indices: Indices, device: torch.device) -> Samples:
    chosen = torch.from_numpy(indices)
    return Samples(
        dataset.train_images[chosen].to(device),
        dataset.train_labels[chosen].to(device),
        dataset.spec,
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise RequestError("device", name, "must be cpu, cuda or cuda:N") from problem
    if device.type not in ("cpu", "cuda"):
        raise RequestError("device", name, "must be cpu, cuda or cuda:N")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        advice = f"PyTorch finds {found} CUDA devices here, counted from 0; or device=cpu"
        raise RequestError("device", name, advice)
    return device
