"""Models by name, and the taps that read their feature maps."""

from deffd_flower.models import cnn, mlp, resnet
from deffd_flower.models.registry import ModelBuilder, build_model, models
from deffd_flower.models.taps import Tap, feature_layers

__all__ = [
    "ModelBuilder",
    "Tap",
    "build_model",
    "cnn",
    "feature_layers",
    "mlp",
    "models",
    "resnet",
]
