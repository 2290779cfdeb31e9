"""The parties of a distillation: models that predict, and models that learn."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deffd_flower.fusion.objective import Objective, Prediction
from deffd_flower.fusion.rules import Fusion
from deffd_flower.models.taps import Tap, feature_layers
from deffd_flower.training import sgd


class Teacher:
    """A model that is listened to.

    Args:
        model: The model.
        held: The classes its owner has samples of, bool [C], or ``None``.
        fusion: The fusion it takes part in.
    """

    def __init__(self, model: nn.Module, held: Tensor | None, fusion: Fusion) -> None:
        self.model = model
        self.held = held if held is None else held.to(next(model.parameters()).device)
        config = fusion.config
        layers = feature_layers(model, config.feature_layers) if config.gamma != 0 else []
        self.tap = Tap(model, layers)

    def predict(self, images: Tensor) -> Prediction:
        """Return what the model says of images [B, C, H, W], inside the tap's ``with`` block."""
        logits, features = self.tap(images)
        return Prediction(logits.float(), [map_.float() for map_ in features], self.held)


class Learner(Teacher):
    """A model that learns, with its own optimiser.

    Args:
        model: The model.
        held: The classes its owner has samples of, bool [C], or ``None``.
        fusion: The fusion it takes part in.
        anchor: A model to hold on to: copied, and never stepped.
    """

    def __init__(
        self,
        model: nn.Module,
        held: Tensor | None,
        fusion: Fusion,
        anchor: nn.Module | None = None,
    ) -> None:
        super().__init__(model, held, fusion)
        self.fusion = fusion
        self.optimiser = sgd(model, fusion.config)
        self.objective = Objective(fusion.config, fusion.cross_entropy)
        self._anchor = copy.deepcopy(anchor).eval() if anchor else None

    def listen_to(
        self, teachers: Sequence[Teacher], images: Tensor, generator: torch.Generator
    ) -> None:
        """Make what the feature loss trains, which depends on who teaches, and adopt it.

        Args:
            teachers: All that `learn` will hear, in that order.
            images: A batch to see the maps' shapes by.
            generator: Draws what is made.
        """
        shapes = [teacher.tap.shapes(images) for teacher in teachers]
        own = self.tap.shapes(images)
        self.optimiser.add(self.objective.adapt(own, shapes, images.device, generator))

    def learn(
        self, images: Tensor, labels: Tensor, own: Prediction, teachers: Sequence[Prediction]
    ) -> dict[str, Tensor]:
        """Compute the gradient of the objective; return its terms. The step is the caller's.

        Args:
            images: A batch.
            labels: Class indices [B].
            own: This model's prediction of the batch.
            teachers: The teachers' predictions, detached.
        """
        total, terms = self.objective(own, teachers, labels, self._anchored(images))
        self.optimiser.zero_grad()
        torch.autograd.backward(total)
        return terms

    def _anchored(self, images: Tensor) -> Tensor | None:
        if self._anchor is None:
            return None
        with torch.no_grad():
            logits: Tensor = self._anchor(images)
        return logits.float()
