"""Which client has which training samples."""

import numpy as np

from deffd_flower.data.flower_partitioners import (
    by_flower,
    is_flower_partitioner,
    keys_read_by_flower,
    parse_partitioner_options,
)
from deffd_flower.data.partitioners import (
    Partitioner,
    PartitionRequest,
    keys_read,
    partitioners,
    reads,
)
from deffd_flower.data.split import ClientIndices, Indices, client_split, stratified_split
from deffd_flower.errors import RequestError
from deffd_flower.randomness import numpy_generator

__all__ = [
    "ClientIndices",
    "Indices",
    "PartitionRequest",
    "Partitioner",
    "client_split",
    "options_read",
    "parse_partitioner_options",
    "partition",
    "partitioners",
    "reads",
    "stratified_split",
]

LEAST_PER_CLIENT = 2


def partition(name: str, labels: Indices, request: PartitionRequest) -> list[Indices]:
    """Spread samples over the clients; the same for equal arguments.

    With ``samples_per_client``, a client that a rule gave more keeps a random choice of so many.

    Args:
        name: ``classes``, ``dirichlet``, ``iid``, a class of flwr-datasets such as
            ``ShardPartitioner``, or ``package.module:function`` with `Partitioner`'s signature.
        labels: Class of each training sample, int [N].
        request: How many clients, samples and classes.

    Returns:
        Each client's indices into ``labels``, ascending; no sample belongs to two clients.

    Raises:
        RequestError: No such rule, or no such partition of these samples; says what to type.
    """
    if not 1 <= request.clients <= len(labels) // LEAST_PER_CLIENT:
        most = len(labels) // LEAST_PER_CLIENT
        advice = f"{len(labels)} samples are enough for 1 to {most} clients with two each"
        raise RequestError("clients", request.clients, advice)
    if request.samples_per_client < 0 or request.samples_per_client == 1:
        advice = "must be 2 (one to train on, one to be judged on) or more, or 0 for everything"
        raise RequestError("samples-per-client", request.samples_per_client, advice)
    generator = numpy_generator(request.seed, "partition")
    if is_flower_partitioner(name):
        parts = by_flower(name, labels, request, generator)
    else:
        parts = partitioners.get(name)(labels, request, generator)
    _check(name, parts, request)
    return [np.sort(_trim(part, request, generator)) for part in parts]


def options_read(name: str) -> frozenset[str]:
    """Return which of the keys in `partitioners.OPTIONS` a value of ``partition`` reads.

    Raises:
        RequestError: There is no such rule.
    """
    if is_flower_partitioner(name):
        return keys_read_by_flower(name)
    return keys_read(partitioners.get(name))


def _trim(part: Indices, request: PartitionRequest, generator: np.random.Generator) -> Indices:
    size = request.samples_per_client
    return generator.permutation(part)[:size] if size else part


def _check(name: str, parts: list[Indices], request: PartitionRequest) -> None:
    if len(parts) != request.clients:
        advice = f"made {len(parts)} parts for {request.clients} clients"
        raise RequestError("partition", name, advice)
    smallest = min(range(len(parts)), key=lambda client: len(parts[client]))
    if len(parts[smallest]) < LEAST_PER_CLIENT:
        advice = (
            f"leaves client {smallest} with {len(parts[smallest])} samples, but it needs one to "
            "train on and one to be judged on; type fewer clients or another partition"
        )
        raise RequestError("partition", name, advice)
