"""What stands between maps of different shapes and a loss that needs equal ones."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.errors import RequestError
from deffd_flower.fusion.features.pooling import to_smaller

_COMPARABLE = {1, 3}


class Adapter(nn.Module):
    """Makes a student's map and a teacher's alike.

    * Of two convolutional maps [B, C, H, W], the larger is averaged to the height and width of the
      smaller.
    * A convolutional map that meets the output [B, D] of a fully connected layer is averaged over
      all its positions, to [B, C].
    * A student's map with other channels than the teacher's then goes through a 1x1 convolution,
      or a linear map where it has no positions (Romero et al. 2015, FitNets' regressor).

    The last is trained with the student, never sent, and forgotten after the fusion. Between equal
    numbers of channels it starts as the identity. Otherwise its weights are drawn from a normal
    distribution of variance 1 / (student's channels), so that what it makes of a map is about as
    large as the map.

    Args:
        student: Shape of the student's map of one sample, [C, H, W] or [D].
        teacher: Shape of the teacher's.
        generator: Draws the weights.
        always: Have weights between equal numbers of channels, too.

    Raises:
        RequestError: One of the maps has another number of dimensions; the shapes are told.
    """

    def __init__(
        self,
        student: torch.Size,
        teacher: torch.Size,
        generator: torch.Generator | None = None,
        *,
        always: bool = False,
    ) -> None:
        super().__init__()
        if not {len(student), len(teacher)} <= _COMPARABLE:
            advice = (
                f"cannot make a student's map {list(student)} and a teacher's {list(teacher)} "
                "alike; name layers with maps [channels, height, width] or [features] in "
                "feature-layers, or type feature-loss=sp"
            )
            raise RequestError("feature-loss", None, advice)
        self._flat = len(student) != len(teacher)
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if always or student[0] != teacher[0]:
            weight = _start(student[0], teacher[0], generator)
            positions = 0 if self._flat else len(student) - 1
            self.weight = nn.Parameter(weight.view(*weight.shape, *[1] * positions))
            self.bias = nn.Parameter(torch.zeros(teacher[0]))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's map, adapted, and the teacher's, in equal shapes."""
        if self._flat:
            student, teacher = (_over_positions(maps) for maps in (student, teacher))
        elif student.dim() == 4:
            student, teacher = to_smaller(student, teacher)
        if self.weight is None:
            return student, teacher
        if student.dim() == 2:
            return functional.linear(student, self.weight, self.bias), teacher
        return functional.conv2d(student, self.weight, self.bias), teacher


def _over_positions(maps: Tensor) -> Tensor:
    return maps.mean((2, 3)) if maps.dim() == 4 else maps


def _start(student: int, teacher: int, generator: torch.Generator | None) -> Tensor:
    """Return the first weights, [teacher's channels, student's channels]."""
    if student == teacher:
        return torch.eye(teacher)
    return torch.randn(teacher, student, generator=generator) / math.sqrt(student)
