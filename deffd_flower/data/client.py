"""One client's share of a data set."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from deffd_flower.config import RunConfig
from deffd_flower.data.datasets import load_dataset
from deffd_flower.data.partition import (
    ClientIndices,
    Indices,
    PartitionRequest,
    client_split,
    parse_partitioner_options,
    partition,
)
from deffd_flower.data.validation import partition_beside_validation
from deffd_flower.errors import RequestError
from deffd_flower.training import Samples


@dataclass(frozen=True)
class ClientData:
    """What one client works with, on its device.

    Attributes:
        train: Its own samples to learn from.
        held_out: Its own samples to be judged on.
        test: What everybody is judged on: the global test set, or the validation split.
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
        RequestError: The partition or the validation split cannot be made, or the device is not
            there.
        DeffdError: The data set cannot be had.
    """
    device = device_of(config.device)
    own = _own_indices(config, client)
    everything = _training_set(config.dataset, config.data_dir, device)
    return ClientData(
        train=_samples(everything, own.train),
        held_out=_samples(everything, own.test),
        test=(
            _test_set(config.dataset, config.data_dir, device)
            if config.evaluate_on == "test"
            else _validation_set(config, device)
        ),
        label_counts=torch.from_numpy(own.train_counts),
        device=device,
    )


@lru_cache(maxsize=1024)
def _own_indices(config: RunConfig, client: int) -> ClientIndices:
    dataset = load_dataset(config.dataset, config.data_dir)
    return client_split(
        _dealt(config)[0][client],
        dataset.train_labels.numpy(),
        dataset.spec.classes,
        config.local_test_fraction,
        config.seed_of("partition"),
        client,
    )


@lru_cache(maxsize=4)
def _dealt(config: RunConfig) -> tuple[list[Indices], Indices]:
    """Return the indices of every client and of the validation split, which may be empty.

    They are worked out once for all clients of a process.
    """
    dataset = load_dataset(config.dataset, config.data_dir)
    request = PartitionRequest(
        clients=config.clients,
        classes=dataset.spec.classes,
        classes_per_client=config.classes_per_client,
        class_alpha=config.class_alpha,
        samples_per_client=int(config.samples_per_client),
        seed=config.seed_of("partition"),
        partitioner_options=parse_partitioner_options(config.partition_options),
    )
    labels = dataset.train_labels.numpy()
    if config.evaluate_on == "test":
        return partition(config.partition, labels, request), np.empty(0, dtype=np.int64)
    most = config.validation_samples
    return partition_beside_validation(config.partition, labels, request, most)


@lru_cache(maxsize=4)
def _training_set(name: str, data_dir: str, device: torch.device) -> Samples:
    """Return all training samples, on the device, from which a client's are picked."""
    dataset = load_dataset(name, data_dir)
    return Samples(dataset.train_images.to(device), dataset.train_labels.to(device), dataset.spec)


@lru_cache(maxsize=4)
def _test_set(name: str, data_dir: str, device: torch.device) -> Samples:
    dataset = load_dataset(name, data_dir)
    return Samples(dataset.test_images.to(device), dataset.test_labels.to(device), dataset.spec)


@lru_cache(maxsize=2)
def _validation_set(config: RunConfig, device: torch.device) -> Samples:
    everything = _training_set(config.dataset, config.data_dir, device)
    return _samples(everything, _dealt(config)[1])


def _samples(everything: Samples, indices: Indices) -> Samples:
    chosen = torch.from_numpy(indices).to(everything.labels.device)
    images = everything.images.index_select(0, chosen)
    return Samples(images, everything.labels.index_select(0, chosen), everything.spec)


def device_of(name: str) -> torch.device:
    """Return the device that a value of the ``device`` key names.

    Raises:
        RequestError: There is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise RequestError("device", name, "must be cpu, cuda or cuda:N") from problem
    if device.type not in ("cpu", "cuda"):
        raise RequestError("device", name, "must be cpu, cuda or cuda:N")
    # PyTorch loads the driver's library anew each time it counts.
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        advice = f"PyTorch finds {found} CUDA devices here, counted from 0; or device=cpu"
        raise RequestError("device", name, advice)
    return device
