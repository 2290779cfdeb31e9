"""Checks that need more than one key, before anything is written or sent."""

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

from deffd_flower.config import DEFAULTS, RunConfig, Value, parse
from deffd_flower.data.datasets import datasets
from deffd_flower.errors import RequestError
from deffd_flower.strategy.presets import apply_preset
from deffd_flower.strategy.topology import topology


def resolve(request: Mapping[str, object]) -> RunConfig:
    """Turn a request into the config of a run, with every default that depends on others set.

    Needs no PyTorch, so that the server can do it.

    Raises:
        RequestError: The first thing that is wrong with it.
    """
    config = parse(request)
    _import_plugins(config)
    config = apply_preset(config)
    _check_traffic(config)
    return _check_data(config)


def resolved(run_config: Mapping[str, Value]) -> RunConfig:
    """Return `resolve` of a Flower run config, which comes anew with every message."""
    return _resolved(tuple(sorted(run_config.items())))


@lru_cache(maxsize=4)
def _resolved(run_config: tuple[tuple[str, Value], ...]) -> RunConfig:
    return resolve(dict(run_config))


def _import_plugins(config: RunConfig) -> None:
    for name in filter(None, (name.strip() for name in config.plugins.split(","))):
        try:
            import_module(name)
        except ImportError as problem:
            raise RequestError("plugins", name, f"cannot be imported ({problem})") from problem


def _check_traffic(config: RunConfig) -> None:
    if config.pairs > config.clients // 2:
        advice = f"{config.clients} clients form at most {config.clients // 2} pairs"
        raise RequestError("pairs", config.pairs, advice)
    topology(config)
    if config.teacher == "frozen" and config.receiver_keeps == "average":
        advice = "a frozen teacher learns nothing to average; receiver-keeps=received or own"
        raise RequestError("receiver-keeps", "average", advice)
    if config.teacher == "frozen" and config.fusion_update == "alternating":
        raise RequestError("fusion-update", "alternating", "teacher=frozen has one model to step")


# What each way of partitioning does not read; partitioners of flwr-datasets bring their own.
_UNREAD = {"classes": ("partition-options",), "iid": ("partition-options", "class-alpha")}
_UNREAD["iid"] += ("classes-per-client",)
_UNREAD["dirichlet"] = ("partition-options", "classes-per-client")
_UNREAD_BY_OTHERS = ("class-alpha", "classes-per-client")


def _check_data(config: RunConfig) -> RunConfig:
    if config.dataset == "auto":
        raise RequestError("dataset", "auto", "only deffd run can look around; name a data set")
    spec = datasets.get(config.dataset)
    given = config.values()
    for key in _UNREAD.get(config.partition, _UNREAD_BY_OTHERS):
        if given[key] != DEFAULTS[key]:
            advice = f"partition={config.partition} does not use it; leave it out"
            raise RequestError(key, given[key], advice)
    if config.partition == "classes" and config.classes_per_client > spec.classes:
        advice = f"must be at most {spec.classes}, the classes of {config.dataset}"
        raise RequestError("classes-per-client", config.classes_per_client, advice)
    if config.samples_per_client == "auto":
        return config.replace(samples_per_client=spec.samples_per_client)
    return config
