"""BB84 bit by bit: send, sift, estimate, correct, verify, amplify.

The rate level (`link`) computes what a block gives on average; this module produces one. Both use
the same bound, here on what was counted. Alice and Bob live in one process, but each key is
computed from its owner's bits and what the other side announces.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds import (
    BlockCounts,
    DecoySettings,
    FiniteBound,
    Security,
    bounds,
    qber_threshold,
)
from deffd_flower.qkd.cascade import reconcile
from deffd_flower.qkd.link import QuantumLink, expected_block
from deffd_flower.qkd.toeplitz import seed_bits, toeplitz_hash
from deffd_flower.qkd.transmission import Sifted, transmit
from deffd_flower.randomness import numpy_generator

Bits = NDArray[np.uint8]
NO_BITS: Bits = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True)
class BlockResult:
    """One block of key, or why there is none.

    Args:
        pulses: Pulses Alice sent.
        sifted: Detections in the key basis.
        sampled: How many of them were published to estimate the QBER.
        estimated_qber: The share of those that was wrong.
        aborted: Why the block was thrown away; ``None`` when it was not.
        counts: What the bound was computed from.
        leak: Bits made public by error correction.
        errors: Bits that error correction flipped.
        verified: The two corrected keys have the same hash.
        seed: The matrix of privacy amplification, public and authenticated,
            (raw + secret - 1,), where raw = sifted - sampled.
        alice: Alice's secret key, (secret,).
        bob: Bob's secret key, (secret,).
    """

    pulses: int
    sifted: int
    sampled: int
    estimated_qber: float
    aborted: str | None
    counts: BlockCounts | None = None
    leak: int = 0
    errors: int = 0
    verified: bool = False
    seed: Bits = field(default_factory=NO_BITS.copy, repr=False)
    alice: Bits = field(default_factory=NO_BITS.copy, repr=False)
    bob: Bits = field(default_factory=NO_BITS.copy, repr=False)


def run_block(
    link: QuantumLink,
    pulses: int,
    seed: int,
    intercepted: float = 0.0,
    sample_share: float = 0.05,
) -> BlockResult:
    """Run the whole protocol once.

    Args:
        link: The link; its bound must be a finite-key one. ``block_size`` plays no part: a block
            is what the pulses give.
        pulses: Pulses Alice sends.
        seed: Seed of every random draw.
        intercepted: Share of pulses that Eve measures and sends on.
        sample_share: Share of the key-basis bits published to estimate the QBER.

    Raises:
        RequestError: An argument is out of range, the bound is not a finite-key one, or TNO's
            package is not installed.
    """
    bound = bounds.get(link.bound)
    if not isinstance(bound, FiniteBound):
        raise RequestError("qkd-bound", link.bound, "bit by bit needs lim2014 or rusca2018")
    _check(pulses, intercepted, sample_share)
    settings = link.settings or expected_block(link).settings
    sent = numpy_generator(seed, "qkd-bit-level", 0)
    agreed = numpy_generator(seed, "qkd-bit-level", 1)
    sifted = transmit(link, settings, pulses, intercepted, sent)
    key = np.flatnonzero(sifted.key_basis)
    published = agreed.random(len(key)) < sample_share
    sample, raw = key[published], key[~published]
    wrong = int(np.count_nonzero(sifted.alice[sample] != sifted.bob[sample]))
    estimate = wrong / len(sample) if len(sample) else 0.5
    block = BlockResult(pulses, len(key), len(sample), estimate, None)
    if not len(sample) or not len(raw):
        return replace(block, aborted="too few detections")
    if estimate > qber_threshold(link.error_correction):
        return replace(block, aborted="QBER above threshold")
    return _distil(block, bound, settings, link.security, sifted, raw, agreed)


def _check(pulses: int, intercepted: float, sample_share: float) -> None:
    if pulses < 1:
        raise RequestError("pulses", pulses, "must be at least 1")
    if not 0 <= intercepted <= 1:
        raise RequestError("intercepted", intercepted, "must lie between 0 and 1")
    if not 0 < sample_share < 1:
        raise RequestError("sample-share", sample_share, "must lie between 0 and 1")


def _distil(
    block: BlockResult,
    bound: FiniteBound,
    settings: DecoySettings,
    security: Security,
    sifted: Sifted,
    raw: NDArray[np.int64],
    agreed: np.random.Generator,
) -> BlockResult:
    """Return the block with its keys: correct, verify, bound, amplify."""
    alice, bob = sifted.alice[raw], sifted.bob[raw]
    fixed = reconcile(alice, bob, block.estimated_qber, agreed)
    block = replace(block, leak=fixed.leak, errors=fixed.errors)
    if not same_hash(alice, fixed.corrected, security.correctness, agreed):
        return replace(block, aborted="verification failed")
    counts = _count(sifted, raw, fixed.corrected != bob, len(settings.intensities))
    length = math.floor(bound.secret_length(counts, settings, security, fixed.leak))
    block = replace(block, verified=True, counts=counts)
    if length <= 0:
        return replace(block, aborted="no secret bits left")
    matrix = _random_bits(seed_bits(len(raw), length), agreed)
    return replace(
        block,
        seed=matrix,
        alice=toeplitz_hash(alice, matrix, length),
        bob=toeplitz_hash(fixed.corrected, matrix, length),
    )


def _random_bits(count: int, generator: np.random.Generator) -> Bits:
    return generator.integers(0, 2, count, dtype=np.uint8)


def same_hash(alice: Bits, bob: Bits, correctness: float, agreed: np.random.Generator) -> bool:
    """Return whether both keys hash alike; wrongly with a chance of at most ``correctness``.

    The bound charges log2(2 / correctness) bits, which covers the hash Alice sends.
    """
    length = math.ceil(math.log2(1 / correctness))
    matrix = _random_bits(seed_bits(len(alice), length), agreed)
    tag = toeplitz_hash(alice, matrix, length)
    return np.array_equal(tag, toeplitz_hash(bob, matrix, length))


def _count(
    sifted: Sifted, raw: NDArray[np.int64], flipped: NDArray[np.bool_], intensities: int
) -> BlockCounts:
    """Return what both know after verification: errors Bob flipped, and the test basis."""
    test = np.flatnonzero(~sifted.key_basis)
    test_wrong = test[sifted.alice[test] != sifted.bob[test]]

    def per_intensity(places: NDArray[np.int64]) -> list[float]:
        return [float(n) for n in np.bincount(sifted.intensity[places], minlength=intensities)]

    return BlockCounts(
        key=per_intensity(raw),
        key_errors=per_intensity(raw[flipped]),
        test=per_intensity(test),
        test_errors=per_intensity(test_wrong),
    )
