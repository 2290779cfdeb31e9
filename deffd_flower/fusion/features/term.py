"""The feature term of one student and one teacher: a loss for each pair of layers."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import torch
from torch import Tensor, nn

from deffd_flower.fusion.features.registry import FeatureLoss


class FeatureTerm(nn.Module):
    """Sums a feature loss over pairs of layers, and holds what it trains.

    Its parameters belong into the student's optimiser. They live as long as the fusion of one
    received model: they fit one student and one teacher, and are neither sent nor kept.

    Args:
        loss: A registered loss: a function, or an ``nn.Module`` class to be made for each pair
            of layers.
        student: Shapes of the student's maps of one sample, in layer order; needed by a class.
        teacher: Shapes of the teacher's.
    """

    def __init__(
        self,
        loss: FeatureLoss,
        student: Sequence[torch.Size] = (),
        teacher: Sequence[torch.Size] = (),
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleList()
        self._losses: Iterable[Callable[..., Tensor]]
        if isinstance(loss, type):
            self.trained.extend(loss(*shapes) for shapes in zip(student, teacher, strict=True))
            self._losses = self.trained
        else:
            self._losses = repeat(loss)
        parameters = inspect.signature(getattr(loss, "forward", loss)).parameters
        self._wants_labels = "labels" in parameters

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], labels: Tensor
    ) -> Tensor:
        """Return the sum over the layers, in float32 whatever the models compute in.

        Args:
            student: Maps [B, ...] by layer.
            teacher: The same, detached.
            labels: Class indices [B].
        """
        labelled = {"labels": labels} if self._wants_labels else {}
        with torch.autocast(labels.device.type, enabled=False):
            gaps = [
                loss(ours, theirs, **labelled)
                for (ours, theirs), loss in zip(
                    zip(student, teacher, strict=True), self._losses, strict=False
                )
            ]
        return torch.stack(gaps).sum()
