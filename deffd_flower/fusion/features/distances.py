"""Feature losses that compare a sample's maps element by element."""

from torch import Tensor
from torch.nn import functional

from deffd_flower.fusion.features.registry import feature_losses
from deffd_flower.fusion.features.rows import EuclideanDistance, row_pairs


@feature_losses.register("mse")
def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared gap over all elements."""
    return functional.mse_loss(student, teacher)


@feature_losses.register("l2")
def euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Euclidean distance of each sample's maps, averaged over the batch."""
    distances: Tensor = EuclideanDistance.apply(student, teacher)
    return distances.mean()


@feature_losses.register("l2-sq")
def squared_euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each sample's maps, averaged over the batch."""
    return (student - teacher).square().sum() / len(student)


@feature_losses.register("l2-norm")
def normalised_euclidean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of the maps scaled to unit length, averaged over the batch."""
    ours, theirs = row_pairs(student, teacher)
    gap = functional.normalize(ours) - functional.normalize(theirs)
    return gap.square().sum() / len(student)


@feature_losses.register("cos")
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Return one minus the cosine similarity of each sample's maps, averaged over the batch."""
    ours, theirs = row_pairs(student, teacher)
    return 1 - functional.cosine_similarity(ours, theirs).mean()
