"""What a link promises, and what becomes of it when somebody interferes."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds import DecoySettings, Security, plob_bound, qber_threshold
from deffd_flower.qkd.link import (
    Detector,
    QuantumLink,
    block_seconds,
    expected_block,
    qber,
    secret_bits_per_second,
    secret_key_length,
    secret_key_rate,
)

DETECTOR = Detector(efficiency=0.1, dark_count=6e-7, after_pulse=0.04, misalignment=0.005)
TWO_DECOYS = DecoySettings((0.45, 0.20, 2e-4), (0.4, 0.4, 0.2), 0.85)
ONE_DECOY = DecoySettings((0.45, 0.15), (0.6, 0.4), 0.85)
SETTINGS = {
    "lim2014": TWO_DECOYS,
    "rusca2018": ONE_DECOY,
    "asymptotic": DecoySettings((0.48,), (1.0,)),
    "vacuum-weak": DecoySettings((0.48, 0.05, 0.0), (1.0, 0.0, 0.0)),
}
BOUNDS = sorted(SETTINGS)


def link(bound: str = "lim2014", **changes: Any) -> QuantumLink:
    base = QuantumLink(DETECTOR, length_km=50, bound=bound, settings=SETTINGS[bound])
    return replace(base, **changes)


def test_loss_is_length_times_attenuation_unless_measured() -> None:
    assert link(length_km=50.0, attenuation=0.21).total_loss_db == pytest.approx(10.5)
    assert link(length_km=50.0, loss_db=14.5).total_loss_db == 14.5
    assert QuantumLink(DETECTOR, loss_db=3.0).transmittance == pytest.approx(0.1 * 10**-0.3)


def test_gain_and_error_of_lim_et_al_term_by_term() -> None:
    some = link()
    for mu in (0.5, 0.1, 0.0):
        light = 1 - math.exp(-some.transmittance * mu)
        click = 1 - (1 - 2 * 6e-7) * (1 - light)
        assert some.gain(mu) == pytest.approx(click * 1.04, rel=1e-9)
        wrong = 6e-7 + 0.005 * light + 0.04 * click / 2
        assert some.error_gain(mu) == pytest.approx(wrong, rel=1e-9)


def test_single_photons_are_the_second_derivative_of_a_coherent_pulse() -> None:
    # A pulse of mean mu holds no photon with exp(-mu), one with mu exp(-mu), more to order mu^2.
    some, mu = link(), 1e-4
    from_gain = (some.gain(mu) * math.exp(mu) - some.gain(0)) / mu
    from_errors = (some.error_gain(mu) * math.exp(mu) - some.error_gain(0)) / mu
    assert some.single_photon_gain == pytest.approx(from_gain, rel=2e-4)
    assert some.single_photon_error_gain == pytest.approx(from_errors, rel=2e-4)


@pytest.mark.parametrize("bound", BOUNDS)
def test_rate_time_and_length_of_a_block_fit_together(bound: str) -> None:
    some = link(bound, pulse_rate=5e8)
    assert secret_key_length(some) > 0
    assert secret_bits_per_second(some) == pytest.approx(
        secret_key_length(some) / block_seconds(some), rel=1e-6
    )
    assert secret_bits_per_second(some) == pytest.approx(5e8 * secret_key_rate(some))
    block = expected_block(some)
    assert block.settings == SETTINGS[bound]
    assert block.sifted == some.block_size


@given(
    bound=st.sampled_from(BOUNDS),
    loss=st.floats(0, 40),
    extra=st.floats(0.1, 10),
    misalignment=st.floats(0, 0.2),
)
def test_rate_never_rises_with_loss_and_stays_below_plob(
    bound: str, loss: float, extra: float, misalignment: float
) -> None:
    detector = Detector(efficiency=0.5, dark_count=1e-6, misalignment=misalignment)
    near = link(bound, detector=detector, loss_db=loss)
    far = replace(near, loss_db=loss + extra)
    one_bit = 1 / expected_block(near).pulses
    assert 0 <= secret_key_rate(far) <= secret_key_rate(near) + one_bit
    assert block_seconds(far) > block_seconds(near)
    if loss > 0.5:
        assert secret_key_rate(near) <= plob_bound(10 ** (-loss / 10))


@given(bound=st.sampled_from(BOUNDS), error=st.floats(0, 0.4), more=st.floats(0.001, 0.1))
def test_rate_never_rises_with_errors_and_ends_at_the_threshold(
    bound: str, error: float, more: float
) -> None:
    clean = link(bound, detector=replace(DETECTOR, misalignment=error))
    noisy = link(bound, detector=replace(DETECTOR, misalignment=error + more))
    assert secret_key_rate(noisy) <= secret_key_rate(clean)
    if qber(noisy) > qber_threshold(1.16):
        assert secret_key_length(noisy) == 0


@given(bound=st.sampled_from(["lim2014", "rusca2018"]), size=st.integers(10**5, 10**9))
def test_larger_blocks_give_more_key_per_pulse(bound: str, size: int) -> None:
    small, large = link(bound, block_size=size), link(bound, block_size=2 * size)
    assert secret_key_rate(large) >= secret_key_rate(small)


@pytest.mark.parametrize("bound", ["lim2014", "rusca2018"])
def test_a_stricter_key_is_a_shorter_key(bound: str) -> None:
    lax = link(bound, security=Security(1e-6, 1e-9))
    strict = link(bound, security=Security(1e-12, 1e-15))
    assert 0 < secret_key_length(strict) < secret_key_length(lax)
    exact = link(bound, security=Security(1e-6, 1e-10))
    lost = secret_key_length(lax) - secret_key_length(exact)
    assert lost == pytest.approx(math.log2(10), abs=1)


def test_secrecy_per_bit_is_secrecy_times_length() -> None:
    per_bit = secret_key_length(link(security=Security(1e-15, 1e-15, per_bit=True)))
    in_total = secret_key_length(link(security=Security(1e-15 * per_bit, 1e-15)))
    assert per_bit == pytest.approx(in_total, abs=1)


def test_endless_blocks_approach_the_asymptotic_rate() -> None:
    # With all pulses bright and in the key basis, and the bits of empty pulses not counted.
    limit = max(
        secret_key_rate(
            link("asymptotic", settings=DecoySettings((mu / 100,), (1.0,), 1.0), block_size=10**12)
        )
        for mu in range(40, 80)
    )
    sizes = [10**7, 10**9, 10**12, 10**18, 10**24]
    rates = [secret_key_rate(link(settings=None, block_size=size)) for size in sizes]
    assert rates == sorted(rates)
    assert rates[0] < 0.4 * limit
    assert 0.98 * limit < rates[-1] < limit


@pytest.mark.parametrize("intercepted", [0.25, 0.5, 1.0])
def test_intercept_resend_adds_a_quarter_of_the_share_to_a_clean_link(intercepted: float) -> None:
    clean = link("asymptotic", detector=Detector(efficiency=0.5, dark_count=0))
    assert qber(clean) == 0
    assert qber(clean.disturbed(intercepted=intercepted)) == pytest.approx(intercepted / 4)


@given(intercepted=st.floats(0, 1), extra=st.floats(0, 0.5))
def test_independent_causes_of_error_combine_as_independent_flips(
    intercepted: float, extra: float
) -> None:
    calm = link()
    both = qber(calm.disturbed(intercepted=intercepted, extra_qber=extra))
    survives = (1 - 2 * qber(calm)) * (1 - intercepted / 2) * (1 - 2 * extra)
    # Dark counts and after-pulses are random anyway; only photons can be flipped.
    assert both == pytest.approx((1 - survives) / 2, abs=1e-6)


def test_disturbance_keeps_the_settings_chosen_in_peace() -> None:
    calm = link(settings=None)
    disturbed = calm.disturbed(intercepted=0.05, extra_loss_db=3)
    assert disturbed.settings == expected_block(calm).settings
    assert disturbed.total_loss_db == pytest.approx(13)
    reoptimised = replace(disturbed, settings=None)
    assert secret_key_rate(disturbed) < secret_key_rate(reoptimised) < secret_key_rate(calm)


def test_eve_on_every_pulse_leaves_no_key() -> None:
    for bound in BOUNDS:
        attacked = link(bound).disturbed(intercepted=1.0)
        assert qber(attacked) > 0.25
        assert secret_key_length(attacked) == 0


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_cut_fibre_never_fills_a_block(bound: str) -> None:
    deaf = link(bound, detector=Detector(efficiency=0.5, dark_count=0))
    cut = deaf.disturbed(extra_loss_db=5000)
    assert block_seconds(cut) == math.inf
    assert secret_key_length(cut) == secret_key_rate(cut) == 0
    assert qber(cut) == 0.5


def test_a_quiet_disturbance_changes_nothing() -> None:
    assert secret_key_length(link().disturbed()) == secret_key_length(link())


def test_a_measured_link_gives_its_rate_and_loses_what_the_model_loses() -> None:
    model = link()
    measured = link(measured_rate=1234.5)
    assert secret_bits_per_second(measured) == pytest.approx(1234.5, rel=1e-3)
    for changes in ({"extra_loss_db": 5.0}, {"intercepted": 0.05}, {"extra_qber": 0.01}):
        kept = secret_key_rate(model.disturbed(**changes)) / secret_key_rate(model)
        found = secret_bits_per_second(measured.disturbed(**changes)) / 1234.5
        assert 0 < kept < 1
        assert found == pytest.approx(kept, rel=1e-3)
    twice = measured.disturbed(extra_loss_db=2).disturbed(extra_loss_db=3)
    once = measured.disturbed(extra_loss_db=5)
    assert secret_key_length(twice) == secret_key_length(once)
    assert secret_key_length(measured.disturbed(intercepted=1)) == 0


def test_a_measured_rate_the_model_cannot_explain_is_refused() -> None:
    with pytest.raises(RequestError, match="the model finds no key"):
        secret_key_rate(link(loss_db=60, measured_rate=5.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length_km": None}, "length-km: give the length or the loss"),
        ({"length_km": -1.0}, "length-km=-1.0: must be at least 0"),
        ({"loss_db": math.nan}, "loss-db=nan: must be at least 0"),
        ({"attenuation": -0.2}, "attenuation=-0.2: must be at least 0"),
        ({"pulse_rate": 0.0}, "pulse-rate=0.0: must be above 0"),
        ({"block_size": 0}, "block-size=0: must be above 0"),
        ({"measured_rate": -5.0}, "measured-rate=-5.0: must be above 0"),
        ({"error_correction": 0.9}, "error-correction=0.9: must be at least 1"),
    ],
)
def test_a_link_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as problem:
        link(**changes)
    assert str(problem.value).startswith(message)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("efficiency", {"efficiency": 0.0}),
        ("efficiency", {"efficiency": 1.5}),
        ("dark-count", {"dark_count": 0.5}),
        ("after-pulse", {"after_pulse": 1.0}),
        ("misalignment", {"misalignment": 0.6}),
    ],
)
def test_a_detector_that_cannot_be_is_refused(key: str, changes: dict[str, float]) -> None:
    with pytest.raises(RequestError) as problem:
        replace(DETECTOR, **changes)
    assert problem.value.key == key


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("intensities", ((0.1, 0.5), (0.5, 0.5), 0.5)),
        ("intensities", ((), (), 0.5)),
        ("intensities", ((0.5, -0.1), (0.5, 0.5), 0.5)),
        ("probabilities", ((0.5, 0.1), (1.0,), 0.5)),
        ("probabilities", ((0.5, 0.1), (0.7, 0.7), 0.5)),
        ("probabilities", ((0.5, 0.1), (1.2, -0.2), 0.5)),
        ("key-basis", ((0.5,), (1.0,), 0.0)),
    ],
)
def test_settings_that_cannot_be_are_refused(key: str, arguments: Any) -> None:
    with pytest.raises(RequestError) as problem:
        DecoySettings(*arguments)
    assert problem.value.key == key


@pytest.mark.parametrize("arguments", [(0.0, 1e-9), (1e-9, 1.0)])
def test_security_that_cannot_be_is_refused(arguments: tuple[float, float]) -> None:
    with pytest.raises(RequestError, match="must lie between 0 and 1"):
        Security(*arguments)


@pytest.mark.parametrize(
    ("bound", "settings"),
    [
        ("lim2014", ONE_DECOY),
        ("lim2014", DecoySettings((0.3, 0.25, 0.1), (0.4, 0.4, 0.2))),
        ("rusca2018", TWO_DECOYS),
        ("vacuum-weak", TWO_DECOYS),
    ],
)
def test_settings_of_another_protocol_are_refused(bound: str, settings: DecoySettings) -> None:
    with pytest.raises(RequestError, match="intensities") as problem:
        secret_key_rate(link(bound, settings=settings))
    assert bound in problem.value.advice


def test_an_intensity_that_is_never_sent_is_refused_by_a_finite_bound() -> None:
    settings = DecoySettings((0.5, 0.2, 2e-4), (1.0, 0.0, 0.0))
    with pytest.raises(RequestError, match="needs every intensity"):
        secret_key_rate(link("lim2014", settings=settings))


def test_an_unknown_bound_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RequestError, match="Did you mean 'lim2014'"):
        secret_key_rate(replace(link(), bound="lim2015"))


@pytest.mark.parametrize(
    "changes", [{"intercepted": 1.1}, {"extra_qber": 0.6}, {"extra_loss_db": -1.0}]
)
def test_a_disturbance_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(RequestError) as problem:
        link().disturbed(**changes)
    assert problem.value.key == next(iter(changes)).replace("_", "-")
