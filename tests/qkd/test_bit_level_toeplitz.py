"""Toeplitz hashing by Fourier transform is the matrix product it stands for."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deffd_flower.qkd.toeplitz import seed_bits, toeplitz_hash

Bits = NDArray[np.uint8]


def matrix_of(seed: Bits, bits: int, length: int) -> Bits:
    rows = [[seed[i - j + bits - 1] for j in range(bits)] for i in range(length)]
    return np.array(rows, dtype=np.uint8).reshape(length, bits)


@given(bits=st.integers(1, 70), length=st.integers(1, 70), draw=st.integers(0, 2**32))
def test_equals_the_naive_matrix_product(bits: int, length: int, draw: int) -> None:
    generator = np.random.default_rng(draw)
    seed = generator.integers(0, 2, seed_bits(bits, length), dtype=np.uint8)
    message = generator.integers(0, 2, bits, dtype=np.uint8)
    matrix = matrix_of(seed, bits, length)
    assert (matrix[1:, 1:] == matrix[:-1, :-1]).all()
    naive = matrix.astype(int) @ message.astype(int) % 2
    assert toeplitz_hash(message, seed, length).tolist() == naive.tolist()


def test_stays_exact_for_a_million_bits() -> None:
    # All ones make the largest sums; the parity of each is known.
    bits, length = 1_000_000, 300_000
    ones = np.ones(seed_bits(bits, length), dtype=np.uint8)
    assert not toeplitz_hash(ones[:bits], ones, length).any()
    odd = ones[:bits].copy()
    odd[12_345] = 0
    assert toeplitz_hash(odd, ones, length).all()


def test_agrees_with_integer_convolution_on_a_long_random_key() -> None:
    generator = np.random.default_rng(7)
    bits, length = 20_000, 9_001
    seed = generator.integers(0, 2, seed_bits(bits, length), dtype=np.uint8)
    message = generator.integers(0, 2, bits, dtype=np.uint8)
    backwards = int("".join(map(str, message[::-1])), 2)
    rows = [int("".join(map(str, seed[i : i + bits])), 2) for i in range(0, length, 500)]
    expected = [(row & backwards).bit_count() & 1 for row in rows]
    # Row i of the matrix, read backwards, is the window of the seed that starts at i.
    assert toeplitz_hash(message, seed, length)[::500].tolist() == expected


def test_two_messages_collide_for_exactly_two_to_the_minus_length_of_all_seeds() -> None:
    bits, length = 4, 3
    seeds = [np.array(s, dtype=np.uint8) for s in product((0, 1), repeat=seed_bits(bits, length))]
    messages = [np.array(m, dtype=np.uint8) for m in product((0, 1), repeat=bits)]
    for first, second in ((0, 1), (3, 12), (5, 15), (0, 15)):
        hits = sum(
            np.array_equal(
                toeplitz_hash(messages[first], seed, length),
                toeplitz_hash(messages[second], seed, length),
            )
            for seed in seeds
        )
        assert hits == len(seeds) // 2**length


def test_a_seed_of_the_wrong_length_is_refused() -> None:
    message = np.ones(10, dtype=np.uint8)
    with pytest.raises(ValueError, match="a seed of 13 bits is needed, not 12"):
        toeplitz_hash(message, np.ones(12, dtype=np.uint8), 4)


def test_nothing_hashes_to_nothing() -> None:
    empty = np.zeros(0, dtype=np.uint8)
    assert toeplitz_hash(np.ones(5, dtype=np.uint8), empty, 0).size == 0
    assert toeplitz_hash(empty, empty, 3).tolist() == [0, 0, 0]
