"""Maps as one row of numbers per sample, and the distance of such rows, without copying them."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def as_rows(maps: Tensor) -> Tensor:
    """Return maps [B, ...] as [B, D], in the order in which they lie in memory.

    PyTorch's own ``flatten(1)`` copies channels-last maps, element by element, into another order.
    """
    if maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        maps = maps.permute(0, 2, 3, 1)
    return maps.flatten(1)


def row_pairs(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps as rows of which equal places belong together."""
    if student.stride() == teacher.stride():
        return as_rows(student), as_rows(teacher)
    return student.flatten(1), teacher.flatten(1)


class EuclideanDistance(torch.autograd.Function):
    """The Euclidean distance of each sample's maps: two [B, ...] to [B].

    To the bit ``as_rows(a - b).norm(dim=1)``, with a gradient that passes over the maps twice
    instead of five times. Where the distance is zero, so is the gradient.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """Return ||a - b||."""
        gap = a - b
        distance: Tensor = torch.linalg.vector_norm(as_rows(gap), dim=1)
        ctx.save_for_backward(gap, distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return (a - b) / ||a - b|| and its opposite, times the gradient."""
        gap, distance = ctx.saved_tensors
        each = (-1, *[1] * (gap.dim() - 1))
        # Where the distance is zero, so is the gap.
        direction = gap / distance.masked_fill(distance == 0, 1).view(each)
        towards_a = direction.mul_(gradient.view(each))
        return towards_a, -towards_a if ctx.needs_input_grad[1] else None
