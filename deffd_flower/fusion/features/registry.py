"""The registry of feature losses, apart from them so that each file can import it."""

from collections.abc import Callable

from torch import Tensor, nn

from deffd_flower.registry import Registry

FeatureLoss = Callable[..., Tensor] | type[nn.Module]
"""A function of (student's maps, teacher's maps[, labels]), or an ``nn.Module`` class of such."""

feature_losses: Registry[FeatureLoss] = Registry("feature-loss")
