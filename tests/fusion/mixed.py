"""Networks, losses and a strategy for federations of several architectures.

The networks are smooth, so that no rounding decides which way a ReLU or a maximum goes.
"""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.strategy.presets import GRAPH, Preset, strategies

Shape = tuple[int, int, int]


def shallow(shape: Shape, classes: int) -> nn.Module:
    """Two convolutions: maps [8, 8, 8] and [16, 4, 4] of 8x8 images."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(shape[0], 8, 3, padding=1),
            tanh1=nn.Tanh(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(8, 16, 3, padding=1),
            tanh2=nn.Tanh(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc=nn.Linear(16 * (shape[1] // 4) * (shape[2] // 4), classes),
        )
    )


def deep(shape: Shape, classes: int) -> nn.Module:
    """Three convolutions: maps [6, 8, 8], [8, 4, 4] and [12, 2, 2] of 8x8 images."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(shape[0], 6, 3, padding=1),
            tanh1=nn.Tanh(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(6, 8, 3, padding=1),
            tanh2=nn.Tanh(),
            pool2=nn.AvgPool2d(2),
            conv3=nn.Conv2d(8, 12, 3, padding=1),
            tanh3=nn.Tanh(),
            flatten=nn.Flatten(),
            fc=nn.Linear(12 * (shape[1] // 4) * (shape[2] // 4), classes),
        )
    )


def flat(shape: Shape, classes: int) -> nn.Module:
    """Two hidden layers: maps [20] and [9]."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            hidden1=nn.Linear(shape[0] * shape[1] * shape[2], 20),
            tanh1=nn.Tanh(),
            hidden2=nn.Linear(20, 9),
            tanh2=nn.Tanh(),
            fc=nn.Linear(9, classes),
        )
    )


def tokens(shape: Shape, classes: int) -> nn.Module:
    """A map of two dimensions a sample, [4, D], as a transformer has it."""
    width = shape[0] * shape[1] * shape[2] // 4
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            rows=nn.Unflatten(1, (4, width)),
            mix=nn.Linear(width, 5),
            tanh=nn.Tanh(),
            again=nn.Flatten(),
            fc=nn.Linear(20, classes),
        )
    )


class Counting(nn.Module):
    """A loss of one's own that is made for two shapes."""

    def __init__(self, student: Any, teacher: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(functional.normalize(Tensor([len(student), len(teacher)]), dim=0))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the means of the maps, whatever their shapes."""
        means = student.flatten(1).mean(1), teacher.flatten(1).mean(1)
        return (means[0] * self.scale[0] - means[1] * self.scale[1]).square().mean()


@fusion_rules.register("pick-first")
def pick_first(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    """Keep the received model, whatever it is."""
    return fusion.model_of(fusion.received[0]), {}


@strategies.register("pick-first")
def preset() -> Preset:
    """A strategy that does not say that it can mix architectures."""
    return Preset("pairs", "pick-first", GRAPH)


@strategies.register("pick-first-anyway")
def careless() -> Preset:
    """A strategy that says it can mix architectures, and hands on the sender's instead."""
    return Preset("pairs", "pick-first", GRAPH, mixes=True)
