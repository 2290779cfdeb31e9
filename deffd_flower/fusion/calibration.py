"""Cross-entropies for a client that has few or no samples of some classes.

Plain cross-entropy pushes the logits of absent classes down on every sample, and the next client
finds them forgotten. Each calibration maps the logits z of class c, of which the client has n_c
training samples, before the softmax; pi_c = n_c / n, and C is the number of classes:

==============  =================================  ==============================================
name            logit                              source
==============  =================================  ==============================================
none            z                                  plain cross-entropy
prior           z + log(pi_c + 1e-4)               Menon et al. 2021; Ren et al. 2020
smoothed-prior  z + log((n_c + 1) / (n + C))       the same with Laplace's rule of succession
fedrs           z times ``fedrs-alpha`` if absent  Li and Zhan 2021 (FedRS)
fedlc           z - ``fedlc-tau`` n_c^(-1/4);      Zhang et al. 2022 (FedLC)
                absent classes left out
==============  =================================  ==============================================

They act on cross-entropy alone, in local training and in fusion: distillation compares raw logits,
and so does the global accuracy. They need no label counts but the client's own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.registry import Registry

CrossEntropy = Callable[[Tensor, Tensor], Tensor]
"""Takes logits [B, C] and class indices [B]; returns the mean loss of the batch, in nats."""

Calibration = Callable[[Tensor, RunConfig], CrossEntropy]
"""Takes a client's label counts [C] and the run's keys."""

calibrations: Registry[Calibration] = Registry("calibrate")

RARE = 1e-4


@dataclass(frozen=True)
class AdjustedCrossEntropy:
    """Cross-entropy of ``scale`` z + ``shift``.

    Attributes:
        scale: [C].
        shift: [C]; minus infinity leaves a class out of the softmax.
    """

    scale: Tensor
    shift: Tensor

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, logits [B, C] and labels [B]."""
        adjusted = torch.addcmul(self.shift, logits, self.scale)
        return functional.cross_entropy(adjusted, labels)


@calibrations.register("none")
def uncalibrated(counts: Tensor, config: RunConfig) -> CrossEntropy:
    """Return plain cross-entropy."""
    return functional.cross_entropy


@calibrations.register("prior")
def prior(counts: Tensor, config: RunConfig) -> CrossEntropy:
    """Add the log of the client's label distribution to the logits.

    The softmax then need not learn the distribution, and z itself is fit for balanced data.
    Source: Menon et al. 2021 (ICLR, "Long-tail learning via logit adjustment"), with tau = 1; Ren
    et al. 2020 (NeurIPS, "Balanced meta-softmax"). The small constant keeps an absent class
    finite.
    """
    return _shifted((counts / counts.sum() + RARE).log())


@calibrations.register("smoothed-prior")
def smoothed_prior(counts: Tensor, config: RunConfig) -> CrossEntropy:
    """Do as `prior` with one sample more of each class, so that an absent one is only rare.

    Source: Menon et al. 2021, with the prior estimated by Laplace's rule of succession.
    """
    return _shifted(((counts + 1) / (counts.sum() + len(counts))).log())


@calibrations.register("fedrs")
def restricted_softmax(counts: Tensor, config: RunConfig) -> CrossEntropy:
    """Scale the logits of absent classes by ``fedrs-alpha``, which slows their updates.

    Source: Li and Zhan 2021 (KDD, "FedRS"), whose experiments have alpha = 0.5 and 0.9.
    """
    scale = torch.where(counts > 0, 1.0, config.fedrs_alpha)
    return AdjustedCrossEntropy(scale, torch.zeros_like(scale))


@calibrations.register("fedlc")
def logit_margin(counts: Tensor, config: RunConfig) -> CrossEntropy:
    """Ask for a larger margin where a class is rarer: subtract ``fedlc-tau`` n_c^(-1/4).

    Source: Zhang et al. 2022 (ICML, "FedLC"). With n_c = 0 the margin is infinite: the class is
    left out of the softmax. Unlike in the paper's sum, the true class stays in the denominator,
    as in the public re-implementations; without it the loss has no lower bound.
    """
    return _shifted(-config.fedlc_tau * counts.float().pow(-0.25))


def _shifted(shift: Tensor) -> CrossEntropy:
    return AdjustedCrossEntropy(torch.ones_like(shift), shift)
