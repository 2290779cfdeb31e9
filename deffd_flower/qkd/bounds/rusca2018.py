"""One decoy, finite key: Rusca, Boaron, Gruenenfelder, Martin and Zbinden, APL 112, 171104 (2018).

Z names the key basis there and X the test basis. The phase error step is that of Lim et al. (2014),
with the same reservations.
"""

import math
from collections.abc import Sequence

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds.block import BlockCounts, DecoySettings
from deffd_flower.qkd.bounds.finite import FiniteBound, SinglePhotons, confidence_limits
from deffd_flower.qkd.bounds.registry import bounds


def most_vacuum(
    counts: Sequence[float], errors: Sequence[float], settings: DecoySettings, log_inverse: float
) -> float:
    """Return the most detections that empty pulses can have caused, eq. (A16).

    Half of them are errors, so the errors of either intensity bound them.
    """
    _, upper = confidence_limits(errors, settings, log_inverse)
    width = math.sqrt(sum(counts) / 2 * log_inverse)
    return 2 * (settings.photon_probability(0) * min(upper) + width)


def fewest_single(
    counts: Sequence[float], errors: Sequence[float], settings: DecoySettings, log_inverse: float
) -> float:
    """Return the fewest detections that single photons can have caused, eq. (A17)."""
    mu1, mu2 = settings.intensities
    tau0, tau1 = settings.photon_probability(0), settings.photon_probability(1)
    lower, upper = confidence_limits(counts, settings, log_inverse)
    vacuum = most_vacuum(counts, errors, settings, log_inverse)
    ratio = (mu2 / mu1) ** 2
    single = lower[1] - ratio * upper[0] - (1 - ratio) * vacuum / tau0
    return max(tau1 * mu1 / (mu2 * (mu1 - mu2)) * single, 0.0)


def estimate(counts: BlockCounts, settings: DecoySettings, log_inverse: float) -> SinglePhotons:
    """Return what one decoy reveals about a block, eqs. (A16) to (A22).

    Raises:
        RequestError: There are not two intensities above zero.
    """
    mu = settings.intensities
    if len(mu) != 2 or mu[1] <= 0:
        raise RequestError("intensities", mu, "rusca2018 needs two, mu1 > mu2 > 0")
    lower, upper = confidence_limits(counts.key, settings, log_inverse)
    wrong_lower, wrong_upper = confidence_limits(counts.test_errors, settings, log_inverse)
    tau0, tau1 = settings.photon_probability(0), settings.photon_probability(1)
    vacuum = tau0 * (mu[0] * lower[1] - mu[1] * upper[0]) / (mu[0] - mu[1])
    test_errors = tau1 * (wrong_upper[0] - wrong_lower[1]) / (mu[0] - mu[1])
    return SinglePhotons(
        vacuum=max(vacuum, 0.0),
        single=fewest_single(counts.key, counts.key_errors, settings, log_inverse),
        test_single=fewest_single(counts.test, counts.test_errors, settings, log_inverse),
        test_errors=max(test_errors, 0.0),
    )


rusca2018 = bounds.register("rusca2018")(
    FiniteBound(
        shares=19,
        estimate=estimate,
        fixed_intensities=(),
        starts=(
            DecoySettings((0.5, 0.15), (0.7, 0.3), 0.9),
            DecoySettings((0.4, 0.2), (0.3, 0.7), 0.75),
            DecoySettings((0.3, 0.1), (0.4, 0.6), 0.3),
        ),
    )
)
