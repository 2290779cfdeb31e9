"""Feature losses against their definitions, written out in NumPy."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deffd_flower.errors import RequestError
from deffd_flower.fusion.features import FeatureTerm, feature_losses

Array = NDArray[np.float64]
SHAPE = (4, 3, 5, 5)
LABELS = [0, 2, 0, 1]


def rows(array: Array) -> list[Array]:
    return [sample.reshape(-1) for sample in array]


def unit(vector: Array) -> Array:
    length = float(np.sqrt((vector**2).sum()))
    return vector / length


def huber(one: Array, other: Array) -> float:
    gaps = np.abs(one - other)
    return float(np.where(gaps < 1, gaps**2 / 2, gaps - 0.5).mean())


def attention(maps: Array) -> list[Array]:
    return [unit((sample**2).mean(0).reshape(-1)) for sample in maps]


def similarities(maps: Array) -> Array:
    products = np.array([[a @ b for b in rows(maps)] for a in rows(maps)])
    return np.array([unit(row) for row in products])


def distances(maps: Array) -> Array:
    lengths = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in rows(maps)] for a in rows(maps)])
    return np.asarray(lengths / lengths[lengths > 0].mean())


def angles(maps: Array) -> Array:
    """Cosine of the angle at sample i between samples j and k; 0 where a side has no length."""
    count = len(maps)
    cosines = np.zeros((count, count, count))
    for i, j, k in product(range(count), repeat=3):
        if i not in (j, k):
            at = rows(maps)[i]
            cosines[i, j, k] = unit(rows(maps)[j] - at) @ unit(rows(maps)[k] - at)
    return cosines


def neighbourhoods(maps: Array) -> Array:
    kernel = np.array([[(1 + unit(a) @ unit(b)) / 2 for b in rows(maps)] for a in rows(maps)])
    return np.asarray(kernel / kernel.sum(1, keepdims=True))


def class_means(maps: Array) -> Array:
    alike = [[other for other in range(4) if LABELS[other] == label] for label in LABELS]
    return np.array([maps[members].mean(0) for members in alike])


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
    "fitnet": lambda s, t: float(((s - t) ** 2).mean()),
    "at": lambda s, t: float(
        np.mean([(a - b) ** 2 for a, b in zip(attention(s), attention(t), strict=True)])
    ),
    "sp": lambda s, t: float(((similarities(s) - similarities(t)) ** 2).sum() / len(s) ** 2),
    "rkd": lambda s, t: 25 * huber(distances(s), distances(t)) + 50 * huber(angles(s), angles(t)),
    "pkt": lambda s, t: float(
        (neighbourhoods(t) * np.log(neighbourhoods(t) / neighbourhoods(s))).sum(1).mean()
    ),
    "ccl": lambda s, t: float(((s - t) ** 2).mean() + ((s - class_means(t)) ** 2).mean()),
}

SAMPLE_BY_SAMPLE = ["mse", "l2", "l2-sq", "l2-norm", "cos", "fitnet", "at"]
RELATIONAL = ["sp", "rkd", "pkt"]


def maps(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(name: str, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The loss of one layer's maps, made for their shapes if it trains something."""
    shapes = [student.shape[1:]], [teacher.shape[1:]]
    term = FeatureTerm(feature_losses.get(name), *shapes, torch.Generator().manual_seed(0))
    labels = torch.tensor(LABELS).repeat(len(student) // len(LABELS))
    loss: torch.Tensor = term.double()([student], [teacher], labels)
    return loss


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_loss_is_its_definition(name: str) -> None:
    student, teacher = maps(1), maps(2)
    expected = DEFINITIONS[name](student.numpy(), teacher.numpy())
    assert loss_of(name, student, teacher).item() == pytest.approx(expected, rel=1e-10)


def test_every_registered_loss_has_a_definition_here() -> None:
    assert set(feature_losses.names()) == set(DEFINITIONS)


@pytest.mark.parametrize("name", [name for name in DEFINITIONS if name != "ccl"])
def test_equal_maps_are_at_distance_zero_with_a_finite_zero_gradient(name: str) -> None:
    student = maps(3).requires_grad_()
    loss = loss_of(name, student, student.detach().clone())
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize(("name", "power"), [("mse", 2), ("l2", 1), ("l2-sq", 2), ("fitnet", 2)])
@given(scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=25)
def test_a_distance_grows_with_the_gap_by_its_power(name: str, power: int, scale: float) -> None:
    teacher, gap = maps(4), maps(5)
    one = loss_of(name, teacher + gap, teacher).item()
    scaled = loss_of(name, teacher + scale * gap, teacher).item()
    assert scaled == pytest.approx(one * scale**power, rel=1e-9)


@pytest.mark.parametrize("name", ["cos", "l2-norm", "at", *RELATIONAL])
@given(scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=25)
def test_a_direction_loss_ignores_the_size_of_the_maps(name: str, scale: float) -> None:
    plain = loss_of(name, maps(6), maps(7)).item()
    assert loss_of(name, scale * maps(6), maps(7)).item() == pytest.approx(plain)


@pytest.mark.parametrize("name", [*SAMPLE_BY_SAMPLE, "ccl"])
@given(copies=st.integers(1, 6))
@settings(deadline=None, max_examples=10)
def test_a_loss_does_not_depend_on_the_batch_size(name: str, copies: int) -> None:
    student, teacher = maps(8), maps(9)
    repeated = loss_of(name, student.repeat(copies, 1, 1, 1), teacher.repeat(copies, 1, 1, 1))
    assert repeated.item() == pytest.approx(loss_of(name, student, teacher).item(), rel=1e-10)


@pytest.mark.parametrize("name", RELATIONAL)
def test_a_batch_of_one_sample_has_no_relations(name: str) -> None:
    student = maps(1, (1, 3, 5, 5)).requires_grad_()
    term = FeatureTerm(feature_losses.get(name))
    loss = term([student], [maps(2, (1, 3, 5, 5))], torch.tensor([0]))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("name", RELATIONAL)
def test_samples_that_are_the_same_give_a_finite_gradient(name: str) -> None:
    student = maps(1)[:1].repeat(4, 1, 1, 1).requires_grad_()
    torch.autograd.backward(loss_of(name, student, maps(2)))
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", [*RELATIONAL, "at", "fitnet"])
def test_maps_of_other_channels_and_sizes_can_be_compared(name: str) -> None:
    student = maps(1, (4, 6, 4, 4)).requires_grad_()
    loss = loss_of(name, student, maps(2, (4, 3, 8, 8)))
    torch.autograd.backward(loss)
    assert loss.item() > 0
    assert student.grad is not None
    assert student.grad.abs().max() > 0


def test_the_larger_map_is_averaged_to_the_size_of_the_smaller() -> None:
    student, large = maps(1, (4, 3, 2, 2)), maps(2, (4, 3, 4, 4))
    pooled = large.view(4, 3, 2, 2, 2, 2).mean((3, 5))
    for name in ("at", "fitnet"):
        expected = DEFINITIONS[name](student.numpy(), pooled.numpy())
        assert loss_of(name, student, large).item() == pytest.approx(expected)


def test_a_layer_without_positions_has_no_attention() -> None:
    with pytest.raises(RequestError, match=r"feature-loss=at: needs maps .* \[4, 7\] and \[4, 7\]"):
        loss_of("at", maps(1, (4, 7)), maps(2, (4, 7)))


@pytest.mark.parametrize("shape", [(4, 6, 5, 5), (4, 6)])
def test_fitnets_regressor_is_a_linear_map_of_the_channels(shape: tuple[int, ...]) -> None:
    student, teacher = maps(1, shape), maps(2, (4, 3, *shape[2:]))
    term = FeatureTerm(feature_losses.get("fitnet"), [student.shape[1:]], [teacher.shape[1:]])
    term.double()
    weight, bias = list(term.parameters())
    assert weight.shape == (3, 6, *[1] * (len(shape) - 2))
    with torch.no_grad():
        weight.copy_(maps(3, tuple(weight.shape)))
        bias.copy_(maps(4, (3,)))
    mapped = np.einsum("tc,bc...->bt...", weight.detach().numpy().reshape(3, 6), student.numpy())
    mapped = mapped + bias.detach().numpy().reshape(3, *[1] * (len(shape) - 2))
    loss = term([student], [teacher], torch.tensor(LABELS))
    assert loss.item() == pytest.approx(float(((mapped - teacher.numpy()) ** 2).mean()))


def test_the_term_is_the_sum_over_the_layers_each_with_its_own_regressor() -> None:
    student, teacher = [maps(1), maps(2, (4, 7))], [maps(3), maps(4, (4, 5))]
    ours, theirs = ([map_.shape[1:] for map_ in of] for of in (student, teacher))
    generator = torch.Generator().manual_seed(0)
    term = FeatureTerm(feature_losses.get("fitnet"), ours, theirs, generator).double()
    assert [tuple(weight.shape) for weight in term.parameters()] == [
        *((3, 3, 1, 1), (3,)),
        *((5, 7), (5,)),
    ]
    alone = [loss_of("fitnet", s, t).item() for s, t in zip(student, teacher, strict=True)]
    assert term(student, teacher, torch.tensor(LABELS)).item() == pytest.approx(sum(alone))


def test_a_loss_is_computed_in_float32_whatever_the_models_compute_in() -> None:
    student, teacher = maps(1).float(), maps(2).float()
    plain = FeatureTerm(feature_losses.get("sp"))([student], [teacher], torch.tensor(LABELS))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = FeatureTerm(feature_losses.get("sp"))([student], [teacher], torch.tensor(LABELS))
    assert torch.equal(plain, mixed)


def test_the_three_euclidean_losses_have_the_scales_of_the_docstring() -> None:
    gap = torch.full((2, 32, 14, 14), 0.3, dtype=torch.float64)
    labels = torch.tensor([0, 1])
    sizes = {
        name: FeatureTerm(feature_losses.get(name))([gap], [0 * gap], labels).item()
        for name in ("mse", "l2", "l2-sq")
    }
    assert sizes["mse"] == pytest.approx(0.09)
    assert sizes["l2"] == pytest.approx(0.3 * np.sqrt(32 * 14 * 14))
    assert sizes["l2-sq"] == pytest.approx(0.09 * 32 * 14 * 14)


def test_an_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"feature-loss=l3: must be one of at, ccl, cos"):
        feature_losses.get("l3")
