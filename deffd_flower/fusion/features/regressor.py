"""A feature loss with something to train: FitNets' hint with its regressor."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.fusion.features.pooling import to_smaller
from deffd_flower.fusion.features.registry import feature_losses


@feature_losses.register("fitnet")
class Hint(nn.Module):
    """Mean squared gap between the teacher's maps and what a regressor makes of the student's.

    The regressor is a 1x1 convolution, or a linear map between fully connected layers. It starts
    as the identity, as far as the channels go, so that between equal architectures the loss starts
    as ``mse``. Source: Romero et al. 2015 (ICLR, "FitNets"), with the mean over elements
    that later code bases use, and trained with the student instead of in a stage of its own.

    Args:
        student: Shape of the student's map of one sample, [C, H, W] or [D].
        teacher: Shape of the teacher's.
    """

    def __init__(self, student: torch.Size, teacher: torch.Size) -> None:
        super().__init__()
        weight = torch.eye(teacher[0], student[0])
        self.weight = nn.Parameter(weight.view(*weight.shape, *[1] * (len(student) - 1)))
        self.bias = nn.Parameter(torch.zeros(teacher[0]))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two maps, [B, C, H, W] or [B, D] each."""
        if student.dim() == 2:
            return functional.mse_loss(functional.linear(student, self.weight, self.bias), teacher)
        ours, theirs = to_smaller(student, teacher)
        return functional.mse_loss(functional.conv2d(ours, self.weight, self.bias), theirs)
