"""Which layers meet where one model has more of them than the other."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.fusion.features import matched


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (2, 3, [(0, 1), (1, 2)]),
        (3, 2, [(1, 0), (2, 1)]),
        (1, 4, [(0, 3)]),
        (3, 20, [(0, 6), (1, 12), (2, 19)]),
        (20, 2, [(9, 0), (19, 1)]),
    ],
)
def test_layers_meet_at_the_same_relative_depth(
    student: int, teacher: int, pairs: list[tuple[int, int]]
) -> None:
    assert matched(student, teacher) == pairs


@given(student=st.integers(1, 60), teacher=st.integers(1, 60))
def test_every_layer_of_the_smaller_model_meets_the_nearest_and_none_twice(
    student: int, teacher: int
) -> None:
    pairs = matched(student, teacher)
    few, many = min(student, teacher), max(student, teacher)
    own, others = zip(*(pair if student == few else pair[::-1] for pair in pairs), strict=True)
    assert own == tuple(range(few))
    assert list(others) == sorted(set(others))
    assert others[-1] == many - 1
    for layer, other in zip(own, others, strict=True):
        depth = Fraction(layer + 1, few)
        assert other + 1 == floor(depth * many + Fraction(1, 2)), "the formula of the docstring"
        gaps = [abs(Fraction(each, many) - depth) for each in range(1, many + 1)]
        assert gaps[other] == min(gaps)
    assert [(theirs, ours) for ours, theirs in matched(teacher, student)] == pairs
