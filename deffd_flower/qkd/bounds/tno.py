"""Bounds computed by TNO's package: Attema, Bosman and Neumann, Quantum Inf. Process. 20 (2021).

Its finite-key estimate is not offered. In version 2.0.4 it bounds the single-photon errors from
below where a secure bound needs them from above, and so reports key far beyond 11 % QBER.
"""

import math
from typing import TYPE_CHECKING, Any

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds.asymptotic import signal, signal_block
from deffd_flower.qkd.bounds.block import DecoySettings, KeyBlock, binary_entropy
from deffd_flower.qkd.bounds.registry import bounds

if TYPE_CHECKING:
    from deffd_flower.qkd.link import QuantumLink


def _estimator(link: "QuantumLink", name: str, **options: int) -> Any:
    """Return TNO's estimator of this class name, set up for the link's detector.

    Raises:
        RequestError: The package is missing, or the detector has after-pulses.
    """
    try:
        from tno.quantum.communication.qkd_key_rate.quantum import bb84, standard_detector
    except ImportError as problem:
        advice = 'needs TNO\'s package: pip install "deffd-flower[qkd]"'
        raise RequestError("qkd-bound", link.bound, advice) from problem
    if link.detector.after_pulse > 0:
        advice = f"{link.bound} knows no after-pulses; set it to 0 or choose another qkd-bound"
        raise RequestError("after-pulse", link.detector.after_pulse, advice)
    detector = standard_detector.customise(
        efficiency_party=link.detector.efficiency,
        dark_count_rate=link.detector.dark_count,
        polarization_drift=math.asin(math.sqrt(link.detector.misalignment)),
    )
    return getattr(bb84, name)(detector=detector, **options)


def _block(link: "QuantumLink", estimator: Any, settings: DecoySettings | None) -> KeyBlock:
    """Return the block at TNO's rate, charged for error correction above the Shannon limit.

    Without settings, TNO chooses the intensities.
    """
    if settings is None:
        found, rate = estimator.optimize_rate(attenuation=link.total_loss_db)
        intensities = tuple(map(float, found["mu"]))
        settings = DecoySettings(intensities, (1.0,) + (0.0,) * (len(intensities) - 1))
    else:
        rate = estimator.compute_rate(settings.intensities, link.total_loss_db)
    gain, qber = signal(link, settings.intensities[0])
    overhead = (link.error_correction - 1) * gain * binary_entropy(qber)
    return signal_block(link, settings, float(rate) - overhead)


@bounds.register("tno")
def tno_decoys(link: "QuantumLink") -> KeyBlock:
    """Return the block for endless pulses and two decoys, by TNO's linear programs.

    Raises:
        RequestError: The package is missing, or it finds no solution for this link.
    """
    decoys = len(link.settings.intensities) - 1 if link.settings else 2
    estimator = _estimator(link, "BB84AsymptoticKeyRateEstimate", number_of_decoy=decoys)
    try:
        return _block(link, estimator, link.settings)
    except ValueError as problem:
        advice = f"TNO finds no solution ({problem}); choose asymptotic or vacuum-weak"
        raise RequestError("qkd-bound", link.bound, advice) from problem


@bounds.register("tno-asymptotic")
def tno_asymptotic(link: "QuantumLink") -> KeyBlock:
    """Return the block for endless pulses and decoys, by TNO's closed form.

    Raises:
        RequestError: The package is missing, or the link's detector has after-pulses.
    """
    estimator = _estimator(link, "BB84FullyAsymptoticKeyRateEstimate")
    settings = link.settings
    if settings is not None:
        settings = DecoySettings(settings.intensities[:1], (1.0,), settings.key_basis)
    return _block(link, estimator, settings)
