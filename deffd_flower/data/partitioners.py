"""Rules for spreading labelled samples over clients: by classes, by Dirichlet draws, evenly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deffd_flower.data.allocation import (
    Counts,
    OutOfStockError,
    Weights,
    apportion,
    fit_to_stock,
    largest_size,
)
from deffd_flower.data.split import Indices
from deffd_flower.errors import RequestError
from deffd_flower.registry import Registry

LEAST_OF_DIRICHLET = 10


@dataclass(frozen=True)
class PartitionRequest:
    """What the run asks of a partition.

    Attributes:
        clients: Number of parts.
        classes: Number of classes of the data set.
        classes_per_client: Classes each client has samples of; for ``classes``.
        class_alpha: Dirichlet concentration; 0 is balanced.
        samples_per_client: Size of each part; 0 deals out everything.
        seed: The seed of the partition.
        partitioner_options: Arguments for a partitioner that takes ``partition-options``.
    """

    clients: int
    classes: int
    classes_per_client: int
    class_alpha: float
    samples_per_client: int
    seed: int
    partitioner_options: Mapping[str, int | float | str | bool] = field(default_factory=dict)


Partitioner = Callable[[Indices, PartitionRequest, np.random.Generator], list[Indices]]

P = TypeVar("P", bound=Partitioner)

partitioners: Registry[Partitioner] = Registry("partition")

OPTIONS = frozenset({"class-alpha", "classes-per-client", "partition-options"})
"""The keys that mean something to some partitioners only."""

_DECLARED = "reads"


def reads(*keys: str) -> Callable[[P], P]:
    """Return a decorator that declares which of `OPTIONS` a partitioner reads.

    A request that gives another of them is refused, because it would change nothing.

    Raises:
        ValueError: A key is none of `OPTIONS`.
    """
    if unknown := set(keys) - OPTIONS:
        raise ValueError(f"{sorted(unknown)} are none of {sorted(OPTIONS)}")

    def declare(partitioner: P) -> P:
        setattr(partitioner, _DECLARED, frozenset(keys))
        return partitioner

    return declare


def keys_read(partitioner: Partitioner) -> frozenset[str]:
    """Return those of `OPTIONS` that a partitioner has declared; none without a declaration."""
    declared: frozenset[str] = getattr(partitioner, _DECLARED, frozenset())
    return declared


@partitioners.register("iid")
def iid(
    labels: Indices, request: PartitionRequest, generator: np.random.Generator
) -> list[Indices]:
    """Shuffle and deal, regardless of the labels.

    Raises:
        RequestError: There are too few samples for ``samples-per-client``.
    """
    _check_total(labels, request)
    used = request.clients * request.samples_per_client or len(labels)
    return np.array_split(generator.permutation(len(labels))[:used], request.clients)


@partitioners.register("classes")
@reads("class-alpha", "classes-per-client")
def by_classes(
    labels: Indices, request: PartitionRequest, generator: np.random.Generator
) -> list[Indices]:
    """Give every client exactly ``classes-per-client`` classes, and every class an owner.

    The number of owners differs by one at most between classes. ``class_alpha`` = 0 gives a
    client equal counts of its classes, otherwise their proportions are a Dirichlet draw; where a
    class runs out, the proportions are the nearest ones that its stock allows.

    Raises:
        RequestError: No such partition exists; the message says which nearest one does.
    """
    stock = np.bincount(labels, minlength=request.classes).astype(np.int64)
    owned = assign_classes(request, generator)
    shape = (request.clients, request.classes_per_client)
    if request.class_alpha > 0:
        drawn = generator.dirichlet([request.class_alpha] * shape[1], size=shape[0])
    else:
        drawn = np.full(shape, 1 / shape[1])
    weights = np.zeros(owned.shape)
    # A weight of zero would deny the client one of its classes.
    weights[owned] = np.maximum(drawn, np.finfo(np.float64).tiny).ravel()
    # A client with one class needs two samples of it: one to train on, one to be judged on.
    least = owned.astype(np.int64) * (2 if request.classes_per_client == 1 else 1)
    _check_owners(stock, least, request)
    if request.samples_per_client == 0:
        return deal(apportion(weights.T, stock, least.T, generator).T, labels, generator)
    try:
        counts = fit_to_stock(weights, request.samples_per_client, stock, least, generator)
    except OutOfStockError:
        fitting = largest_size(owned, stock, least)
        raise _too_many_samples(labels, request, fitting) from None
    return deal(counts, labels, generator)


@partitioners.register("dirichlet")
@reads("class-alpha")
def dirichlet(
    labels: Indices, request: PartitionRequest, generator: np.random.Generator
) -> list[Indices]:
    """Skew the labels by Dirichlet draws of concentration ``class_alpha``.

    Dealing out everything, each class is split over the clients by one draw (Yurochkin et al.
    2019), and no client is left with less than 10 samples where there are enough. With a fixed
    size, each client's class proportions are one draw (Hsu et al. 2019), kept as nearly as the
    stock allows.

    Raises:
        RequestError: ``class_alpha`` is not positive, or there are too few samples.
    """
    alpha, clients, classes = request.class_alpha, request.clients, request.classes
    if alpha <= 0:
        advice = "must be positive for partition=dirichlet; type class-alpha=0.5, say"
        raise RequestError("class-alpha", alpha, advice)
    _check_total(labels, request)
    stock = np.bincount(labels, minlength=classes).astype(np.int64)
    least = np.zeros((clients, classes), dtype=np.int64)
    if request.samples_per_client == 0:
        drawn = generator.dirichlet([alpha] * clients, size=classes)
        counts = apportion(drawn, stock, least.T, generator).T
        _raise_to(min(LEAST_OF_DIRICHLET, len(labels) // clients), counts)
        return deal(counts, labels, generator)
    drawn = generator.dirichlet([alpha] * classes, size=clients)
    weights: Weights = np.maximum(drawn, 1e-12) * (stock > 0)
    counts = fit_to_stock(weights, request.samples_per_client, stock, least, generator)
    return deal(counts, labels, generator)


def assign_classes(request: PartitionRequest, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return who owns what, bool [clients, classes], with ``classes_per_client`` in each row.

    Each client in turn takes the classes with fewest owners so far, ties broken at random.

    Raises:
        RequestError: Some class would be without an owner.
    """
    per_client, clients, classes = request.classes_per_client, request.clients, request.classes
    if not 1 <= per_client <= classes:
        raise RequestError("classes-per-client", per_client, f"must be from 1 to {classes}")
    if clients * per_client < classes:
        more_classes, more_clients = -(-classes // clients), -(-classes // per_client)
        advice = (
            f"{clients} clients x {per_client} leave some of the {classes} classes to nobody; "
            f"type classes-per-client={more_classes} or clients={more_clients}"
        )
        raise RequestError("classes-per-client", per_client, advice)
    owned = np.zeros((clients, classes), dtype=bool)
    owners = np.zeros(classes)
    for row, ties in zip(owned, generator.random((clients, classes)), strict=True):
        row[np.argsort(owners + ties)[:per_client]] = True
        owners += row
    return owned


def deal(counts: Counts, labels: Indices, generator: np.random.Generator) -> list[Indices]:
    """Pick each client's samples at random, given how many it gets of each class.

    Args:
        counts: [clients, classes], with column sums within the classes' stock.
        labels: Class of each sample, [N].
        generator: Picks the samples.
    """
    chosen, owners = [], []
    for label, column in enumerate(counts.T):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: column.sum()])
        owners.append(np.repeat(np.arange(len(column)), column))
    order = np.argsort(np.concatenate(owners), kind="stable")
    ends = np.cumsum(counts.sum(axis=1))[:-1]
    return np.split(np.concatenate(chosen)[order], ends)


def _raise_to(least: int, counts: Counts) -> None:
    """Move samples from the largest clients until none has less than ``least``, in place."""
    sizes = counts.sum(axis=1)
    for poor in np.flatnonzero(sizes < least):
        while sizes[poor] < least:
            rich = int(sizes.argmax())
            label = int(counts[rich].argmax())
            moved = min(least - sizes[poor], sizes[rich] - least, counts[rich, label])
            pair = np.array([rich, poor])
            counts[pair, label] += (-moved, moved)
            sizes[pair] += (-moved, moved)


def _check_total(labels: Indices, request: PartitionRequest) -> None:
    if request.clients * request.samples_per_client > len(labels):
        raise _too_many_samples(labels, request, len(labels) // request.clients)


def _check_owners(stock: Counts, least: Counts, request: PartitionRequest) -> None:
    each = int(least.max())
    scarce = int((stock - least.sum(axis=0)).argmin())
    owners = int((least[:, scarce] > 0).sum())
    if owners * each > stock[scarce]:
        fitting = int(stock.min()) // each * request.classes // request.classes_per_client
        advice = (
            f"class {scarce} has {stock[scarce]} samples for {owners} owners, who need {each} "
            f"each; type clients={fitting} or less"
        )
        raise RequestError("clients", request.clients, advice)
    least_size = each * request.classes_per_client
    if 0 < request.samples_per_client < least_size:
        advice = (
            f"must be at least {least_size} for classes-per-client="
            f"{request.classes_per_client}, or 0 for everything"
        )
        raise RequestError("samples-per-client", request.samples_per_client, advice)


def _too_many_samples(labels: Indices, request: PartitionRequest, fitting: int) -> RequestError:
    clients, size = request.clients, request.samples_per_client
    reason = (
        f"{clients} clients x {size} need {clients * size} samples, "
        f"the training set has {len(labels)}"
        if clients * size > len(labels)
        else f"the classes of {clients} clients run out of samples"
    )
    advice = f"{reason}; type samples-per-client={fitting} or samples-per-client=0"
    return RequestError("samples-per-client", size, advice)
