"""Checks that need more than one key, before anything is written or sent."""

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from importlib import import_module

from deffd_flower.config import DEFAULTS, FLOWER_SPELLINGS, RunConfig, Value, parse
from deffd_flower.data.datasets import datasets
from deffd_flower.data.partition import options_read
from deffd_flower.data.partitioners import OPTIONS
from deffd_flower.errors import RequestError
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.strategy.dispatch import suites_in_play
from deffd_flower.strategy.partners import partner_of
from deffd_flower.strategy.presets import apply_preset, strategies
from deffd_flower.strategy.topology import topology
from deffd_flower.transport.rekeying import RekeyPolicy
from deffd_flower.transport.suites import suites


def resolve(request: Mapping[str, object], typed: Collection[str] = ()) -> RunConfig:
    """Turn a request into the config of a run, with every default that depends on others set.

    Needs no PyTorch, so that the server can do it.

    Args:
        request: Keys and values.
        typed: The keys that were typed for this very run, and not taken from a file that many
            share, or from Flower, which hands on every key.

    Raises:
        RequestError: The first thing that is wrong with it.
    """
    config = parse(request)
    _import_plugins(config)
    config = apply_preset(config, {FLOWER_SPELLINGS.get(key, key) for key in typed})
    _check_traffic(config)
    _check_fusion(config)
    _check_models(config)
    _check_keys(config)
    _check_partner(config)
    _check_evaluation(config)
    _check_engine(config)
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
    _check_unread(config)
    topology(config)
    if config.teacher == "frozen" and config.receiver_keeps == "average":
        advice = "a frozen teacher learns nothing to average; receiver-keeps=received or own"
        raise RequestError("receiver-keeps", "average", advice)
    if config.teacher == "frozen" and config.fusion_update == "alternating":
        raise RequestError("fusion-update", "alternating", "teacher=frozen has one model to step")


_LOGITS = ("kd-loss", "dkd-beta", "teacher-weight")
_FEATURES = ("feature-loss", "feature-layers", "gamma-share")
# What has no effect where nothing is distilled: fusion then hands one model on as it is.
_DISTILLATION = (
    *("ce-weight", "kd-weight", "temperature", "gamma", "anchor", "fusion-update", "teacher"),
    *_LOGITS,
    *_FEATURES,
)
_DISTILLING = ("distil", "average-then-distil")


def _check_fusion(config: RunConfig) -> None:
    if strategies.get(config.strategy)().fusion not in _DISTILLING:
        return
    if config.fusion_epochs == 0:
        _refuse_given(config, _DISTILLATION, "fusion-epochs=0 does not use it; leave it out")
        return
    if config.ce_weight == config.kd_weight == config.gamma == config.anchor == 0:
        raise RequestError("ce-weight", 0.0, "is the last term that is left; give it some weight")
    if config.kd_weight == config.gamma == 0 and config.receiver_keeps != "average":
        advice = "with kd-weight=0 and gamma=0 the two models do not meet; leave it out"
        _refuse_given(config, ("fusion-update", "teacher"), advice)
    if config.gamma == 0:
        _refuse_given(config, _FEATURES, "gamma=0 does not use it; leave it out")
    if config.gamma == "auto" and config.ce_weight == 0:
        advice = "scales the feature term to the cross-entropy, which ce-weight=0 leaves out"
        raise RequestError("gamma", "auto", advice)
    if config.kd_weight == 0:
        temperature = () if config.anchor else ("temperature",)
        advice = "kd-weight=0 does not use it; leave it out"
        _refuse_given(config, (*_LOGITS, *temperature), advice)


def _check_models(config: RunConfig) -> None:
    cast = config.cast
    needed = max(cast.firsts()) + 1
    if config.clients < needed:
        last = cast.name(needed - 1)
        advice = f"leaves no client for {last}; model={config.model} needs {needed} or more"
        raise RequestError("clients", config.clients, advice)
    if not cast.several:
        return
    if not strategies.get(config.strategy)().mixes:
        known = [name for name in strategies.names() if strategies.get(name)().mixes]
        advice = f"strategy={config.strategy} is for one architecture; name one, or type strategy="
        raise RequestError("model", config.model, f"{advice}{' or '.join(known)}")
    if config.consensus_distance:
        advice = "weights of different architectures have no distance; leave it out"
        raise RequestError("consensus-distance", "true", advice)
    if config.clients_at_once > 1:
        advice = "only models of one architecture train together; leave it out"
        raise RequestError("batched-clients", config.batched_clients, advice)
    if strategies.get(config.strategy)().fusion in _DISTILLING:
        _check_teaching(config)


def _check_teaching(config: RunConfig) -> None:
    """Have receivers learn something from models that they cannot keep."""
    if config.receiver_keeps == "average":
        advice = "different architectures have no mean; type receiver-keeps=received or own"
        raise RequestError("receiver-keeps", "average", advice)
    if config.fusion_epochs == 0:
        advice = "leaves models as they came, and other architectures are not kept; type 1 or more"
        raise RequestError("fusion-epochs", 0, advice)
    if config.kd_weight == config.gamma == config.anchor == 0:
        advice = "leaves nothing to learn from other architectures; give it, gamma or anchor weight"
        raise RequestError("kd-weight", 0.0, advice)


_SIMULATED_QKD = (
    *("link", "qkd-network", "eve", "abort-qber", "pool-capacity", "key-max-age-s"),
    *("authentication-bits", "head-start-s"),
)
_QKD = ("key-source", "on-starved", "max-wait-s", *_SIMULATED_QKD)
_REKEY = ("rekey-messages", "rekey-bytes", "rekey-seconds")

# The keys that a value of another key does without.
_WITHOUT = {
    ("topology", "random-regular"): ("topology-probability",),
    ("topology", "small-world"): (),
    ("topology", "erdos-renyi"): ("topology-degree",),
    ("topology", ""): ("topology-degree", "topology-probability"),
    ("calibrate", "fedrs"): ("fedlc-tau",),
    ("calibrate", "fedlc"): ("fedrs-alpha",),
    ("calibrate", ""): ("fedrs-alpha", "fedlc-tau"),
    ("kd-loss", "dkd"): (),
    ("kd-loss", ""): ("dkd-beta",),
    ("gamma", "auto"): (),
    ("gamma", ""): ("gamma-share",),
    ("key-source", "etsi014"): (*_SIMULATED_QKD, "round-compute-s", "transfer-mbps"),
    ("key-source", ""): (),
    ("on-starved", "wait"): (),
    ("on-starved", ""): ("max-wait-s",),
    ("strategy", "fedavg"): ("common-init",),
    ("strategy", "local"): ("transfer-mbps", "suite", "min-suite", *_QKD, *_REKEY),
    ("strategy", ""): (),
    ("evaluate-on", "test"): ("validation-samples",),
    ("evaluate-on", ""): ("test-samples",),
}


def _check_unread(config: RunConfig) -> None:
    given = config.values()
    for key, unread in _unread(config).items():
        _refuse_given(config, unread, f"{key}={given[key]} does not use it; leave it out")


def _unread(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Return, by key, the other keys that its value does without."""
    given = config.values()
    keys = dict.fromkeys(key for key, _ in _WITHOUT)
    return {key: _WITHOUT.get((key, str(given[key])), _WITHOUT[key, ""]) for key in keys}


def unread_keys(config: RunConfig) -> frozenset[str]:
    """Return the keys that mean nothing with the values of others, such as links without QKD."""
    unread = {key for keys in _unread(config).values() for key in keys}
    without_key = not suites.get(config.suite)().key_bits(1)
    return frozenset(unread | {*(_QKD if without_key else ())})


def _check_keys(config: RunConfig) -> None:
    suite = suites.get(config.suite)()
    if config.strategy == "fedavg" and config.suite != "none":
        advice = "the server of fedavg reads the models; say so with suite=none"
        raise RequestError("suite", config.suite, advice)
    if suites.get(config.min_suite or config.suite).strength > suite.strength:
        advice = f"is stronger than suite={config.suite}"
        raise RequestError("min-suite", config.min_suite, advice)
    if config.min_suite == "none" != config.suite:
        advice = "would let the server make models up; say suite=none if that is wanted"
        raise RequestError("min-suite", "none", advice)
    if config.on_starved == "degrade" and len(suites_in_play(config)) == 1:
        advice = f"needs a min-suite weaker than suite={config.suite}"
        raise RequestError("on-starved", "degrade", advice)
    if not suite.key_bits(1):
        _refuse_given(config, _QKD, f"suite={config.suite} uses no QKD key; leave it out")
    RekeyPolicy(config.rekey_messages, config.rekey_bytes, config.rekey_seconds)
    if config.rekey_messages == 1:
        advice = "rekey-messages=1 takes a fresh key for each model; leave it out"
        _refuse_given(config, ("rekey-bytes", "rekey-seconds"), advice)
    if not suite.reuses_keys:
        _refuse_given(config, _REKEY, f"suite={config.suite} uses no key twice; leave it out")
    if config.key_source == "embedded":
        controller_of(config)


def _check_partner(config: RunConfig) -> None:
    if not partner_of(config).takes_key:
        return
    if config.key_source != "embedded":
        advice = f"what links hold is the key managers' affair with key-source={config.key_source}"
        raise RequestError("partner", config.partner, f"{advice}; take another rule")
    if not suites.get(config.suite)().key_bits(1):
        advice = f"goes by QKD key, and suite={config.suite} uses none; take another rule"
        raise RequestError("partner", config.partner, advice)


def _refuse_given(config: RunConfig, keys: Iterable[str], advice: str) -> None:
    given, fixed = config.values(), strategies.get(config.strategy)().fixed
    for key in keys:
        if given[key] not in (DEFAULTS[key], fixed.get(key, DEFAULTS[key])):
            raise RequestError(key, given[key], advice)


def _check_evaluation(config: RunConfig) -> None:
    if config.final_evaluations > config.evaluations:
        advice = (
            f"rounds={config.rounds} with eval-every={config.eval_every} are evaluated "
            f"{config.evaluations} times; type {config.evaluations} or less"
        )
        raise RequestError("final-evaluations", config.final_evaluations, advice)


def _check_engine(config: RunConfig) -> None:
    if config.clients_at_once == 1:
        return
    if config.workers > 1:
        advice = "takes one process; leave it out, or batched-clients"
        raise RequestError("workers", config.workers, advice)
    if config.strategy == "fedavg":
        advice = "strategy=fedavg trains one client after the other; leave it out"
        raise RequestError("batched-clients", config.batched_clients, advice)


def _check_data(config: RunConfig) -> RunConfig:
    if config.dataset == "auto":
        raise RequestError("dataset", "auto", "only deffd run can look around; name a data set")
    spec = datasets.get(config.dataset)
    unread = sorted(OPTIONS - options_read(config.partition))
    own = ", or declare it with @reads" if ":" in config.partition else ""
    advice = f"partition={config.partition} does not use it; leave it out{own}"
    _refuse_given(config, unread, advice)
    if config.partition == "classes" and config.classes_per_client > spec.classes:
        advice = f"must be at most {spec.classes}, the classes of {config.dataset}"
        raise RequestError("classes-per-client", config.classes_per_client, advice)
    if config.samples_per_client == "auto":
        return config.replace(samples_per_client=spec.samples_per_client)
    return config
