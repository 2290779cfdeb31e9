"""A strategy from outside the package, whose fusion fails at the client with the most samples."""

from torch import Tensor, nn

from deffd_flower.fusion.distil import distil
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.strategy.presets import GRAPH, LEARNING, Preset, strategies

TOO_MANY = 120


@strategies.register("flaky")
def flaky() -> Preset:
    return Preset("pairs", "flaky", GRAPH | LEARNING, {"gamma": 0.0, "kd-weight": 0.0})


@fusion_rules.register("flaky")
def fail_with_many_samples(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    kept = distil(fusion)
    if fusion.samples > TOO_MANY:
        raise ValueError("too many samples")
    return kept


class Forgetful(nn.Sequential):
    """A model with a layer that draws random numbers while it learns."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(classes))


class BreaksInTraining(nn.Module):
    """A model that answers a greeting and fails at work."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 2:
            raise ValueError("broken model")
        logits: Tensor = self.layers(images)
        return logits
