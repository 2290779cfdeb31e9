"""Sending pulses one by one: Alice prepares, Eve may intercept, Bob measures, both sift."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deffd_flower.qkd.bounds import DecoySettings
from deffd_flower.qkd.link import QuantumLink

Bits = NDArray[np.uint8]
Flags = NDArray[np.bool_]

CHUNK = 1_000_000


@dataclass(frozen=True)
class Sifted:
    """The n pulses that Bob detected in the basis Alice had chosen.

    Args:
        alice: Alice's bits, (n,).
        bob: Bob's bits, (n,).
        key_basis: Whether that basis is the key basis, (n,).
        intensity: Index of the intensity Alice had chosen, (n,).
    """

    alice: Bits
    bob: Bits
    key_basis: Flags
    intensity: Bits


def transmit(
    link: QuantumLink,
    settings: DecoySettings,
    pulses: int,
    intercepted: float,
    generator: np.random.Generator,
) -> Sifted:
    """Send pulses over a link and return those that survive sifting.

    Args:
        link: Fibre and detectors.
        settings: Intensities and basis choice.
        pulses: How many to send.
        intercepted: Share of pulses that Eve measures and sends on.
        generator: Draws every choice, every photon and every click.
    """
    sizes = [min(CHUNK, pulses - start) for start in range(0, pulses, CHUNK)]
    chunks = [_transmit_chunk(link, settings, size, intercepted, generator) for size in sizes]
    return Sifted(
        np.concatenate([chunk.alice for chunk in chunks]),
        np.concatenate([chunk.bob for chunk in chunks]),
        np.concatenate([chunk.key_basis for chunk in chunks]),
        np.concatenate([chunk.intensity for chunk in chunks]),
    )


def _transmit_chunk(
    link: QuantumLink,
    settings: DecoySettings,
    pulses: int,
    intercepted: float,
    generator: np.random.Generator,
) -> Sifted:
    alice_basis = generator.random(pulses) < settings.key_basis
    alice = _coins(pulses, generator)
    edges = np.cumsum(settings.probabilities)[:-1]
    intensity = np.searchsorted(edges, generator.random(pulses), side="right").astype(np.uint8)
    basis, bit = _intercept(alice_basis, alice, intercepted, generator)
    bob_basis = generator.random(pulses) < settings.key_basis
    clicked, bob = _measure(link, settings, intensity, bit, basis == bob_basis, generator)
    kept = clicked & (alice_basis == bob_basis)
    return Sifted(alice[kept], bob[kept], alice_basis[kept], intensity[kept])


def _coins(count: int, generator: np.random.Generator) -> Bits:
    return generator.integers(0, 2, count, dtype=np.uint8)


def _intercept(
    basis: Flags, bit: Bits, share: float, generator: np.random.Generator
) -> tuple[Flags, Bits]:
    """Return the states on the fibre after Eve measured a share of them in random bases.

    She sits at Alice's door, loses nothing, and sends pulses as bright as those she took.
    """
    if share == 0:
        return basis, bit
    taken = generator.random(len(bit)) < share
    eve_basis = generator.random(len(bit)) < 0.5
    eve_bit = np.where(eve_basis == basis, bit, _coins(len(bit), generator))
    return np.where(taken, eve_basis, basis), np.where(taken, eve_bit, bit)


def _measure(
    link: QuantumLink,
    settings: DecoySettings,
    intensity: Bits,
    bit: Bits,
    bases_match: Flags,
    generator: np.random.Generator,
) -> tuple[Flags, Bits]:
    """Return which pulses Bob detects, and his bits.

    The light splits between two detectors, evenly where the bases differ. Both may click; then
    Bob tosses a coin. An after-pulse counts towards the intensity that caused it, as in Lim et
    al. (2014), and brings a random bit.
    """
    detector = link.detector
    toward_one = np.where(bit == 1, 1 - detector.misalignment, detector.misalignment)
    toward_one = np.where(bases_match, toward_one, 0.5)
    light = link.transmittance * np.array(settings.intensities)[intensity]
    one = _click(light * toward_one, detector.dark_count, generator)
    zero = _click(light * (1 - toward_one), detector.dark_count, generator)
    detected = np.array([link.gain(mu) for mu in settings.intensities])
    detected /= 1 + detector.after_pulse
    chance = detector.after_pulse * detected / (1 - detected)
    echo = ~(one | zero) & (generator.random(len(bit)) < chance[intensity])
    tossed = _coins(len(bit), generator)
    return one | zero | echo, np.where(one ^ zero, one, tossed).astype(np.uint8)


def _click(light: NDArray[np.float64], dark_count: float, generator: np.random.Generator) -> Flags:
    quiet: Flags = generator.random(len(light)) < (1 - dark_count) * np.exp(-light)
    return ~quiet
