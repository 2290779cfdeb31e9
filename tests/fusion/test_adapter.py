"""Maps of different shapes, made alike: what is pooled, what is trained, and what is refused."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deffd_flower.errors import RequestError
from deffd_flower.fusion.features import (
    Adapter,
    FeatureTerm,
    any_shapes,
    feature_losses,
    takes_any_shapes,
)
from tests.fusion.mixed import Counting

BATCH = 4
LABELS = torch.tensor([0, 2, 0, 1])
RELATIONAL = ["at", "sp", "rkd", "pkt"]
NEED_EQUAL = ["mse", "l2", "l2-sq", "l2-norm", "cos", "ccl"]

PAIRS = [
    ((6, 8, 8), (3, 4, 4)),
    ((3, 4, 4), (6, 8, 8)),
    ((6, 4, 8), (3, 8, 4)),
    ((5, 4, 4), (5, 2, 2)),
    ((6, 4, 4), (7,)),
    ((7,), (6, 4, 4)),
    ((6, 4, 4), (6,)),
    ((9,), (4,)),
]


def maps(seed: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((BATCH, *shape), generator=generator, dtype=torch.float64)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adapter(student: tuple[int, ...], teacher: tuple[int, ...], **keys: bool) -> Adapter:
    made = Adapter(torch.Size(student), torch.Size(teacher), drawn(), **keys)
    return made.double()


def pooled(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average blocks of equal size."""
    batch, channels, high, wide = array.shape
    blocks = array.reshape(batch, channels, height, high // height, width, wide // width)
    return np.asarray(blocks.mean((3, 5)))


def by_hand(student: Tensor, teacher: Tensor, made: Adapter) -> tuple[np.ndarray, np.ndarray]:
    """Write the docstring out in NumPy."""
    ours, theirs = student.numpy(), teacher.numpy()
    if ours.ndim != theirs.ndim:
        ours, theirs = (each.mean((2, 3)) if each.ndim == 4 else each for each in (ours, theirs))
    elif ours.ndim == 4:
        size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
        ours, theirs = pooled(ours, *size), pooled(theirs, *size)
    if made.weight is None or made.bias is None:
        return ours, theirs
    weight = made.weight.detach().numpy().reshape(made.weight.shape[:2])
    bias = made.bias.detach().numpy().reshape(-1, *[1] * (ours.ndim - 2))
    return np.einsum("tc,bc...->bt...", weight, ours) + bias, theirs


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_maps_come_out_alike_and_as_written_down(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    made, one, other = adapter(student, teacher), maps(1, student), maps(2, teacher)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn(3), dtype=torch.float64))
        ours, theirs = made(one, other)
    assert ours.shape == theirs.shape
    expected = by_hand(one, other, made)
    np.testing.assert_allclose(ours.numpy(), expected[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(theirs.numpy(), expected[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_only_different_channels_are_worth_weights(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    shapes = [tuple(each.shape) for each in adapter(student, teacher).parameters()]
    if student[0] == teacher[0]:
        assert shapes == []
        return
    positions = 2 if len(student) == len(teacher) == 3 else 0
    assert shapes == [(teacher[0], student[0], *[1] * positions), (teacher[0],)]


def test_weights_are_drawn_by_the_generator_and_keep_the_size_of_a_map() -> None:
    sizes = torch.Size([400]), torch.Size([300])
    first, again, other = (Adapter(*sizes, drawn(seed)) for seed in (1, 1, 2))
    weights = [next(each.parameters()) for each in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    expected = torch.randn(300, 400, generator=drawn(1)) / math.sqrt(400)
    assert torch.equal(weights[0], expected)
    ours, _ = first(torch.ones(1, 400).normal_(generator=drawn(5)), torch.ones(1, 300))
    assert ours.square().mean().item() == pytest.approx(1, abs=0.2)


def test_between_equal_channels_what_is_asked_for_starts_as_the_identity() -> None:
    made = adapter((3, 4, 4), (3, 4, 4), always=True)
    one, other = maps(1, (3, 4, 4)), maps(2, (3, 4, 4))
    ours, theirs = made(one, other)
    assert torch.equal(ours, one)
    assert torch.equal(theirs, other)


@pytest.mark.parametrize(
    ("student", "teacher"), [((4, 5), (6, 8, 8)), ((6, 8, 8), (4, 5)), ((4, 5), (4, 6)), ((4,), ())]
)
def test_maps_that_cannot_be_made_alike_are_told_with_both_shapes(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    with pytest.raises(RequestError) as caught:
        adapter(student, teacher)
    assert f"student's map {list(student)} and a teacher's {list(teacher)}" in str(caught.value)
    assert "feature-loss=sp" in str(caught.value)


def term(name: str, student: list[Tensor], teacher: list[Tensor]) -> FeatureTerm:
    ours, theirs = ([map_.shape[1:] for map_ in of] for of in (student, teacher))
    return FeatureTerm(feature_losses.get(name), ours, theirs, drawn()).double()


def test_every_loss_says_whether_it_needs_equal_shapes() -> None:
    names = set(feature_losses.names())
    wanting = {name for name in names if not takes_any_shapes(feature_losses.get(name))}
    assert wanting == set(NEED_EQUAL)
    assert names - wanting == {*RELATIONAL, "fitnet"}


@pytest.mark.parametrize("name", NEED_EQUAL)
def test_a_loss_of_equal_shapes_is_that_of_the_adapted_maps(name: str) -> None:
    student = [maps(1, (6, 8, 8)), maps(2, (9,))]
    teacher = [maps(3, (3, 4, 4)), maps(4, (5, 2, 2))]
    whole = term(name, student, teacher)
    weights = [tuple(weight.shape) for weight in whole.parameters()]
    assert weights == [(3, 6, 1, 1), (3,), (5, 9), (5,)]
    plain = FeatureTerm(feature_losses.get(name))
    adapters = [part for part in whole.modules() if isinstance(part, Adapter)]
    layers = zip(adapters, student, teacher, strict=True)
    alike = [fit(ours, theirs) for fit, ours, theirs in layers]
    expected = plain([ours for ours, _ in alike], [theirs for _, theirs in alike], LABELS)
    loss = whole(student, teacher, LABELS)
    assert loss.item() == pytest.approx(expected.item())
    torch.autograd.backward(loss)
    gradients = [weight.grad for weight in whole.parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", RELATIONAL)
def test_a_relational_loss_gets_the_maps_as_they_are(name: str) -> None:
    student, teacher = [maps(1, (6, 8, 8))], [maps(3, (3, 4, 4))]
    whole = term(name, student, teacher)
    assert list(whole.parameters()) == []
    alone = FeatureTerm(feature_losses.get(name))(student, teacher, LABELS)
    assert whole(student, teacher, LABELS).item() == alone.item() > 0


@pytest.mark.parametrize("name", NEED_EQUAL)
def test_equal_shapes_need_nothing(name: str) -> None:
    student, teacher = [maps(1, (3, 4, 4))], [maps(2, (3, 4, 4))]
    whole = term(name, student, teacher)
    assert list(whole.parameters()) == []
    alone = FeatureTerm(feature_losses.get(name))(student, teacher, LABELS)
    assert whole(student, teacher, LABELS).item() == alone.item()


def test_layers_of_unequal_number_meet_by_depth() -> None:
    student = [maps(seed, (3, 4, 4)) for seed in (1, 2)]
    teacher = [maps(seed, (3, 4, 4)) for seed in (3, 4, 5)]
    gaps = (student[0] - teacher[1], student[1] - teacher[2])
    expected = pytest.approx(sum(gap.square().mean().item() for gap in gaps))
    assert term("mse", student, teacher)(student, teacher, LABELS).item() == expected
    unseen = FeatureTerm(feature_losses.get("mse"))
    assert unseen(student, teacher, LABELS).item() == expected
    assert unseen(teacher, student, LABELS).item() == expected


def test_losses_of_ones_own_need_equal_shapes_unless_they_say_otherwise() -> None:
    def gap(student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).abs().mean()

    @any_shapes
    def means(student: Tensor, teacher: Tensor) -> Tensor:
        return (student.mean() - teacher.mean()).abs()

    student, teacher = maps(1, (6, 8, 8)), maps(2, (4,))
    shapes = [student.shape[1:]], [teacher.shape[1:]]
    needy, easy, told = (FeatureTerm(each, *shapes, drawn()) for each in (gap, means, Counting))
    assert [tuple(weight.shape) for weight in needy.parameters()] == [(4, 6), (4,)]
    assert list(easy.parameters()) == []
    (scale,) = told.parameters()
    assert scale.tolist() == pytest.approx([3 / math.sqrt(10), 1 / math.sqrt(10)])
    for each in (needy, easy, told):
        assert each.double()([student], [teacher], LABELS).item() > 0
