"""Distances between feature maps.

A feature loss takes one layer's maps of student and teacher, both [B, ...] of equal shape, and
returns a scalar. With d = s - t flattened to [B, D]:

=======  =========================================  ==========================================
name     value                                      source
=======  =========================================  ==========================================
mse      mean of d^2 over all B x D elements        ``torch.nn.MSELoss``
l2       mean over the batch of ||d||_2             Def-FD's "L2", read per sample
l2-sq    mean over the batch of ||d||_2^2           FitNets hint loss (Romero et al. 2015), x2
l2-norm  mean of ||s/||s|| - t/||t|| ||_2^2         bounded by 4; equals 2 cos
cos      mean of 1 - cosine similarity              Def-FD's "COS"; bounded by 2
=======  =========================================  ==========================================

``mse``, ``l2`` and ``l2-sq`` point the same way and differ in scale: with D = 6272 and an RMS gap
of 0.3 they are 0.09, 23.8 and 565, so one gamma never fits all three.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from deffd_flower.registry import Registry

FeatureLoss = Callable[[Tensor, Tensor], Tensor]
feature_losses: Registry[FeatureLoss] = Registry("feature-loss")


@feature_losses.register("mse")
def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared gap over all elements."""
    return functional.mse_loss(student, teacher)


@feature_losses.register("l2")
def euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Euclidean distance of each sample's maps, averaged over the batch."""
    distances: Tensor = (student - teacher).flatten(1).norm(dim=1)
    return distances.mean()


@feature_losses.register("l2-sq")
def squared_euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each sample's maps, averaged over the batch."""
    return (student - teacher).square().sum() / len(student)


@feature_losses.register("l2-norm")
def normalised_euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of the maps scaled to unit length, averaged over the batch."""
    gap = functional.normalize(student.flatten(1)) - functional.normalize(teacher.flatten(1))
    return gap.square().sum() / len(student)


@feature_losses.register("cos")
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Return one minus the cosine similarity of each sample's maps, averaged over the batch."""
    return 1 - functional.cosine_similarity(student.flatten(1), teacher.flatten(1)).mean()
