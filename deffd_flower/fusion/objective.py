"""The one objective of Def-FD and Def-KT: a weighted sum of three terms."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.fusion.features import feature_losses
from deffd_flower.fusion.logits import kullback_leibler


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch.

    Attributes:
        logits: [B, C].
        features: The tapped layers' maps, [B, ...] each, in layer order.
    """

    logits: Tensor
    features: list[Tensor]

    def detached(self) -> "Prediction":
        """Return the same values as constants: a teacher receives no gradient."""
        return Prediction(self.logits.detach(), [map_.detach() for map_ in self.features])


class Objective:
    """Measures a student against labels and a teacher.

    ``ce-weight`` CE(P_s, y) + ``kd-weight`` KL(P_t || P_s) + ``gamma`` sum_l F(f_l(s), f_l(t)),
    with F the ``feature-loss`` and l over the tapped layers. Def-KT is gamma = 0; a term of
    weight 0 is not computed.
    """

    def __init__(self, config: RunConfig) -> None:
        self.weights = {"ce": config.ce_weight, "kl": config.kd_weight, "feature": config.gamma}
        self.temperature = config.temperature
        self.feature_loss = feature_losses.get(config.feature_loss)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term looks at the teacher."""
        return self.weights["kl"] > 0 or self.weights["feature"] > 0

    @property
    def needs_features(self) -> bool:
        """Whether the feature maps are looked at."""
        return self.weights["feature"] > 0

    def __call__(
        self, student: Prediction, teacher: Prediction | None, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each term before weighting (detached).

        Args:
            student: The prediction that is to improve.
            teacher: The prediction to learn from, detached; ``None`` when nothing needs one.
            labels: Class indices [B].
        """
        terms = {}
        if self.weights["ce"]:
            terms["ce"] = functional.cross_entropy(student.logits, labels)
        if teacher is not None and self.weights["kl"]:
            terms["kl"] = kullback_leibler(student.logits, teacher.logits, self.temperature)
        if teacher is not None and self.weights["feature"]:
            layers = zip(student.features, teacher.features, strict=True)
            gaps = [self.feature_loss(ours, theirs) for ours, theirs in layers]
            terms["feature"] = torch.stack(gaps).sum()
        weighted = [self.weights[name] * term for name, term in terms.items()]
        return torch.stack(weighted).sum(), {name: term.detach() for name, term in terms.items()}
