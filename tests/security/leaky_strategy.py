"""Strategies whose fusion fails, each with an exception that quotes the models it failed on."""

from collections.abc import Callable

from torch import nn

from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.strategy.presets import GRAPH, Preset, strategies
from deffd_flower.transport import encode_tensors


def quoting_bytes(fusion: Fusion) -> Exception:
    return ValueError(encode_tensors(fusion.own.state_dict()))


def quoting_text(fusion: Fusion) -> Exception:
    received = fusion.received[0].encode()
    return RuntimeError(f"cannot fuse {received!r} with {fusion.own.state_dict()}")


def of_a_shape(fusion: Fusion) -> Exception:
    try:
        nn.Linear(3, 4).load_state_dict(dict(fusion.received[0].model))
    except RuntimeError as problem:
        return problem
    raise AssertionError("a model of another architecture was loaded")


KINDS: dict[str, Callable[[Fusion], Exception]] = {
    "bytes": quoting_bytes,
    "text": quoting_text,
    "shape": of_a_shape,
}


def _register(name: str, quoting: Callable[[Fusion], Exception]) -> None:
    @fusion_rules.register(f"leaky-{name}")
    def fail(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
        raise quoting(fusion)

    @strategies.register(f"leaky-{name}")
    def leaky() -> Preset:
        return Preset("pairs", f"leaky-{name}", GRAPH)


for _name, _quoting in KINDS.items():
    _register(_name, _quoting)
