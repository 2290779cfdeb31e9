"""Finite-key length of decoy-state BB84: what the one-decoy and two-decoy bounds share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds.block import (
    BlockCounts,
    DecoySettings,
    KeyBlock,
    Security,
    binary_entropy,
    qber_threshold,
    silent_block,
)
from deffd_flower.qkd.bounds.optimum import best_settings

if TYPE_CHECKING:
    from deffd_flower.qkd.link import QuantumLink


@dataclass(frozen=True)
class SinglePhotons:
    """What the decoys reveal about a block, each number on the safe side.

    Args:
        vacuum: Key-basis detections of empty pulses, at least.
        single: Key-basis detections of single photons, at least.
        test_single: Test-basis detections of single photons, at least.
        test_errors: Wrong ones among ``test_single``, at most.
    """

    vacuum: float
    single: float
    test_single: float
    test_errors: float


Estimator = Callable[[BlockCounts, DecoySettings, float], SinglePhotons]


@dataclass(frozen=True)
class FiniteBound:
    """A finite-key bound with its decoy estimators; call it with a link.

    Args:
        shares: Equal parts the secrecy error is divided into.
        estimate: Decoy estimators, from counts, settings and ln(shares / secrecy).
        fixed_intensities: The faintest intensities, which optimisation leaves alone.
        starts: Settings from which optimisation starts.
    """

    shares: int
    estimate: Estimator
    fixed_intensities: tuple[float, ...]
    starts: tuple[DecoySettings, ...]

    def phase_error(self, photons: SinglePhotons, secrecy: float) -> float:
        """Return an upper bound on the phase error rate of the key basis, at most 1/2.

        Source: Lim et al. (2014), eq. (5), sampling without replacement.
        """
        tested, kept = photons.test_single, photons.single
        if tested <= 0 or kept <= 0 or photons.test_errors >= tested:
            return 0.5
        # A sample without a single error still leaves room for one.
        rate = max(photons.test_errors, 1.0) / tested
        if rate >= 0.5:
            return 0.5
        inverse_size = (tested + kept) / (tested * kept)
        variance = rate * (1 - rate)
        confidence = math.log2(inverse_size / variance * (self.shares / secrecy) ** 2)
        confidence = max(confidence, 0.0)
        return min(rate + math.sqrt(inverse_size * variance * confidence / math.log(2)), 0.5)

    def secret_length(
        self, counts: BlockCounts, settings: DecoySettings, security: Security, leak: float
    ) -> float:
        """Return the secret bits in a block; not rounded, negative when there are none.

        Args:
            counts: Detections and errors of the block.
            settings: The choice they come from.
            security: Tolerated deviation of the final key.
            leak: Bits made public by error correction.

        Source: Lim et al. (2014), eq. (1); Rusca et al. (2018), eq. (2).
        """
        if not security.per_bit:
            return self._length(counts, settings, security.secrecy, security.correctness, leak)
        length = sum(counts.key)
        for _ in range(6):
            secrecy = min(security.secrecy * max(length, 1.0), 0.5)
            length = self._length(counts, settings, secrecy, security.correctness, leak)
        return length

    def _length(
        self,
        counts: BlockCounts,
        settings: DecoySettings,
        secrecy: float,
        correctness: float,
        leak: float,
    ) -> float:
        photons = self.estimate(counts, settings, math.log(self.shares / secrecy))
        entropy = 1 - binary_entropy(self.phase_error(photons, secrecy))
        price = 6 * math.log2(self.shares / secrecy) + math.log2(2 / correctness)
        return photons.vacuum + photons.single * entropy - leak - price

    def __call__(self, link: "QuantumLink") -> KeyBlock:
        """Return the expected block of a link, at its own settings or the best ones."""
        settings = link.settings or best_settings(self, link)
        block = self.expected(link, settings)
        hopeless = block.qber > qber_threshold(link.error_correction)
        return replace(block, secret=0.0 if hopeless else float(max(math.floor(block.secret), 0)))

    def expected(self, link: "QuantumLink", settings: DecoySettings) -> KeyBlock:
        """Return the expected block with ``secret`` neither rounded nor cut off at zero."""
        gains = link.gains(settings)
        wrong = link.error_gains(settings)
        if sum(gains) <= 0:
            return silent_block(link.block_size, settings)
        pulses = link.block_size / (settings.key_basis**2 * sum(gains))
        counts = expected_counts(pulses, settings, gains, wrong)
        qber = sum(wrong) / sum(gains)
        leak = link.block_size * link.error_correction * binary_entropy(qber)
        secret = self.secret_length(counts, settings, link.security, leak)
        return KeyBlock(pulses, link.block_size, qber, leak, secret, settings)


def expected_counts(
    pulses: float, settings: DecoySettings, gains: list[float], wrong: list[float]
) -> BlockCounts:
    """Return the expected counts, from joint gains (intensity chosen and detected) per pulse."""
    key = pulses * settings.key_basis**2
    test = pulses * (1 - settings.key_basis) ** 2
    return BlockCounts(
        key=[key * gain for gain in gains],
        key_errors=[key * gain for gain in wrong],
        test=[test * gain for gain in gains],
        test_errors=[test * gain for gain in wrong],
    )


def confidence_limits(
    counts: Sequence[float], settings: DecoySettings, log_inverse: float
) -> tuple[list[float], list[float]]:
    """Return, per intensity k, the limits of e^k / p_k times the expected count.

    Args:
        counts: Observed count per intensity.
        settings: Intensities k and their probabilities p_k.
        log_inverse: ln(1 / failure probability of one limit).

    Raises:
        RequestError: One of the intensities is never sent.

    Source: Hoeffding's inequality, as in Lim et al. (2014), below eq. (2).
    """
    if min(settings.probabilities) <= 0:
        advice = "a finite-key bound needs every intensity, each above 0"
        raise RequestError("probabilities", settings.probabilities, advice)
    width = math.sqrt(sum(counts) / 2 * log_inverse)
    lower, upper = [], []
    for k, p, count in zip(settings.intensities, settings.probabilities, counts, strict=True):
        lower.append(math.exp(k) / p * (count - width))
        upper.append(math.exp(k) / p * (count + width))
    return lower, upper
