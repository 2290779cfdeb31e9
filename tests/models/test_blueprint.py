"""Copies of a model: equal, independent, whatever the model is made of."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.models import build_model
from deffd_flower.models.blueprint import Blueprint

IMAGES = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Tied(nn.Module):
    """Two layers with one weight, a frozen one, a buffer, and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.two.bias.requires_grad_(False)
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("hidden", torch.ones(2), persistent=False)


class Views(nn.Module):
    """Two buffers in one piece of memory: what is written to one appears in the other."""

    whole: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.zeros(4))
        self.register_buffer("part", self.whole[:2])


class Hooked(nn.Linear):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.double_up: Callable[[Tensor], Tensor] = lambda values: 2 * values

    def forward(self, values: Tensor) -> Tensor:
        return self.double_up(super().forward(values))


@pytest.mark.parametrize("name", ["cnn", "defkt-cnn", "mlp", "resnet18"])
def test_a_copy_says_what_the_model_says_and_is_laid_out_alike(name: str) -> None:
    model = build_model(name, (1, 16, 16), 10, 3).eval()
    twin = Blueprint(model).copy()
    assert torch.equal(twin(IMAGES), model(IMAGES))
    assert list(twin.state_dict()) == list(model.state_dict())
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        assert ours.stride() == theirs.stride()
        assert ours.requires_grad


def test_copies_share_no_memory() -> None:
    blueprint = Blueprint(build_model("defkt-cnn", (1, 16, 16), 10, 3))
    one, two = blueprint.copy(), blueprint.copy()
    with torch.no_grad():
        for value in [*one.parameters(), *one.buffers()]:
            value.add_(1)
    fresh = blueprint.copy().state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in two.state_dict().items())
    one.register_forward_hook(lambda *_: None)
    assert not two._forward_hooks


def test_ties_frozen_weights_and_buffers_survive() -> None:
    twin = Blueprint(Tied()).copy()
    assert isinstance(twin, Tied)
    assert twin.one.weight is twin.two.weight
    assert [name for name, p in twin.named_parameters() if not p.requires_grad] == ["two.bias"]
    assert isinstance(twin.two.weight, nn.Parameter)
    assert "hidden" not in twin.state_dict()
    assert torch.equal(twin.get_buffer("hidden"), torch.ones(2))
    assert torch.equal(twin.get_buffer("kept"), torch.arange(3))


@pytest.mark.parametrize("kind", [Hooked, Views])
def test_other_models_are_copied_the_slow_way(kind: type[nn.Module]) -> None:
    model = kind()
    twin = Blueprint(model).copy()
    slow = copy.deepcopy(model)
    for name, value in slow.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value)
    if isinstance(twin, Views):
        twin.get_buffer("whole").fill_(5)
        assert twin.get_buffer("part").tolist() == [5, 5]
        assert model.get_buffer("whole").tolist() == [0, 0, 0, 0]
    else:
        assert torch.equal(twin(torch.ones(4)), model(torch.ones(4)))
