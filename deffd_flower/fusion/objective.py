"""The one objective of Def-FD and Def-KT: a weighted sum of terms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.fusion.calibration import CrossEntropy
from deffd_flower.fusion.features import FeatureTerm, feature_losses, takes_any_shapes
from deffd_flower.fusion.gamma import gamma_of
from deffd_flower.fusion.logits import kullback_leibler, logit_losses
from deffd_flower.fusion.reliability import reliability


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch.

    Attributes:
        logits: [B, C].
        features: The tapped layers' maps, [B, ...] each, in layer order.
        held: The classes its owner has samples of, bool [C]; ``None`` where nobody asks.
    """

    logits: Tensor
    features: list[Tensor]
    held: Tensor | None = None

    def detached(self) -> "Prediction":
        """Return the same values as constants: a teacher receives no gradient."""
        features = [map_.detach() for map_ in self.features]
        return replace(self, logits=self.logits.detach(), features=features)


class Objective:
    """Measures one student against labels, teachers and its anchor.

    ``ce-weight`` CE(P_s, y) + ``kd-weight`` K(P_t, P_s) + ``gamma`` sum_l F(f_l(s), f_l(t))
    + ``anchor`` KL(P_a || P_s), with CE as ``calibrate`` has it, K the ``kd-loss``, F the
    ``feature-loss``, l over the tapped layers, and a the model held on to. K and F are means over
    the teachers. Def-KT is gamma = 0; a term of weight 0 is not computed. Where a teacher is of
    another architecture, l is over the `matched` layers, and F has an `Adapter` before it if need
    be.

    Args:
        config: The run's keys.
        cross_entropy: The client's own, calibrated or not.
    """

    def __init__(
        self, config: RunConfig, cross_entropy: CrossEntropy = functional.cross_entropy
    ) -> None:
        self.config = config
        self.cross_entropy = cross_entropy
        self.gamma = gamma_of(config)
        self.logit_loss = logit_losses.get(config.kd_loss)
        self.feature_loss = feature_losses.get(config.feature_loss)
        self._for_all = FeatureTerm(self.feature_loss)
        self._for_each: list[FeatureTerm] = []

    @property
    def needs_teacher(self) -> bool:
        """Whether any term looks at a teacher."""
        return self.config.kd_weight > 0 or self.needs_features

    @property
    def needs_features(self) -> bool:
        """Whether the feature maps are looked at."""
        return self.config.gamma != 0

    def needs_shapes(self, alike: bool) -> bool:
        """Say whether the feature loss must `adapt` to the maps before it can be used.

        Args:
            alike: Whether the teachers have the student's architecture.
        """
        fits = alike or takes_any_shapes(self.feature_loss)
        return self.needs_features and (isinstance(self.feature_loss, type) or not fits)

    def adapt(
        self,
        student: Sequence[torch.Size],
        teachers: Sequence[Sequence[torch.Size]],
        device: torch.device,
        generator: torch.Generator,
    ) -> Iterator[nn.Parameter]:
        """Make what the feature loss trains; yield it, to be trained with the student.

        Args:
            student: Shapes of the maps of one sample, by layer.
            teachers: The same of each teacher, in the order in which they will predict.
            device: Where the maps are.
            generator: Draws the first weights.

        Raises:
            RequestError: Maps cannot be made alike; the shapes are told.
        """
        self._for_each = [
            FeatureTerm(self.feature_loss, student, teacher, generator).to(device)
            for teacher in teachers
        ]
        for term in self._for_each:
            yield from term.parameters()

    def __call__(
        self,
        student: Prediction,
        teachers: Sequence[Prediction],
        labels: Tensor,
        anchor: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each term before weighting (detached).

        Args:
            student: The prediction that is to improve.
            teachers: The predictions to learn from, detached; none when nothing needs one.
            labels: Class indices [B].
            anchor: Logits [B, C] of the model held on to, detached.
        """
        config = self.config
        terms: dict[str, Tensor] = {}
        weights: dict[str, float | Tensor] = {}
        if config.ce_weight:
            terms["ce"] = self.cross_entropy(student.logits, labels)
            weights["ce"] = config.ce_weight
        if teachers and config.kd_weight:
            terms["kl"] = _mean([self._logit_term(student, each, labels) for each in teachers])
            weights["kl"] = config.kd_weight
        if teachers and self.needs_features:
            terms["feature"] = self._feature_term(student, teachers, labels)
            weights["feature"] = self.gamma(terms)
        if anchor is not None:
            terms["anchor"] = kullback_leibler(student.logits, anchor, config.temperature).mean()
            weights["anchor"] = config.anchor
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        report = {name: term.detach() for name, term in terms.items()}
        if isinstance(gamma := weights.get("feature"), Tensor):
            report["gamma"] = gamma
        return total, report

    def _logit_term(self, student: Prediction, teacher: Prediction, labels: Tensor) -> Tensor:
        losses = self.logit_loss(student.logits, teacher.logits, labels, self.config)
        if self.config.teacher_weight == "none":
            return losses.mean()
        trust = reliability(self.config.teacher_weight, teacher.logits, labels, teacher.held)
        return (trust * losses).mean()

    def _feature_term(
        self, student: Prediction, teachers: Sequence[Prediction], labels: Tensor
    ) -> Tensor:
        terms = self._for_each or [self._for_all] * len(teachers)
        return _mean(
            [
                term(student.features, teacher.features, labels)
                for term, teacher in zip(terms, teachers, strict=True)
            ]
        )


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()
