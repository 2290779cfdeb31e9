"""The registry of feature losses, apart from them so that each file can import it."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from deffd_flower.registry import Registry

FeatureLoss = Callable[..., Tensor] | type[nn.Module]
"""A function of (student's maps, teacher's maps[, labels]), or an ``nn.Module`` class of such."""

feature_losses: Registry[FeatureLoss] = Registry("feature-loss")

L = TypeVar("L", bound=FeatureLoss)

_DECLARED = "takes_any_shapes"


def any_shapes(loss: L) -> L:
    """Declare that a loss compares maps of different shapes as they are.

    Without it, maps of different shapes come to a function made alike, by an `Adapter`. A class is
    told the shapes when it is made, and gets the maps as they are.
    """
    setattr(loss, _DECLARED, True)
    return loss


def takes_any_shapes(loss: FeatureLoss) -> bool:
    """Say whether a loss wants its maps as they are, whatever their shapes."""
    return isinstance(loss, type) or bool(getattr(loss, _DECLARED, False))
