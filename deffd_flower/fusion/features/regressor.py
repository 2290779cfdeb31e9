"""A feature loss with something to train: FitNets' hint with its regressor."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.fusion.features.adapter import Adapter
from deffd_flower.fusion.features.registry import feature_losses


@feature_losses.register("fitnet")
class Hint(nn.Module):
    """Mean squared gap between the teacher's maps and what a regressor makes of the student's.

    The regressor is an `Adapter`: a 1x1 convolution, or a linear map between fully connected
    layers. Between equal architectures, where other losses have none, it starts as the identity,
    so that the loss starts as ``mse``. Source: Romero et al. 2015 (ICLR, "FitNets"), with the mean
    over elements that later code bases use, and trained with the student instead of in a stage of
    its own.

    Args:
        student: Shape of the student's map of one sample, [C, H, W] or [D].
        teacher: Shape of the teacher's.
        generator: Draws the regressor's weights between different numbers of channels.
    """

    def __init__(
        self,
        student: torch.Size,
        teacher: torch.Size,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.adapter = Adapter(student, teacher, generator, always=True)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two maps, [B, C, H, W] or [B, D] each."""
        return functional.mse_loss(*self.adapter(student, teacher))
