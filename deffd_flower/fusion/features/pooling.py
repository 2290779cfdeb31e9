"""Making maps of different height and width comparable."""

from torch import Tensor
from torch.nn import functional


def to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps [B, C, H, W] to the height and width of the smaller."""
    height = min(student.shape[2], teacher.shape[2])
    width = min(student.shape[3], teacher.shape[3])
    ours, theirs = (
        maps
        if maps.shape[2:] == (height, width)
        else functional.adaptive_avg_pool2d(maps, (height, width))
        for maps in (student, teacher)
    )
    return ours, theirs
