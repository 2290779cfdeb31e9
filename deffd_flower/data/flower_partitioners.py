"""Flower's own partitioners, on a table of labels in memory."""

import inspect
import os
from importlib import import_module
from typing import Any

import numpy as np
import yaml

from deffd_flower.data.partitioners import PartitionRequest
from deffd_flower.data.split import Indices
from deffd_flower.errors import RequestError, did_you_mean

Option = int | float | str | bool

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")


def is_flower_partitioner(name: str) -> bool:
    """Return whether a value of ``partition`` reads as a class of flwr-datasets."""
    return name.endswith("Partitioner") and name.isidentifier()


def keys_read_by_flower(name: str) -> frozenset[str]:
    """Return which keys a class of flwr-datasets reads, without loading that package."""
    alpha = {"class-alpha"} if "Dirichlet" in name else set()
    return frozenset({"partition-options", *alpha})


def parse_partitioner_options(text: str) -> dict[str, Option]:
    """Read the ``partition-options`` key, such as ``num_shards_per_partition=2 shuffle=true``.

    Raises:
        RequestError: A part is not ``name=value`` with a number, a word, true or false.
    """
    options: dict[str, Option] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            parsed = None
        if not (equals and name.isidentifier() and isinstance(parsed, int | float | str)):
            advice = f"cannot read {part!r}; type it as 'name=value name=value'"
            raise RequestError("partition-options", text, advice)
        options[name] = parsed
    return options


def by_flower(
    name: str, labels: Indices, request: PartitionRequest, generator: np.random.Generator
) -> list[Indices]:
    """Partition by a class of flwr-datasets, over shuffled samples.

    Its arguments are ``partitioner_options``; those it takes from the run if they are left out
    are ``num_partitions`` (clients), ``partition_by`` (the label), ``alpha`` (class-alpha),
    ``partition_sizes`` (clients times samples-per-client) and ``seed``.

    Raises:
        RequestError: flwr-datasets is not installed, has no such class, or the class refuses its
            arguments or the data.
    """
    partitioner = _build(name, request, generator)
    shuffled = generator.permutation(len(labels))
    table = import_module("datasets").Dataset.from_dict(
        {"sample": shuffled, "label": labels[shuffled]}
    )
    try:
        partitioner.dataset = table
        count = int(partitioner.num_partitions)
        parts = [np.array(partitioner.load_partition(i)["sample"]) for i in range(count)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as problem:
        raise _refused(name, request, problem) from problem
    if count != request.clients:
        raise RequestError(
            "clients", request.clients, f"{name} makes {count}; type clients={count}"
        )
    return [part.astype(np.int64) for part in parts]


def _build(name: str, request: PartitionRequest, generator: np.random.Generator) -> Any:
    cls = _find(name)
    takes = inspect.signature(cls).parameters
    from_run: dict[str, object] = {
        "num_partitions": request.clients,
        "partition_by": "label",
        "seed": int(generator.integers(2**31)),
        "alpha": request.class_alpha,
    }
    if request.samples_per_client:
        from_run["partition_sizes"] = [request.samples_per_client] * request.clients
    arguments = {key: value for key, value in from_run.items() if key in takes}
    try:
        return cls(**{**arguments, **request.partitioner_options})
    except (TypeError, ValueError) as problem:
        raise _refused(name, request, problem) from problem


def _find(name: str) -> Any:
    for variable in OFFLINE:
        os.environ.setdefault(variable, "1")
    try:
        module = import_module("flwr_datasets.partitioner")
    except ImportError as problem:
        advice = 'needs flwr-datasets; type: pip install "deffd-flower[partitioners]"'
        raise RequestError("partition", name, advice) from problem
    known = sorted(word for word in module.__all__ if word != "Partitioner")
    if name not in known:
        near = did_you_mean(name, known)
        raise RequestError("partition", name, f"flwr-datasets has {', '.join(known)}.{near}")
    return getattr(module, name)


def _refused(name: str, request: PartitionRequest, problem: Exception) -> RequestError:
    given = " ".join(f"{key}={value}" for key, value in request.partitioner_options.items())
    takes = ", ".join(inspect.signature(_find(name)).parameters)
    reason = " ".join(str(problem).split())
    return RequestError("partition-options", given, f"{name} says: {reason} (it takes {takes})")
