"""Infinitely many pulses: Ma, Qi, Zhao and Lo, PRA 72, 012326 (2005)."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds.block import (
    DecoySettings,
    KeyBlock,
    binary_entropy,
    falling_root,
    qber_threshold,
    silent_block,
)
from deffd_flower.qkd.bounds.registry import bounds

if TYPE_CHECKING:
    from deffd_flower.qkd.link import QuantumLink

WEAK_INTENSITY = 0.05


@lru_cache(maxsize=256)
def optimal_intensity(misalignment: float, error_correction: float) -> float:
    """Return the best signal intensity where dark counts do not matter, eq. (12).

    Solves (1 - mu) exp(-mu) = f h(e_d) / (1 - h(e_d)). Where no intensity gives key, returns the
    faintest the search knows.
    """
    entropy = binary_entropy(min(misalignment, 0.5))
    target = error_correction * entropy / max(1 - entropy, 1e-12)
    return falling_root(lambda mu: (1 - mu) * math.exp(-mu) - target, 1e-3, 1.0)


def sifting(settings: DecoySettings) -> float:
    """Return how often the bases match; both give key when blocks are endless."""
    return settings.key_basis**2 + (1 - settings.key_basis) ** 2


def signal_block(link: "QuantumLink", settings: DecoySettings, rate: float) -> KeyBlock:
    """Return a block of signal bits, at ``rate`` secret bits per sifted pulse."""
    gain, qber = signal(link, settings.intensities[0])
    if gain <= 0:
        return silent_block(link.block_size, settings)
    leak = link.block_size * link.error_correction * binary_entropy(qber)
    hopeless = qber > qber_threshold(link.error_correction)
    secret = 0.0 if hopeless else float(math.floor(max(rate, 0.0) / gain * link.block_size))
    pulses = link.block_size / (sifting(settings) * gain)
    return KeyBlock(pulses, link.block_size, qber, leak, secret, settings)


def signal(link: "QuantumLink", mu: float) -> tuple[float, float]:
    """Return gain and QBER of the signal pulses."""
    gain = link.gain(mu)
    return gain, link.error_gain(mu) / gain if gain > 0 else 0.5


def gllp_rate(
    gain: float, qber: float, single_gain: float, single_error: float, error_correction: float
) -> float:
    """Return secret bits per sifted pulse, -Q f h(E) + Q_1 [1 - h(e_1)], eq. (1).

    Args:
        gain: Q, probability that a signal pulse is detected.
        qber: E, share of these detections that is wrong.
        single_gain: Q_1, probability that a signal pulse held one photon and is detected.
        single_error: e_1, share of those that is wrong.
        error_correction: f, bits leaked over the Shannon limit.
    """
    corrected = gain * error_correction * binary_entropy(qber)
    return single_gain * (1 - binary_entropy(min(single_error, 0.5))) - corrected


@bounds.register("asymptotic")
def infinite_decoys(link: "QuantumLink") -> KeyBlock:
    """Return the block when yield and error of single photons are known exactly, eqs. (7), (9).

    Without settings: the best signal intensity, and both bases equally often.
    """
    settings = link.settings or DecoySettings(
        (optimal_intensity(link.detector.misalignment, link.error_correction),), (1.0,)
    )
    mu = settings.intensities[0]
    single = link.single_photon_gain
    error = link.single_photon_error_gain / single if single > 0 else 0.5
    rate = gllp_rate(*signal(link, mu), single * mu * math.exp(-mu), error, link.error_correction)
    return signal_block(link, settings, rate)


def vacuum_weak_estimates(link: "QuantumLink", mu: float, weak: float) -> tuple[float, float]:
    """Return the least yield and the largest error rate of single photons, eqs. (34) and (37)."""
    y0 = link.gain(0.0)
    weak_gain = link.gain(weak) * math.exp(weak)
    ratio = (weak / mu) ** 2
    excess = weak_gain - link.gain(mu) * math.exp(mu) * ratio - (1 - ratio) * y0
    single_yield = max(mu / (mu * weak - weak**2) * excess, 0.0)
    wrong = link.error_gain(weak) * math.exp(weak) - link.error_gain(0.0)
    error = wrong / (single_yield * weak) if single_yield > 0 else 0.5
    return single_yield, min(error, 0.5)


@bounds.register("vacuum-weak")
def vacuum_and_weak(link: "QuantumLink") -> KeyBlock:
    """Return the block when the decoys are an empty and a weak pulse.

    Raises:
        RequestError: The settings have no such weak intensity.
    """
    best = optimal_intensity(link.detector.misalignment, link.error_correction)
    settings = link.settings or DecoySettings(
        (max(best, 2 * WEAK_INTENSITY), WEAK_INTENSITY, 0.0), (1.0, 0.0, 0.0)
    )
    if len(settings.intensities) != 3 or settings.intensities[2] > 0:
        raise RequestError("intensities", settings.intensities, "vacuum-weak needs mu > nu > 0")
    mu, weak, _ = settings.intensities
    single, error = vacuum_weak_estimates(link, mu, weak)
    rate = gllp_rate(*signal(link, mu), single * mu * math.exp(-mu), error, link.error_correction)
    return signal_block(link, settings, rate)
