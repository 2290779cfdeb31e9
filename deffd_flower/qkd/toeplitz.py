"""Universal hashing by random Toeplitz matrices: verification and privacy amplification."""

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def seed_bits(bits: int, length: int) -> int:
    """Return how many random bits name one Toeplitz matrix from ``bits`` to ``length`` bits."""
    return bits + length - 1 if bits and length else 0


def toeplitz_hash(bits: Bits, seed: Bits, length: int) -> Bits:
    """Return T @ bits over GF(2), where T[i, j] = seed[i - j + n - 1].

    Any two inputs collide for a share 2^-length of all seeds. A Fourier transform does the
    product in n log n steps; its sums stay exact far beyond the 2^26 bits of the largest blocks.

    Args:
        bits: The input, (n,).
        seed: The matrix, (n + length - 1,): first column upwards, then first row.
        length: Bits of output.

    Returns:
        The hash, (length,).

    Raises:
        ValueError: The seed has the wrong length.

    Source: Krawczyk, CRYPTO '94; for privacy amplification, Hayashi and Tsurumaru,
    IEEE Trans. Inf. Theory 62, 2213 (2016).
    """
    if len(seed) != seed_bits(len(bits), length):
        expected = seed_bits(len(bits), length)
        raise ValueError(f"a seed of {expected} bits is needed, not {len(seed)}")
    if not len(seed):
        return np.zeros(length, dtype=np.uint8)
    # The product sits where a circular convolution of this size does not wrap around.
    size = 1 << (len(seed) - 1).bit_length()
    spectrum = np.fft.rfft(seed, size) * np.fft.rfft(bits, size)
    sums = np.fft.irfft(spectrum, size)[len(bits) - 1 : len(seed)]
    return (np.rint(sums).astype(np.int64) & 1).astype(np.uint8)
