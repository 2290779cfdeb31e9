"""Fusion rules: the receiver's side of a strategy, one function each.

A rule takes a `Fusion` and returns the model the receiver keeps, with the mean value of each
term of the objective it minimised.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.errors import DeffdError
from deffd_flower.fusion.calibration import CrossEntropy
from deffd_flower.fusion.package import Package
from deffd_flower.registry import Registry
from deffd_flower.training import Batch, Samples

Orders = Callable[[int, int], Iterator[Tensor]]


def by_index(index: int) -> torch.Generator:
    """Return a generator that knows no more than which received model it is for."""
    return torch.Generator().manual_seed(index)


@dataclass(frozen=True)
class Fusion:
    """All a rule may use.

    Attributes:
        own: The receiver's model; a rule may change it.
        received: Packages in arrival order.
        model_of: Builds a model from a package's state dict: of the receiver's architecture, unless
            the run has several and the package says that it is of another.
        batches: ``batches(epochs, index)`` yields the receiver's own samples, shuffled anew for
            each received model's index.
        samples: Training samples of the receiver.
        config: The run's keys.
        cross_entropy: The receiver's own, calibrated or not.
        held: The classes the receiver has samples of, bool [C]; ``None`` where nobody asks.
        everything: The receiver's training samples; a rule does without them if need be.
        orders: ``orders(epochs, index)`` yields which of them each of the ``batches`` holds.
        architecture: Which of the run's models the receiver has, as packages say it of theirs;
            ``None`` where there is but one.
        generators: ``generators(index)`` draws what a rule makes for each received model's index,
            such as adapters; keyed like the batches.
    """

    own: nn.Module
    received: Sequence[Package]
    model_of: Callable[[Package], nn.Module]
    batches: Callable[[int, int], Iterator[Batch]]
    samples: int
    config: RunConfig
    cross_entropy: CrossEntropy = functional.cross_entropy
    held: Tensor | None = None
    everything: Samples | None = None
    orders: Orders | None = None
    architecture: int | None = None
    generators: Callable[[int], torch.Generator] = by_index


FusionRule = Callable[[Fusion], tuple[nn.Module, dict[str, float]]]
fusion_rules: Registry[FusionRule] = Registry("fusion")


def check_architecture(rule: str, fused: nn.Module, own: nn.Module) -> None:
    """Refuse a model that the receiver could not load again.

    Args:
        rule: The rule that returned it, by name.
        fused: What it returned.
        own: A model of the receiver's architecture.

    Raises:
        DeffdError: A tensor has another name or shape than the receiver's.
    """
    found, expected = _shapes(fused), _shapes(own)
    for name in {**expected, **found}:
        if found.get(name) != expected.get(name):
            raise DeffdError(
                f"fusion rule {rule} returned a model of another architecture: {name} is "
                f"{found.get(name, 'missing')}, the receiver's {expected.get(name, 'missing')}"
            )


def _shapes(model: nn.Module) -> dict[str, str]:
    return {name: str(list(tensor.shape)) for name, tensor in model.state_dict().items()}
