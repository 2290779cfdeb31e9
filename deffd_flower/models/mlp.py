"""A network without convolutions."""

from collections import OrderedDict
from math import prod

from torch import nn

from deffd_flower.models.registry import Shape, models


@models.register("mlp")
def mlp(shape: Shape, classes: int) -> nn.Module:
    """Return two hidden layers of 200 ReLU units (McMahan et al. 2017, "2NN").

    It has 199,210 parameters on 1x28x28 images and 10 classes.

    Args:
        shape: Channels, height and width.
        classes: Number of logits.
    """
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            fc1=nn.Linear(prod(shape), 200),
            relu1=nn.ReLU(),
            fc2=nn.Linear(200, 200),
            relu2=nn.ReLU(),
            fc=nn.Linear(200, classes),
        )
    )
