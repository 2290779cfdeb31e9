"""Fusion rules: the receiver's side of a strategy, one function each.

A rule takes a `Fusion` and returns the model the receiver keeps, with the mean value of each
term of the objective it minimised.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.fusion.calibration import CrossEntropy
from deffd_flower.fusion.package import Package
from deffd_flower.registry import Registry
from deffd_flower.training import Batch, Samples

Orders = Callable[[int, int], Iterator[Tensor]]


@dataclass(frozen=True)
class Fusion:
    """All a rule may use.

    Attributes:
        own: The receiver's model; a rule may change it.
        received: Packages in arrival order.
        model_of: Builds a model of the receiver's architecture from a package's state dict.
        batches: ``batches(epochs, index)`` yields the receiver's own samples, shuffled anew for
            each received model's index.
        samples: Training samples of the receiver.
        config: The run's keys.
        cross_entropy: The receiver's own, calibrated or not.
        held: The classes the receiver has samples of, bool [C]; ``None`` where nobody asks.
        everything: The receiver's training samples; a rule does without them if need be.
        orders: ``orders(epochs, index)`` yields which of them each of the ``batches`` holds.
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


FusionRule = Callable[[Fusion], tuple[nn.Module, dict[str, float]]]
fusion_rules: Registry[FusionRule] = Registry("fusion")
