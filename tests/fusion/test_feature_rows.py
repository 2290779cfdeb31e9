"""Distances without copies: the same numbers and gradients as written out, in every layout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deffd_flower.fusion.features.rows import EuclideanDistance, as_rows, row_pairs


def maps(seed: int, *shape: int, channels_last: bool = False) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(memory_format=torch.channels_last) if channels_last else values


def plain(a: Tensor, b: Tensor) -> Tensor:
    distance: Tensor = (a - b).flatten(1).norm(dim=1)
    return distance


@given(
    shape=st.sampled_from(
        [(3, 4, 5, 6), (1, 4, 5, 6), (3, 1, 5, 6), (3, 4, 1, 1), (3, 7), (2, 3, 4)]
    ),
    formats=st.tuples(st.booleans(), st.booleans()),
)
@settings(deadline=None, max_examples=40)
def test_distance_and_gradients_are_pytorchs(
    shape: tuple[int, ...], formats: tuple[bool, bool]
) -> None:
    def pair() -> tuple[Tensor, Tensor]:
        a, b = (
            maps(seed, *shape, channels_last=last and len(shape) == 4).requires_grad_()
            for seed, last in enumerate(formats)
        )
        return a, b

    ours, theirs = pair(), pair()
    weights = torch.arange(1.0, shape[0] + 1, dtype=torch.float64)
    got, expected = EuclideanDistance.apply(*ours), plain(*theirs)
    torch.testing.assert_close(got, expected)
    torch.autograd.backward([(got * weights).sum(), (expected * weights).sum()])
    for mine, judge in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, judge.grad)


def test_the_gradient_is_the_slope() -> None:
    a, b = (maps(seed, 2, 3, 4, 4, channels_last=True).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(EuclideanDistance.apply, (a, b))


@pytest.mark.parametrize("last", [False, True])
def test_it_is_the_norm_of_the_rows_to_the_bit(last: bool) -> None:
    def pair() -> tuple[Tensor, Tensor]:
        a, b = (maps(seed, 8, 16, 14, 14, channels_last=last).float() for seed in (1, 2))
        return a.requires_grad_(), b

    (a, b), (c, d) = pair(), pair()
    ours, theirs = EuclideanDistance.apply(a, b), as_rows(c - d).norm(dim=1)
    assert torch.equal(ours, theirs)
    (slope,), (judge,) = torch.autograd.grad(ours.mean(), a), torch.autograd.grad(theirs.mean(), c)
    assert torch.equal(slope, judge)


def test_equal_maps_have_no_slope() -> None:
    a = maps(1, 2, 3, 4, 4).requires_grad_()
    b = a.detach().clone()
    b[1] += 1
    torch.autograd.backward(EuclideanDistance.apply(a, b).sum())
    assert a.grad is not None
    assert a.grad[0].abs().max() == 0
    assert a.grad[1].norm().item() == pytest.approx(1)


def test_rows_are_views_in_both_layouts() -> None:
    for last in (False, True):
        values = maps(1, 3, 4, 5, 6, channels_last=last)
        rows = as_rows(values)
        assert rows.shape == (3, 120)
        assert rows.data_ptr() == values.data_ptr()
        assert torch.equal(rows.sort(1).values, values.flatten(1).sort(1).values)


def test_pairs_put_the_same_element_into_the_same_place() -> None:
    a, b = maps(1, 3, 4, 5, 6, channels_last=True), maps(2, 3, 4, 5, 6)
    for one, other in ((a, b), (b, a), (a, b.to(memory_format=torch.channels_last)), (b, b)):
        ours, theirs = row_pairs(one, other)
        torch.testing.assert_close((ours * theirs).sum(1), (one * other).flatten(1).sum(1))
