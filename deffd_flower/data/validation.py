"""A validation split: training images that no client holds, to choose hyper-parameters on.

The test set is then looked at once, when everything has been chosen. The split has the classes in
the training set's proportions.
"""

import numpy as np

from deffd_flower.data.allocation import apportion
from deffd_flower.data.partition import partition
from deffd_flower.data.partitioners import PartitionRequest, deal
from deffd_flower.data.split import Indices
from deffd_flower.errors import RequestError
from deffd_flower.randomness import numpy_generator

SET_ASIDE = 5
"""Where everything is dealt out, at most one part in so many is set aside before."""


def partition_beside_validation(
    name: str, labels: Indices, request: PartitionRequest, most: int
) -> tuple[list[Indices], Indices]:
    """Spread samples over the clients, and draw a validation split from what none of them holds.

    With a fixed ``samples_per_client`` the clients' samples are those of `partition`, so that what
    is chosen on the validation split carries over. With 0 clients would hold everything: then the
    validation split, at most a fifth of all samples, is set aside first, and the rest is dealt out.

    Args:
        name: As for `partition`.
        labels: Class of each training sample, int [N].
        request: How many clients, samples and classes; its seed keys the split, too.
        most: Samples wanted for validation; fewer where fewer are left.

    Returns:
        Each client's indices and those of the validation split, ascending.

    Raises:
        RequestError: No such partition, or too little is left to judge by.
    """
    everything, classes = np.arange(len(labels)), len(np.unique(labels))
    if most < classes:
        raise RequestError("validation-samples", most, f"must be at least {classes}, the classes")
    if request.samples_per_client:
        parts = partition(name, labels, request)
        left = np.setdiff1d(everything, np.concatenate(parts))
        return parts, _draw(labels, left, most, request.seed, "type a smaller samples-per-client")
    fifth = min(most, len(labels) // SET_ASIDE)
    validation = _draw(labels, everything, fifth, request.seed, "take a larger data set")
    rest = np.setdiff1d(everything, validation)
    return [rest[part] for part in partition(name, labels[rest], request)], validation


def _draw(labels: Indices, candidates: Indices, most: int, seed: int, advice: str) -> Indices:
    """Draw up to ``most`` candidates with the class proportions of all samples."""
    overall = np.bincount(labels).astype(np.int64)
    stock = np.bincount(labels[candidates], minlength=len(overall)).astype(np.int64)
    known = overall > 0
    # The class with the least left decides how many there can be in these proportions.
    size = min(most, int((stock[known] * len(labels) // overall[known]).min()))
    if size < known.sum():
        scarce = int(np.where(known, stock / np.maximum(overall, 1), 1).argmin())
        few = f"class {scarce} has {stock[scarce]} of its {overall[scarce]} training images left"
        raise RequestError("evaluate-on", "validation", f"{few} for it; {advice}")
    generator = numpy_generator(seed, "validation")
    shares, none = overall[np.newaxis].astype(np.float64), np.zeros((1, len(overall)), np.int64)
    counts = np.minimum(apportion(shares, np.array([size]), none, generator), stock)
    (chosen,) = deal(counts, labels[candidates], generator)
    return np.sort(candidates[chosen])
