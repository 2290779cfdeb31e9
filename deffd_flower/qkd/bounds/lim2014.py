"""Two decoys, finite key: Lim, Curty, Walenta, Xu and Zbinden, PRA 89, 022307 (2014).

Two printing errors of the paper are put right here. Error correction costs n_X f h(e_obs) bits,
a number that grows with the block. And the misalignment errors of the channel model grow with the
transmittance of the whole system, detectors included, not of the fibre alone.

The phase error step rests on a Taylor approximation, so it is an estimate rather than a strict
bound (Tupkary et al., arXiv:2502.10340). With Cascade, what Bob tells Alice counts too
(Tupkary and Luetkenhaus, arXiv:2307.00576); neither is repaired here.
"""

from collections.abc import Sequence

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds.block import BlockCounts, DecoySettings
from deffd_flower.qkd.bounds.finite import FiniteBound, SinglePhotons, confidence_limits
from deffd_flower.qkd.bounds.registry import bounds

VACUUM_INTENSITY = 2e-4


def _vacuum_and_single(
    counts: Sequence[float], settings: DecoySettings, log_inverse: float
) -> tuple[float, float]:
    """Return the fewest detections of empty and of single-photon pulses, eqs. (2) and (3)."""
    mu1, mu2, mu3 = settings.intensities
    tau0, tau1 = settings.photon_probability(0), settings.photon_probability(1)
    lower, upper = confidence_limits(counts, settings, log_inverse)
    vacuum = max(tau0 * (mu2 * lower[2] - mu3 * upper[1]) / (mu2 - mu3), 0.0)
    multi_photon = (mu2**2 - mu3**2) / mu1**2 * (upper[0] - vacuum / tau0)
    denominator = mu1 * (mu2 - mu3) - mu2**2 + mu3**2
    single = tau1 * mu1 * (lower[1] - upper[2] - multi_photon) / denominator
    return vacuum, max(single, 0.0)


def estimate(counts: BlockCounts, settings: DecoySettings, log_inverse: float) -> SinglePhotons:
    """Return what two decoys reveal about a block, eqs. (2) to (4).

    Raises:
        RequestError: There are not three intensities with mu1 > mu2 + mu3.
    """
    mu = settings.intensities
    if len(mu) != 3 or mu[0] <= mu[1] + mu[2]:
        raise RequestError("intensities", mu, "lim2014 needs three, mu1 > mu2 + mu3")
    vacuum, single = _vacuum_and_single(counts.key, settings, log_inverse)
    _, test_single = _vacuum_and_single(counts.test, settings, log_inverse)
    lower, upper = confidence_limits(counts.test_errors, settings, log_inverse)
    tau1 = settings.photon_probability(1)
    test_errors = max(tau1 * (upper[1] - lower[2]) / (mu[1] - mu[2]), 0.0)
    return SinglePhotons(vacuum, single, test_single, test_errors)


lim2014 = bounds.register("lim2014")(
    FiniteBound(
        shares=21,
        estimate=estimate,
        fixed_intensities=(VACUUM_INTENSITY,),
        starts=(
            DecoySettings((0.5, 0.15, VACUUM_INTENSITY), (0.6, 0.3, 0.1), 0.9),
            DecoySettings((0.4, 0.2, VACUUM_INTENSITY), (0.25, 0.5, 0.25), 0.75),
            DecoySettings((0.35, 0.13, VACUUM_INTENSITY), (0.4, 0.4, 0.2), 0.3),
        ),
    )
)
