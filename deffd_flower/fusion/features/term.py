"""The feature term of one student and one teacher: a loss for each pair of layers."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import torch
from torch import Tensor, nn

from deffd_flower.fusion.features.adapter import Adapter
from deffd_flower.fusion.features.depth import matched
from deffd_flower.fusion.features.registry import FeatureLoss, takes_any_shapes


class FeatureTerm(nn.Module):
    """Sums a feature loss over the `matched` pairs of layers, and holds what it trains.

    Its parameters belong into the student's optimiser. They live as long as the fusion of one
    received model: they fit one student and one teacher, and are neither sent nor kept.

    Args:
        loss: A registered loss: a function, or an ``nn.Module`` class to be made for each pair
            of layers.
        student: Shapes of the student's maps of one sample, in layer order; needed by a class, and
            where a function needs an `Adapter`.
        teacher: Shapes of the teacher's.
        generator: Draws the first weights of what is trained.

    Raises:
        RequestError: Maps cannot be made alike; the shapes are told.
    """

    def __init__(
        self,
        loss: FeatureLoss,
        student: Sequence[torch.Size] = (),
        teacher: Sequence[torch.Size] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleList()
        self._losses: Iterable[Callable[..., Tensor]] = []
        if student:
            layers = matched(len(student), len(teacher))
            pairs = [(student[ours], teacher[theirs]) for ours, theirs in layers]
            losses = [_fitted(loss, *shapes, generator) for shapes in pairs]
            made = [each for each in losses if isinstance(each, nn.Module) and each is not loss]
            self.trained.extend(made)
            self._losses = losses
        elif not isinstance(loss, type):
            self._losses = repeat(loss)
        self._wants_labels = "labels" in _parameters(getattr(loss, "forward", loss))

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], labels: Tensor
    ) -> Tensor:
        """Return the sum over the pairs, in float32 whatever the models compute in.

        Args:
            student: Maps [B, ...] by layer.
            teacher: The same, detached.
            labels: Class indices [B].
        """
        labelled = {"labels": labels} if self._wants_labels else {}
        pairs = matched(len(student), len(teacher))
        with torch.autocast(labels.device.type, enabled=False):
            gaps = [
                loss(student[ours], teacher[theirs], **labelled)
                for (ours, theirs), loss in zip(pairs, self._losses, strict=False)
            ]
        return torch.stack(gaps).sum()


class _Adapted(nn.Module):
    """A function of equal shapes, for maps of different ones."""

    def __init__(self, loss: Callable[..., Tensor], adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter
        self._loss = loss

    def forward(self, student: Tensor, teacher: Tensor, **labelled: Tensor) -> Tensor:
        """Return the loss of two maps."""
        return self._loss(*self.adapter(student, teacher), **labelled)


def _fitted(
    loss: FeatureLoss,
    student: torch.Size,
    teacher: torch.Size,
    generator: torch.Generator | None,
) -> Callable[..., Tensor]:
    """Return the loss for one pair of layers."""
    if isinstance(loss, type):
        drawn = {"generator": generator} if "generator" in _parameters(loss) else {}
        made: nn.Module = loss(student, teacher, **drawn)
        return made
    if student == teacher or takes_any_shapes(loss):
        return loss
    return _Adapted(loss, Adapter(student, teacher, generator))


def _parameters(function: Callable[..., object]) -> Iterable[str]:
    return inspect.signature(function).parameters
