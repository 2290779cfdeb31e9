"""A client's samples split into those it trains on and those it is judged on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.data.split import Indices, client_split, stratified_split
from deffd_flower.errors import RequestError


def counted(sizes: list[int]) -> Indices:
    return np.repeat(np.arange(len(sizes)), sizes)


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


class_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)
fractions = st.floats(0.01, 0.99)


@given(class_sizes, fractions)
def test_split_is_a_partition_of_the_samples(sizes: list[int], fraction: float) -> None:
    labels = counted(sizes)
    train, test = stratified_split(labels, fraction, generator())
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))


@given(class_sizes, fractions)
def test_held_out_total_is_the_rounded_fraction_as_far_as_classes_allow(
    sizes: list[int], fraction: float
) -> None:
    labels = counted(sizes)
    _, test = stratified_split(labels, fraction, generator())
    n, room = len(labels), len(labels) - len(sizes)
    if room:
        assert len(test) == min(max(round(n * fraction), 1), room)
    else:
        assert len(test) == (1 if n >= 2 else 0)


@given(class_sizes, fractions)
def test_every_class_keeps_a_sample_to_train_on(sizes: list[int], fraction: float) -> None:
    labels = counted(sizes)
    train, test = stratified_split(labels, fraction, generator())
    if len(labels) > len(sizes):
        assert set(labels[train]) == set(range(len(sizes)))
        assert not any(sizes[label] == 1 for label in labels[test])


@given(st.lists(st.integers(10, 60), min_size=1, max_size=10))
def test_each_class_is_held_out_within_one_sample_of_its_quota(sizes: list[int]) -> None:
    labels = counted(sizes)
    _, test = stratified_split(labels, 0.2, generator())
    held_out = np.bincount(labels[test], minlength=len(sizes))
    assert (abs(held_out - 0.2 * np.array(sizes)) < 1).all()


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [4, 7, 9]])
def test_neither_half_is_empty_from_two_samples_on(labels: list[int]) -> None:
    for fraction in (0.01, 0.2, 0.99):
        train, test = stratified_split(np.array(labels), fraction, generator())
        assert len(train) >= 1
        assert len(test) >= 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, float("nan")])
def test_a_fraction_outside_of_0_and_1_is_refused_by_its_key(fraction: float) -> None:
    with pytest.raises(RequestError, match="local-test-fraction"):
        stratified_split(np.array([0, 1]), fraction, generator())


def test_client_split_gives_indices_into_the_whole_set_and_their_label_counts() -> None:
    labels = np.tile(np.arange(5), 40)
    own = np.arange(0, 200, 4)
    split = client_split(own, labels, 6, 0.2, seed=1, partition_id=0)
    assert np.array_equal(np.sort(np.concatenate([split.train, split.test])), own)
    assert split.train_counts.tolist() == [8, 8, 8, 8, 8, 0]
    assert split.test_counts.tolist() == [2, 2, 2, 2, 2, 0]
    assert np.array_equal(np.bincount(labels[split.train], minlength=6), split.train_counts)


def test_client_split_depends_on_seed_and_partition_id_alone() -> None:
    labels = np.tile(np.arange(5), 40)
    own = np.arange(100)

    def test_half(seed: int, partition_id: int) -> list[int]:
        split = client_split(own, labels, 5, 0.2, seed, partition_id)
        return [int(index) for index in split.test]

    assert test_half(1, 2) == test_half(1, 2)
    assert test_half(1, 2) != test_half(1, 3)
    assert test_half(1, 2) != test_half(2, 2)
