"""What every key-rate bound reads and writes, and the two entropy formulas they share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from deffd_flower.errors import RequestError


@dataclass(frozen=True)
class DecoySettings:
    """How Alice and Bob choose, pulse by pulse.

    Args:
        intensities: Mean photon numbers, brightest first.
        probabilities: How often Alice sends each of them.
        key_basis: Probability of the key basis, the same for Alice and Bob.

    Raises:
        RequestError: The numbers do not describe such a choice.
    """

    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]
    key_basis: float = 0.5

    def __post_init__(self) -> None:
        pairs = zip(self.intensities, self.intensities[1:], strict=False)
        if not self.intensities or any(a <= b for a, b in pairs) or self.intensities[-1] < 0:
            raise RequestError("intensities", self.intensities, "must fall, and end at 0 or above")
        if len(self.probabilities) != len(self.intensities) or min(self.probabilities) < 0:
            raise RequestError(
                "probabilities", self.probabilities, "one per intensity, none below 0"
            )
        if not math.isclose(sum(self.probabilities), 1, abs_tol=1e-9):
            raise RequestError("probabilities", self.probabilities, "must add up to 1")
        if not 0 < self.key_basis <= 1:
            raise RequestError("key-basis", self.key_basis, "must be above 0 and at most 1")

    def photon_probability(self, photons: int) -> float:
        """Return the probability that a pulse holds this many photons, over all intensities."""
        return sum(
            p * math.exp(-mu) * mu**photons / math.factorial(photons)
            for mu, p in zip(self.intensities, self.probabilities, strict=True)
        )


@dataclass(frozen=True)
class Security:
    """How much the final key may deviate from an ideal one.

    Args:
        secrecy: Trace distance to a key Eve knows nothing of.
        correctness: Probability that the two keys differ unnoticed.
        per_bit: Read ``secrecy`` as per bit of final key, as Lim et al. (2014) do.
    """

    secrecy: float = 1e-9
    correctness: float = 1e-15
    per_bit: bool = False

    def __post_init__(self) -> None:
        for key, value in (("secrecy", self.secrecy), ("correctness", self.correctness)):
            if not 0 < value < 1:
                raise RequestError(key, value, "must lie between 0 and 1")


@dataclass(frozen=True)
class BlockCounts:
    """Detections of one block with matching bases, and the wrong ones, per intensity.

    The rate level fills in expectations, the bit level what it counted.
    """

    key: Sequence[float]
    key_errors: Sequence[float]
    test: Sequence[float]
    test_errors: Sequence[float]


@dataclass(frozen=True)
class KeyBlock:
    """What one block costs and what it gives.

    Args:
        pulses: Pulses Alice sends until the block is full; infinite if it never will be.
        sifted: Detections in the key basis.
        qber: Share of them that is wrong.
        leak: Bits that error correction makes public.
        secret: Secret bits that remain; 0 when the block is thrown away.
        settings: How Alice and Bob chose.
    """

    pulses: float
    sifted: float
    qber: float
    leak: float
    secret: float
    settings: DecoySettings


def silent_block(sifted: float, settings: DecoySettings) -> KeyBlock:
    """Return the block of a link on which nothing is ever detected: it never fills."""
    return KeyBlock(math.inf, sifted, 0.5, 0.0, 0.0, settings)


def binary_entropy(p: float) -> float:
    """Return h(p) = -p log2 p - (1-p) log2 (1-p), in bits."""
    if p <= 0 or p >= 1:
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def falling_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses zero between two points, by bisection."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return low


@lru_cache(maxsize=256)
def qber_threshold(error_correction: float = 1.0) -> float:
    """Return the QBER above which one-way BB84 yields no key: 1 - h(Q) - f h(Q) = 0.

    Source: Shor and Preskill, PRL 85, 441 (2000), with f = 1: 11.0028 %.
    """
    return falling_root(lambda q: 1 - (1 + error_correction) * binary_entropy(q), 0.0, 0.5)


def plob_bound(transmittance: float) -> float:
    """Return the most secret bits per pulse that any protocol without repeater can give.

    Source: Pirandola, Laurenza, Ottaviani and Banchi, Nat. Commun. 8, 15043 (2017).
    """
    return -math.log2(1 - transmittance)
