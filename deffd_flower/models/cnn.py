"""Small convolutional networks for small images."""

from collections import OrderedDict

from torch import nn

from deffd_flower.errors import RequestError
from deffd_flower.models.registry import Shape, models


@models.register("cnn")
def cnn(shape: Shape, classes: int) -> nn.Module:
    """Return three 3x3 convolutions and one fully connected layer (Def-FD, figure 1).

    The figure leaves the sizes open. With 16, 32 and 64 channels, each convolution followed by
    2x2 max-pooling and ReLU, it has 29,066 parameters on 1x28x28 images and 10 classes, close to
    the network of Def-KT. The two commute, values and gradients alike, and pooled maps are a
    quarter of the work for ReLU.

    Args:
        shape: Channels, height and width, at least 8x8.
        classes: Number of logits.

    Raises:
        RequestError: The images are too small.
    """
    _check_size("cnn", shape, 8)
    channels, height, width = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, maps in enumerate((16, 32, 64), start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, maps, kernel_size=3, padding=1)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers[f"relu{number}"] = nn.ReLU()
        channels = maps
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * (height // 8) * (width // 8), classes)
    return nn.Sequential(layers)


@models.register("defkt-cnn")
def defkt_cnn(shape: Shape, classes: int) -> nn.Module:
    """Return the network of Def-KT's Fashion-MNIST runs, as its re-implementations give it.

    Two 5x5 convolutions of 16 and 32 channels, each followed by batch normalisation, 2x2
    max-pooling and ReLU, then one fully connected layer: 29,034 parameters on 1x28x28 images and 10
    classes.

    Args:
        shape: Channels, height and width, at least 4x4.
        classes: Number of logits.

    Raises:
        RequestError: The images are too small.
    """
    _check_size("defkt-cnn", shape, 4)
    channels, height, width = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, maps in enumerate((16, 32), start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, maps, kernel_size=5, padding=2)
        layers[f"norm{number}"] = nn.BatchNorm2d(maps)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers[f"relu{number}"] = nn.ReLU()
        channels = maps
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * (height // 4) * (width // 4), classes)
    return nn.Sequential(layers)


def _check_size(name: str, shape: Shape, least: int) -> None:
    if min(shape[1:]) < least:
        size = f"{shape[1]}x{shape[2]}"
        advice = f"needs images of {least}x{least} or more, not {size}; type model=mlp"
        raise RequestError("model", name, advice)
