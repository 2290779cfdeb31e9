"""A feature loss that knows the labels: cross-features and their class means."""

from torch import Tensor
from torch.nn import functional

from deffd_flower.fusion.features.registry import feature_losses


@feature_losses.register("ccl")
def cross_feature(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared gap to the teacher's maps plus that to their class means.

    Source: Aketi and Roy 2024 (WACV, "Cross-feature contrastive loss for decentralized deep
    learning"), its model-variant and data-variant terms with equal weights (lambda, 0.1 there, is
    gamma here). There the class means are made of what neighbours send back; here nothing is sent
    back, and they are means over the batch of the received or own model's maps. The paper takes
    the last hidden layer only: name it in ``feature-layers``.
    """
    alike = (labels.unsqueeze(0) == labels.unsqueeze(1)).to(teacher.dtype)
    means = (alike @ teacher.flatten(1) / alike.sum(1, keepdim=True)).view(teacher.shape)
    return functional.mse_loss(student, teacher) + functional.mse_loss(student, means)
