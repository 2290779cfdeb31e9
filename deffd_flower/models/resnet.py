"""Residual networks for small images."""

from functools import partial

from torch import nn

from deffd_flower.models.registry import Shape, models

GROUPS = 32


@models.register("resnet18")
def resnet18(shape: Shape, classes: int) -> nn.Module:
    """Return torchvision's ResNet-18 with GroupNorm and a stem for small images.

    GroupNorm (Wu and He 2018, with their 32 groups) stands in for batch normalisation, whose
    statistics suffer where clients hold different classes (Hsieh et al. 2020). The stem is a 3x3
    convolution of stride 1 without max-pooling, as He et al. (2016) use on CIFAR-10.

    Args:
        shape: Channels, height and width.
        classes: Number of logits.
    """
    import torchvision

    model: nn.Module = torchvision.models.resnet18(
        weights=None, num_classes=classes, norm_layer=partial(nn.GroupNorm, GROUPS)
    )
    stem = nn.Conv2d(shape[0], 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    model.maxpool = nn.Identity()
    return model
