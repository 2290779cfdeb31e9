"""Published and independently computed numbers every bound has to reproduce."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from deffd_flower.qkd.bounds import (
    DecoySettings,
    FiniteBound,
    Security,
    binary_entropy,
    bounds,
    plob_bound,
    qber_threshold,
)
from deffd_flower.qkd.bounds.asymptotic import (
    gllp_rate,
    optimal_intensity,
    vacuum_weak_estimates,
)
from deffd_flower.qkd.bounds.finite import expected_counts
from deffd_flower.qkd.bounds.rusca2018 import most_vacuum
from deffd_flower.qkd.link import Detector, QuantumLink, expected_block, secret_key_rate

LIM_DETECTOR = Detector(efficiency=0.1, dark_count=6e-7, after_pulse=0.04, misalignment=0.005)


def gys(km: float, bound: str = "asymptotic", decoys: tuple[float, ...] = ()) -> QuantumLink:
    probabilities = (1.0,) + (0.0,) * len(decoys)
    return QuantumLink(
        Detector(efficiency=0.045, dark_count=8.5e-7, misalignment=0.033),
        length_km=km,
        attenuation=0.21,
        bound=bound,
        block_size=10**10,
        error_correction=1.22,
        settings=DecoySettings((0.48, *decoys), probabilities),
    )


def lim(km: float, block_size: int) -> QuantumLink:
    return QuantumLink(
        LIM_DETECTOR,
        length_km=km,
        block_size=block_size,
        security=Security(secrecy=1e-15, correctness=1e-15, per_bit=True),
    )


def finite(name: str) -> FiniteBound:
    bound = bounds.get(name)
    assert isinstance(bound, FiniteBound)
    return bound


def last_kilometre(has_key: Callable[[float], bool]) -> float:
    near, far = 50.0, 250.0
    for _ in range(40):
        middle = (near + far) / 2
        near, far = (middle, far) if has_key(middle) else (near, middle)
    return near


@pytest.mark.parametrize(
    ("error_correction", "threshold"),
    [(1.0, 0.11002786), (1.16, 0.0981060), (1.22, 0.0942352)],
)
def test_bb84_ends_at_the_shor_preskill_threshold(
    error_correction: float, threshold: float
) -> None:
    assert qber_threshold(error_correction) == pytest.approx(threshold, abs=5e-8)


@pytest.mark.parametrize(("db", "bits"), [(1, 2.28158), (10, 0.152003), (20, 0.0144996)])
def test_plob_bound(db: float, bits: float) -> None:
    assert plob_bound(10 ** (-db / 10)) == pytest.approx(bits, rel=4e-6)


@pytest.mark.parametrize(("error_correction", "mu"), [(1.22, 0.47892), (1.0, 0.54412)])
def test_best_signal_intensity_of_gys(error_correction: float, mu: float) -> None:
    assert optimal_intensity(0.033, error_correction) == pytest.approx(mu, abs=5e-6)


def test_gys_observables_at_zero_distance() -> None:
    link, mu = gys(0), 0.48
    assert link.gain(mu) == pytest.approx(2.13701e-2, rel=3e-6)
    assert link.error_gain(mu) / link.gain(mu) == pytest.approx(3.30372e-2, rel=3e-6)
    single_gain = link.single_photon_gain * mu * math.exp(-mu)
    assert single_gain == pytest.approx(1.33662e-2, rel=4e-6)
    single_error = link.single_photon_error_gain / link.single_photon_gain
    assert single_error == pytest.approx(3.30176e-2, rel=5e-6)


GYS_RATES = [
    (0, 2.55459e-3),
    (20, 9.6245e-4),
    (40, 3.6308e-4),
    (50, 2.2260e-4),
    (100, 1.7184e-5),
    (140, 2.4647e-7),
]


@pytest.mark.parametrize(("km", "rate"), GYS_RATES)
def test_gys_rates_from_the_model_as_ma_prints_it(km: float, rate: float) -> None:
    # The paper drops the term in which a dark count and a photon coincide.
    eta, y0, mu = 0.045 * 10 ** (-0.021 * km), 1.7e-6, 0.48
    light = 1 - math.exp(-eta * mu)
    gain, single = y0 + light, y0 + eta
    bits = gllp_rate(
        gain,
        (y0 / 2 + 0.033 * light) / gain,
        single * mu * math.exp(-mu),
        (y0 / 2 + 0.033 * eta) / single,
        1.22,
    )
    digits = 6 if km == 0 else 5
    assert f"{bits / 2:.{digits - 1}e}" == f"{rate:.{digits - 1}e}"


@pytest.mark.parametrize(("km", "rate"), GYS_RATES)
def test_gys_rates_of_the_link_differ_only_by_that_term(km: float, rate: float) -> None:
    assert secret_key_rate(gys(km)) == pytest.approx(rate, rel=1e-4)


def test_gys_reach_with_infinite_decoys_and_with_vacuum_and_weak() -> None:
    infinite = last_kilometre(lambda km: secret_key_rate(gys(km)) > 0)
    assert infinite == pytest.approx(142.01, abs=0.02)
    assert infinite == pytest.approx(142.05, abs=0.2)
    weak = last_kilometre(lambda km: secret_key_rate(gys(km, "vacuum-weak", (0.05, 0.0))) > 0)
    assert weak == pytest.approx(140.62, abs=0.01)
    assert weak == pytest.approx(140.55, abs=0.2)


def test_a_weak_decoy_of_a_quarter_misjudges_single_photons_as_ma_says() -> None:
    link = gys(40)
    single_yield, single_error = vacuum_weak_estimates(link, 0.48, 0.12)
    assert 1 - single_yield / link.single_photon_gain == pytest.approx(0.0351, abs=5e-5)
    true_error = link.single_photon_error_gain / link.single_photon_gain
    assert single_error / true_error - 1 == pytest.approx(0.1678, abs=5e-5)


def test_two_decoy_golden_vector_without_optimisation() -> None:
    settings = DecoySettings((0.45, 0.20, 2e-4), (0.4, 0.4, 0.2), 0.85)
    link = replace(lim(50, 10**7), settings=settings, security=Security(1e-9, 1e-15))
    block = expected_block(link)
    assert block.pulses == pytest.approx(5.125050e9, rel=1e-7)
    assert block.qber == pytest.approx(0.024258, abs=5e-7)
    assert block.secret == 2_576_287
    assert secret_key_rate(link) == pytest.approx(5.026853e-4, abs=5e-11)

    counts = expected_counts(
        block.pulses, settings, link.gains(settings), link.error_gains(settings)
    )
    photons = finite("lim2014").estimate(counts, settings, math.log(21 / 1e-9))
    assert photons.vacuum == 0
    assert photons.single == pytest.approx(6400490.3198, abs=5e-4)
    assert photons.test_single == pytest.approx(176583.2780, abs=5e-4)
    assert photons.test_errors == pytest.approx(8536.0838, abs=5e-4)
    phase_error = finite("lim2014").phase_error(photons, 1e-9)
    assert phase_error == pytest.approx(0.05297554, abs=5e-9)


@pytest.mark.parametrize(
    ("block_size", "rates"),
    [
        (10**6, (3.193e-3, 1.238e-3, 3.049e-4, 2.755e-5, 2.580e-6)),
        (10**7, (5.355e-3, 2.081e-3, 5.139e-4, 4.766e-5, 5.364e-6)),
        (10**9, (9.203e-3, 3.590e-3, 8.897e-4, 8.537e-5, 1.090e-5)),
    ],
)
def test_optimised_two_decoy_curve(block_size: int, rates: tuple[float, ...]) -> None:
    found = [secret_key_rate(lim(km, block_size)) for km in (0, 20, 50, 100, 140)]
    assert found == pytest.approx(rates, rel=3e-4)


def test_optimised_two_decoy_curve_lies_on_the_published_figure() -> None:
    figure = (5.19e-3, 2.02e-3, 4.99e-4, 4.64e-5, 5.30e-6)
    found = [secret_key_rate(lim(km, 10**7)) for km in (0, 20, 50, 100, 140)]
    assert found == pytest.approx(figure, rel=0.05)


def test_a_hundredfold_block_pays_as_the_text_of_the_paper_says() -> None:
    ratio = secret_key_rate(lim(100, 10**9)) / secret_key_rate(lim(100, 10**7))
    assert ratio == pytest.approx(1.79, abs=0.005)
    assert ratio == pytest.approx(1.75, rel=0.05)


@pytest.mark.parametrize(("block_size", "reach"), [(10**6, 171.8), (10**7, 178.0), (10**9, 183.6)])
def test_reach_of_the_two_decoy_bound(block_size: int, reach: float) -> None:
    assert secret_key_rate(lim(reach - 0.5, block_size)) > 1e-9
    assert secret_key_rate(lim(reach + 1.0, block_size)) < 1e-11


ONE_DECOY = DecoySettings((0.5, 0.1), (0.5, 0.5), 0.9)


def test_one_decoy_golden_vector() -> None:
    link = QuantumLink(
        Detector(efficiency=1.0, dark_count=6e-7, misalignment=0.01),
        loss_db=25,
        bound="rusca2018",
        security=Security(1e-9, 1e-15),
        settings=ONE_DECOY,
    )
    block = expected_block(link)
    counts = expected_counts(
        block.pulses, ONE_DECOY, link.gains(ONE_DECOY), link.error_gains(ONE_DECOY)
    )
    bound, log_inverse = finite("rusca2018"), math.log(19 / 1e-9)
    vacuum = most_vacuum(counts.key, counts.key_errors, ONE_DECOY, log_inverse)
    assert vacuum == pytest.approx(91695.9, abs=0.05)
    photons = bound.estimate(counts, ONE_DECOY, log_inverse)
    assert photons.single == pytest.approx(6.04088e6, abs=5)
    assert photons.test_errors == pytest.approx(1802.28, abs=5e-3)
    assert bound.phase_error(photons, 1e-9) == pytest.approx(0.0361112, abs=5e-8)
    assert block.secret == pytest.approx(3_701_930, rel=1e-6)


def test_one_decoy_golden_length_to_the_bit_when_dark_counts_simply_add() -> None:
    eta, dark = 10**-2.5, 6e-7
    light = [1 - math.exp(-eta * mu) for mu in ONE_DECOY.intensities]
    gains = [0.5 * (2 * dark + x) for x in light]
    wrong = [0.5 * (dark + 0.01 * x) for x in light]
    pulses = 1e7 / (ONE_DECOY.key_basis**2 * sum(gains))
    counts = expected_counts(pulses, ONE_DECOY, gains, wrong)
    leak = 1e7 * 1.16 * binary_entropy(sum(counts.key_errors) / 1e7)
    security = Security(1e-9, 1e-15)
    length = finite("rusca2018").secret_length(counts, ONE_DECOY, security, leak)
    assert math.floor(length) == 3_701_930
