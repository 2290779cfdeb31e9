"""The strategies by name: a pairing plan plus a fusion rule, and the keys they read.

Def-KT is Def-FD with one term of its objective at weight zero; hand-off is Def-KT with another.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from deffd_flower.config import DEFAULTS, RunConfig, Value
from deffd_flower.errors import RequestError
from deffd_flower.registry import Registry


@dataclass(frozen=True)
class Preset:
    """One strategy.

    Attributes:
        plan: Name of a pairing plan; empty for a central server.
        fusion: Name of a fusion rule, or dotted path; empty when nothing is received.
        reads: The keys of `OPTIONS` that mean something to it.
        fixed: Keys it sets; nothing else may be given for them.
        mixes: Whether clients may have different architectures: each ends a fusion with a model of
            its own one.
    """

    plan: str
    fusion: str
    reads: frozenset[str]
    fixed: Mapping[str, Value] = field(default_factory=dict)
    mixes: bool = False


GRAPH = frozenset({"topology", "topology-degree", "topology-probability", "pairs", "pairing-seed"})
PARTNER = frozenset({"partner"})
LEARNING = frozenset({"ce-weight", "fusion-epochs"})
LOGITS = frozenset({"kd-weight", "kd-loss", "dkd-beta", "temperature", "teacher-weight"})
MUTUAL = frozenset({"receiver-keeps", "fusion-update", "teacher", "anchor"})
FEATURES = frozenset({"feature-loss", "gamma", "gamma-share", "feature-layers"})
SEGMENTS = frozenset({"segments", "segment-peers"})
AVERAGING = frozenset({"average-epochs"})
OPTIONS = GRAPH | PARTNER | LEARNING | LOGITS | MUTUAL | FEATURES | SEGMENTS | AVERAGING

RECOMMENDED: Mapping[str, Value] = {"calibrate": "prior", "lr": 0.02, "lr-schedule": "cosine"}
"""What makes `def_fd_plus` of `average_then_distil`."""

strategies: Registry[Callable[[], Preset]] = Registry("strategy")


@strategies.register("def-fd")
def def_fd() -> Preset:
    """Distil logits and feature maps (Yang and Lee; the paper of this project)."""
    reads = GRAPH | PARTNER | LEARNING | LOGITS | MUTUAL | FEATURES
    return Preset("pairs", "distil", reads, mixes=True)


@strategies.register("def-kt")
def def_kt() -> Preset:
    """Distil logits only (Li, Li, Varshney 2021)."""
    reads = GRAPH | PARTNER | LEARNING | LOGITS | MUTUAL
    return Preset("pairs", "distil", reads, {"gamma": 0.0}, mixes=True)


@strategies.register("hand-off")
def hand_off() -> Preset:
    """Keep the received model and train it on: no distillation."""
    return Preset("pairs", "distil", GRAPH | PARTNER | LEARNING, {"gamma": 0.0, "kd-weight": 0.0})


@strategies.register("average-then-distil")
def average_then_distil() -> Preset:
    """Average the two models of a pair, then teach the mean by both."""
    return Preset("pairs", "average-then-distil", GRAPH | PARTNER | LEARNING | LOGITS | FEATURES)


@strategies.register("def-fd-plus")
def def_fd_plus() -> Preset:
    """Def-FD as we recommend it: from the mean, `calibrate=prior lr=0.02 lr-schedule=cosine`."""
    return replace(average_then_distil(), fixed=RECOMMENDED)


@strategies.register("full-avg")
def full_avg() -> Preset:
    """Average the two models of a pair."""
    return Preset("pairs", "pair-mean", GRAPH | PARTNER | AVERAGING)


@strategies.register("combo")
def combo() -> Preset:
    """Average segment by segment, each pulled from another peer (Hu, Jiang, Wang 2019)."""
    return Preset("segments", "segment-mean", GRAPH | SEGMENTS | AVERAGING)


@strategies.register("local")
def local() -> Preset:
    """The senders train and send nothing: what a client reaches alone."""
    return Preset("nobody", "", GRAPH, mixes=True)


@strategies.register("fedavg")
def fedavg() -> Preset:
    """Flower's FedAvg with a central model, as the reference; the server reads the models."""
    return Preset("", "", frozenset())


def apply_preset(config: RunConfig, typed: Collection[str] = ()) -> RunConfig:
    """Return the config with its strategy's fixed keys set.

    Args:
        config: The keys of a run.
        typed: Those that were typed for this very run: of these, no default is overruled either.

    Raises:
        RequestError: The strategy is unknown, or a key was given that it would ignore.
    """
    preset = strategies.get(config.strategy)()
    given = config.values()
    for key, value in sorted(preset.fixed.items()):
        if given[key] != value and (key in typed or given[key] != DEFAULTS[key]):
            advice = f"strategy={config.strategy} sets it to {value}; leave it out"
            raise RequestError(key, given[key], advice)
    for key in sorted(OPTIONS - preset.reads - preset.fixed.keys()):
        if given[key] != DEFAULTS[key]:
            advice = f"strategy={config.strategy} does not use it; leave it out"
            raise RequestError(key, given[key], advice)
    return config.replace(**{key.replace("-", "_"): value for key, value in preset.fixed.items()})
