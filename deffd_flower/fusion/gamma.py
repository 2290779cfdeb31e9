"""The weight of the feature term: given, or found on the first batches."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deffd_flower.config import RunConfig

FIRST_BATCHES = 5

Gamma = Callable[[Mapping[str, Tensor]], float | Tensor]
"""Takes the terms ``ce`` and ``feature`` of a batch; returns the weight to use for it."""


def gamma_of(config: RunConfig) -> Gamma:
    """Return what gives one student's gamma, batch by batch."""
    if config.gamma == "auto":
        return AutoGamma(config.gamma_share * config.ce_weight)
    given = float(config.gamma)
    return lambda terms: given


class AutoGamma:
    """Scales the feature term to a share of the cross-entropy.

    Gamma is share times the sum of the cross-entropies over the sum of the feature terms, over
    the first five batches of a fusion, as far as they have come; then it stays. So every feature
    loss counts alike at the start, whatever its scale, and shrinks as the maps come to agree. The
    default share of 1 is about what the paper's gamma of 0.01 gives ``l2``: on Fashion-MNIST the
    weighted feature term was 0.9 times the cross-entropy, 1.4 times with ``calibrate=prior``
    (means over the fusions of round 20, one seed).

    Args:
        share: Of the weighted cross-entropy.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._batches = 0
        self._entropy = self._feature = self._gamma = torch.zeros(())

    def __call__(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return gamma, a scalar on the device of the terms."""
        if self._batches < FIRST_BATCHES:
            self._batches += 1
            self._entropy = self._entropy.to(terms["ce"].device) + terms["ce"].detach()
            self._feature = self._feature.to(terms["ce"].device) + terms["feature"].detach()
            ratio = self.share * self._entropy / self._feature
            self._gamma = torch.where(self._feature > 0, ratio, 0.0)
        return self._gamma
