"""A client's own samples, split into those it trains on and those it is judged on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deffd_flower.errors import RequestError
from deffd_flower.randomness import numpy_generator

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ClientIndices:
    """One client's samples, as indices into the training set, and their labels' counts.

    Attributes:
        train: The samples it trains on, ascending.
        test: The samples held out, ascending.
        train_counts: Samples per class in ``train``, [classes].
        test_counts: Samples per class in ``test``, [classes].
    """

    train: Indices
    test: Indices
    train_counts: Indices
    test_counts: Indices


def client_split(
    indices: Indices,
    labels: Indices,
    classes: int,
    test_fraction: float,
    seed: int,
    partition_id: int,
) -> ClientIndices:
    """Split one client's samples; the same for equal (seed, partition id, samples).

    Args:
        indices: The client's part of the partition.
        labels: The labels of the whole training set, [N].
        classes: Number of classes of the data set.
        test_fraction: Part to hold out, in (0, 1).
        seed: The run's seed.
        partition_id: The client's number.
    """
    generator = numpy_generator(seed, "local-split", partition_id)
    train, test = stratified_split(labels[indices], test_fraction, generator)
    return ClientIndices(
        np.sort(indices[train]),
        np.sort(indices[test]),
        np.bincount(labels[indices[train]], minlength=classes).astype(np.int64),
        np.bincount(labels[indices[test]], minlength=classes).astype(np.int64),
    )


def stratified_split(
    labels: Indices, test_fraction: float, generator: np.random.Generator
) -> tuple[Indices, Indices]:
    """Hold out the same part of every class, as nearly as whole samples allow.

    The test half has round(n * test_fraction) samples, spread over the classes by largest
    remainder, except that every class keeps one sample to train on. With two samples or more,
    neither half is empty: when every class has a single sample, one is held out all the same.

    Args:
        labels: Class of each sample, [n].
        test_fraction: Part to hold out, in (0, 1).
        generator: Picks the samples.

    Returns:
        Positions in ``labels`` to train on and to test on, each ascending.

    Raises:
        RequestError: The fraction is not between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise RequestError("local-test-fraction", test_fraction, "must be between 0 and 1")
    members = [generator.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    sizes = np.array([len(positions) for positions in members], dtype=np.int64)
    held_out = _held_out_counts(sizes, test_fraction, generator)
    test = [positions[:count] for positions, count in zip(members, held_out, strict=True)]
    train = [positions[count:] for positions, count in zip(members, held_out, strict=True)]
    return _ascending(train), _ascending(test)


def _held_out_counts(
    sizes: Indices, test_fraction: float, generator: np.random.Generator
) -> Indices:
    """Return how many samples of each class are held out, given the class sizes."""
    room = np.maximum(sizes - 1, 0)
    if sizes.sum() >= 2 and room.sum() == 0:
        room[generator.integers(len(room))] = 1
    total = min(max(round(sizes.sum() * test_fraction), 1), int(room.sum()))
    quotas = sizes * test_fraction
    counts: Indices = np.minimum(np.floor(quotas).astype(np.int64), room)
    while counts.sum() < total:
        open_classes = np.flatnonzero(counts < room)
        ties = generator.random(len(open_classes))
        shortfall = (quotas - counts)[open_classes]
        counts[open_classes[np.lexsort((ties, -shortfall))[0]]] += 1
    return counts


def _ascending(parts: list[Indices]) -> Indices:
    positions: Indices = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *parts]))
    return positions
