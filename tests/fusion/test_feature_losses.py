"""Feature losses against their definitions, written out in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deffd_flower.errors import RequestError
from deffd_flower.fusion.features import FeatureLoss, feature_losses

Array = NDArray[np.float64]
SHAPE = (4, 3, 5, 5)


def rows(array: Array) -> list[Array]:
    return [sample.reshape(-1) for sample in array]


def unit(vector: Array) -> Array:
    length = float(np.sqrt((vector**2).sum()))
    return vector / length


DEFINITIONS: dict[str, Callable[[Array, Array], float]] = {
    "mse": lambda s, t: float(((s - t) ** 2).mean()),
    "l2": lambda s, t: float(
        np.mean([np.sqrt(((a - b) ** 2).sum()) for a, b in zip(rows(s), rows(t), strict=True)])
    ),
    "l2-sq": lambda s, t: float(
        np.mean([((a - b) ** 2).sum() for a, b in zip(rows(s), rows(t), strict=True)])
    ),
    "l2-norm": lambda s, t: float(
        np.mean([((unit(a) - unit(b)) ** 2).sum() for a, b in zip(rows(s), rows(t), strict=True)])
    ),
    "cos": lambda s, t: float(
        np.mean([1 - unit(a) @ unit(b) for a, b in zip(rows(s), rows(t), strict=True)])
    ),
}


def maps(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_loss_is_its_definition(name: str) -> None:
    student, teacher = maps(1), maps(2)
    expected = DEFINITIONS[name](student.numpy(), teacher.numpy())
    assert feature_losses.get(name)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_every_registered_loss_has_a_definition_here() -> None:
    assert set(feature_losses.names()) == set(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_equal_maps_are_at_distance_zero_with_a_finite_zero_gradient(name: str) -> None:
    student = maps(3).requires_grad_()
    loss = feature_losses.get(name)(student, student.detach().clone())
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize(("name", "power"), [("mse", 2), ("l2", 1), ("l2-sq", 2)])
@given(scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=25)
def test_a_distance_grows_with_the_gap_by_its_power(name: str, power: int, scale: float) -> None:
    loss, teacher, gap = feature_losses.get(name), maps(4), maps(5)
    one = loss(teacher + gap, teacher).item()
    scaled = loss(teacher + scale * gap, teacher).item()
    assert scaled == pytest.approx(one * scale**power, rel=1e-9)


@pytest.mark.parametrize("name", ["cos", "l2-norm"])
@given(scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=25)
def test_a_direction_loss_ignores_the_size_of_the_maps(name: str, scale: float) -> None:
    loss = feature_losses.get(name)
    assert loss(scale * maps(6), maps(7)).item() == pytest.approx(loss(maps(6), maps(7)).item())


@pytest.mark.parametrize("name", DEFINITIONS)
@given(copies=st.integers(1, 6))
@settings(deadline=None, max_examples=10)
def test_a_loss_does_not_depend_on_the_batch_size(name: str, copies: int) -> None:
    loss: FeatureLoss = feature_losses.get(name)
    student, teacher = maps(8), maps(9)
    repeated = loss(student.repeat(copies, 1, 1, 1), teacher.repeat(copies, 1, 1, 1))
    assert repeated.item() == pytest.approx(loss(student, teacher).item(), rel=1e-10)


def test_the_three_euclidean_losses_have_the_scales_of_the_docstring() -> None:
    gap = torch.full((2, 32, 14, 14), 0.3, dtype=torch.float64)
    sizes = {n: feature_losses.get(n)(gap, torch.zeros_like(gap)).item() for n in DEFINITIONS}
    assert sizes["mse"] == pytest.approx(0.09)
    assert sizes["l2"] == pytest.approx(0.3 * np.sqrt(32 * 14 * 14))
    assert sizes["l2-sq"] == pytest.approx(0.09 * 32 * 14 * 14)


def test_an_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"feature-loss=l3: must be one of cos, l2"):
        feature_losses.get("l3")
