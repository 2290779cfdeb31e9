"""Whole numbers of samples, near given proportions and within the stock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from deffd_flower.data.allocation import (
    Counts,
    OutOfStockError,
    apportion,
    fit_to_stock,
    largest_size,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_apportion_is_the_largest_remainder_method() -> None:
    # Quotas 4.7, 3.1, 2.2: floors 4, 3, 2, and the one left over goes to the largest remainder.
    weights = np.array([[4.7, 3.1, 2.2]])
    counts = apportion(weights, np.array([10]), np.zeros((1, 3), dtype=np.int64), generator())
    assert counts.tolist() == [[5, 3, 2]]


def test_apportion_breaks_ties_at_random() -> None:
    weights, least = np.ones((200, 3)), np.zeros((200, 3), dtype=np.int64)
    counts = apportion(weights, np.full(200, 10), least, generator())
    assert np.array_equal(np.sort(counts, axis=1), np.tile([3, 3, 4], (200, 1)))
    assert ((counts == 4).sum(axis=0) > 40).all()


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(0, 3), st.integers(0, 100))
def test_apportion_meets_totals_and_least(seed: int, columns: int, least: int, more: int) -> None:
    weights = generator(seed).dirichlet([0.1] * columns, size=4) + 1e-300
    floor = np.full((4, columns), least)
    totals = floor.sum(axis=1) + more
    counts = apportion(weights, totals, floor, generator(seed))
    assert np.array_equal(counts.sum(axis=1), totals)
    assert (counts >= floor).all()


def test_apportion_gives_nothing_where_the_weight_is_zero() -> None:
    weights = np.tile([0.0, 1.0, 0.0, 2.0], (50, 1))
    least = np.zeros((50, 4), dtype=np.int64)
    counts = apportion(weights, np.arange(50), least, generator())
    assert not counts[:, [0, 2]].any()
    assert np.array_equal(counts.sum(axis=1), np.arange(50))


def feasible(allowed: NDArray[np.bool_], size: int, stock: Counts, least: Counts) -> bool:
    """Tell by linear programming whether an allocation exists: the independent reference."""
    clients, classes = allowed.shape
    rows = np.kron(np.eye(clients), np.ones(classes))
    columns = np.tile(np.eye(classes), clients)
    upper = np.where(allowed, float(size), 0.0).ravel()
    lower = least.ravel().astype(float)
    if (lower > upper).any():
        return False
    answer = linprog(
        np.zeros(clients * classes),
        A_ub=columns,
        b_ub=stock,
        A_eq=rows,
        b_eq=np.full(clients, size),
        bounds=list(zip(lower.tolist(), upper.tolist(), strict=True)),
    )
    return bool(answer.status == 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 5), st.integers(2, 14))
def test_an_allocation_is_found_exactly_when_there_is_one(
    seed: int, clients: int, classes: int, size: int
) -> None:
    random = generator(seed)
    allowed = random.random((clients, classes)) < 0.5
    allowed[np.arange(clients), random.integers(classes, size=clients)] = True
    stock = random.integers(1, 16, size=classes)
    least = allowed.astype(np.int64)
    weights = np.where(allowed, random.random((clients, classes)) + 1e-9, 0.0)
    if feasible(allowed, size, stock, least):
        counts = fit_to_stock(weights, size, stock, least, random)
        assert (counts.sum(axis=1) == size).all()
        assert (counts.sum(axis=0) <= stock).all()
        assert (counts >= least).all()
        assert not counts[~allowed].any()
    else:
        with pytest.raises(OutOfStockError):
            fit_to_stock(weights, size, stock, least, random)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 4))
def test_the_largest_size_fits_and_one_more_does_not(seed: int, clients: int, classes: int) -> None:
    random = generator(seed)
    allowed = np.zeros((clients, classes), dtype=bool)
    for row in allowed:
        row[random.permutation(classes)[:2]] = True
    stock = random.integers(1, 20, size=classes)
    least = allowed.astype(np.int64)
    size = largest_size(allowed, stock, least)
    if size:
        assert feasible(allowed, size, stock, least)
    assert not feasible(allowed, max(size + 1, 2), stock, least)


def test_ample_stock_leaves_the_wanted_proportions_alone() -> None:
    weights = generator().dirichlet([0.5] * 6, size=20)
    least = np.zeros((20, 6), dtype=np.int64)
    counts = fit_to_stock(weights, 500, np.full(6, 10_000), least, generator())
    assert abs(counts - 500 * weights).max() < 1


def test_scarce_stock_changes_proportions_no_more_than_it_must() -> None:
    # Two clients want 90 of class 0, of which there are 100: each gets 50, the rest from class 1.
    weights = np.array([[0.9, 0.1], [0.9, 0.1]])
    least = np.zeros((2, 2), dtype=np.int64)
    counts = fit_to_stock(weights, 100, np.array([100, 200]), least, generator())
    assert counts.tolist() == [[50, 50], [50, 50]]


def test_what_a_scarce_class_lacks_comes_from_the_others_in_their_proportion() -> None:
    weights = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    least = np.zeros((2, 3), dtype=np.int64)
    counts = fit_to_stock(weights, 100, np.array([80, 500, 500]), least, generator())
    assert counts.tolist() == [[40, 40, 20], [40, 40, 20]]


def test_samples_of_other_clients_move_when_that_is_the_only_way() -> None:
    # Client 1 owns class 0 alone, so client 0 must leave all of it and live on class 1.
    weights = np.array([[0.99, 0.01], [1.0, 0.0]])
    least = np.zeros((2, 2), dtype=np.int64)
    counts = fit_to_stock(weights, 10, np.array([10, 10]), least, generator())
    assert counts.tolist() == [[0, 10], [10, 0]]
