"""Mutual knowledge transfer: Def-KT's Procedure 1 with Def-FD's feature term."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.fusion.average import mean_model
from deffd_flower.fusion.objective import Objective, Prediction
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.models.taps import Tap, feature_layers
from deffd_flower.training import Batch, RunningMeans, sgd


@fusion_rules.register("distil")
def distil(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    """Teach the received models and the own one by each other, one received model at a time.

    Source: Li, Li, Varshney 2021, Procedure 1 (logits); Def-FD (feature maps). The receiver keeps
    the received model unless ``receiver-keeps`` says otherwise.
    """
    own, means = fusion.own, RunningMeans()
    for index, package in enumerate(fusion.received):
        received = fusion.model_of(package)
        batches = fusion.batches(fusion.config.fusion_epochs, index)
        _transfer(received, own, batches, fusion.config, means)
        own = _kept(received, own, fusion.config)
    return own, means.means()


def _kept(received: nn.Module, own: nn.Module, config: RunConfig) -> nn.Module:
    if config.receiver_keeps == "average":
        return mean_model(own, received, 0.5)
    return own if config.receiver_keeps == "own" else received


def _transfer(
    received: nn.Module,
    own: nn.Module,
    batches: Iterator[Batch],
    config: RunConfig,
    means: RunningMeans,
) -> None:
    """Step both models over the batches, or only the kept one where the other need not learn."""
    objective = Objective(config)
    kept, other = (own, received) if config.receiver_keeps == "own" else (received, own)
    kept_learner = _Learner(kept, objective, config)
    if not objective.needs_teacher and config.receiver_keeps != "average":
        _learn_alone(kept_learner, batches, means)
    elif config.teacher == "frozen":
        _learn_from_frozen(kept_learner, _Learner(other, objective, config), batches, means)
    elif config.fusion_update == "alternating":
        _learn_in_turns(kept_learner, _Learner(other, objective, config), batches, means)
    else:
        _learn_together(kept_learner, _Learner(other, objective, config), batches, means)


class _Learner:
    """One model with its own optimiser and its taps."""

    def __init__(self, model: nn.Module, objective: Objective, config: RunConfig) -> None:
        self.model = model
        self.objective = objective
        self.optimiser = sgd(model, config)
        layers = feature_layers(model, config.feature_layers) if objective.needs_features else []
        self.tap = Tap(model, layers)

    def predict(self, images: Tensor) -> Prediction:
        logits, features = self.tap(images)
        return Prediction(logits.float(), [map_.float() for map_ in features])

    def loss(
        self, student: Prediction, teacher: Prediction | None, labels: Tensor
    ) -> dict[str, Tensor]:
        total, terms = self.objective(student, teacher, labels)
        self.optimiser.zero_grad()
        torch.autograd.backward(total)
        return terms


def _learn_together(
    kept: _Learner, other: _Learner, batches: Iterator[Batch], means: RunningMeans
) -> None:
    """Both predictions first, then both steps (Procedure 1, lines 9-13)."""
    kept.model.train()
    other.model.train()
    with kept.tap, other.tap:
        for images, labels in batches:
            ours, theirs = kept.predict(images), other.predict(images)
            terms = kept.loss(ours, theirs.detached(), labels)
            other.loss(theirs, ours.detached(), labels)
            kept.optimiser.step()
            other.optimiser.step()
            means.add(terms)


def _learn_in_turns(
    kept: _Learner, other: _Learner, batches: Iterator[Batch], means: RunningMeans
) -> None:
    """The kept model steps first; the other learns from what it then predicts (DML)."""
    kept.model.train()
    other.model.train()
    with kept.tap, other.tap:
        for images, labels in batches:
            ours, theirs = kept.predict(images), other.predict(images)
            terms = kept.loss(ours, theirs.detached(), labels)
            kept.optimiser.step()
            with torch.no_grad():
                renewed = kept.predict(images)
            other.loss(theirs, renewed, labels)
            other.optimiser.step()
            means.add(terms)


def _learn_from_frozen(
    kept: _Learner, teacher: _Learner, batches: Iterator[Batch], means: RunningMeans
) -> None:
    """One-way distillation: the teacher predicts in evaluation mode and is never stepped."""
    kept.model.train()
    teacher.model.eval()
    with kept.tap, teacher.tap:
        for images, labels in batches:
            with torch.no_grad():
                target = teacher.predict(images)
            terms = kept.loss(kept.predict(images), target, labels)
            kept.optimiser.step()
            means.add(terms)


def _learn_alone(kept: _Learner, batches: Iterator[Batch], means: RunningMeans) -> None:
    """Cross-entropy only: nobody looks at the other model."""
    kept.model.train()
    with kept.tap:
        for images, labels in batches:
            terms = kept.loss(kept.predict(images), None, labels)
            kept.optimiser.step()
            means.add(terms)
