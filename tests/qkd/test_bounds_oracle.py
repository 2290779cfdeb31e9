"""Every bound against an implementation nobody here has written."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qkd import _core as oracle

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds import (
    BlockCounts,
    DecoySettings,
    FiniteBound,
    Security,
    binary_entropy,
    bounds,
    qber_threshold,
)
from deffd_flower.qkd.bounds.asymptotic import vacuum_weak_estimates
from deffd_flower.qkd.bounds.finite import SinglePhotons, confidence_limits
from deffd_flower.qkd.bounds.rusca2018 import fewest_single, most_vacuum
from deffd_flower.qkd.link import (
    Detector,
    QuantumLink,
    expected_block,
    qber,
    secret_key_rate,
)

LOSSES = st.floats(min_value=0, max_value=30)
QUIET = Detector(efficiency=0.1, dark_count=6e-7, misalignment=0.005)


def finite(name: str) -> FiniteBound:
    bound = bounds.get(name)
    assert isinstance(bound, FiniteBound)
    return bound


@given(loss=LOSSES, mu=st.floats(min_value=0.1, max_value=0.9))
def test_channel_model_and_infinite_decoys_agree_with_pypi_qkd(loss: float, mu: float) -> None:
    detector = Detector(efficiency=0.045, dark_count=8.5e-7, misalignment=0.033)
    link = QuantumLink(
        detector,
        loss_db=loss,
        bound="asymptotic",
        block_size=10**12,
        error_correction=1.22,
        settings=DecoySettings((mu,), (1.0,)),
    )
    gain, error = oracle.decoy_gain(mu, link.transmittance, 1.7e-6, 0.033)
    assert link.gain(mu) == pytest.approx(gain, rel=1e-9)
    assert qber(link) == pytest.approx(error, rel=1e-5)
    single, single_error = oracle.decoy_ideal(link.transmittance, 1.7e-6, 0.033)
    single_gain = single * mu * math.exp(-mu)
    rate = oracle.bb84_rate(0.5, gain, error, single_gain, single_error, 1.22)
    expected = max(rate, 0) if error < qber_threshold(1.22) else 0
    assert secret_key_rate(link) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@given(loss=LOSSES, mu=st.floats(0.3, 0.8), share=st.floats(0.05, 0.4))
def test_vacuum_and_weak_estimates_agree_with_pypi_qkd(
    loss: float, mu: float, share: float
) -> None:
    link = QuantumLink(Detector(0.045, 8.5e-7, 0, 0.033), loss_db=loss)
    weak = mu * share
    signal, decoy, empty = (link.gain(k) for k in (mu, weak, 0.0))
    signal_error, decoy_error = (link.error_gain(k) / link.gain(k) for k in (mu, weak))
    single, error, _ = oracle.decoy_bounds(
        mu, weak, 0.0, signal, signal_error, decoy, decoy_error, empty, 0.5
    )
    mine, mine_error = vacuum_weak_estimates(link, mu, weak)
    assert mine == pytest.approx(single, rel=1e-6)
    assert mine_error == pytest.approx(min(error, 0.5), rel=1e-6)


@st.composite
def three_intensity_blocks(draw: st.DrawFn) -> tuple[BlockCounts, DecoySettings]:
    weak = draw(st.floats(0.05, 0.3))
    mu = weak + draw(st.floats(0.1, 0.6))
    weights = [draw(st.floats(0.1, 1.0)) for _ in range(3)]
    chosen = DecoySettings(
        (mu, weak, 2e-4), tuple(w / sum(weights) for w in weights), draw(st.floats(0.6, 0.95))
    )
    link = QuantumLink(QUIET, loss_db=draw(LOSSES), block_size=draw(st.integers(10**6, 10**9)))
    pulses = link.block_size / (chosen.key_basis**2 * sum(link.gains(chosen)))
    noise = draw(st.floats(0.8, 1.2))
    test = pulses * (1 - chosen.key_basis) ** 2 * noise
    key = pulses * chosen.key_basis**2
    return (
        BlockCounts(
            [key * gain for gain in link.gains(chosen)],
            [key * gain for gain in link.error_gains(chosen)],
            [test * gain for gain in link.gains(chosen)],
            [test * gain for gain in link.error_gains(chosen)],
        ),
        chosen,
    )


@given(block=three_intensity_blocks(), secrecy=st.floats(1e-12, 1e-6))
def test_two_decoy_bound_agrees_with_pypi_qkd(
    block: tuple[BlockCounts, DecoySettings], secrecy: float
) -> None:
    counts, chosen = block
    share = oracle.bb84_eps(secrecy)
    assert share == pytest.approx(secrecy / 21)
    args = (*chosen.intensities, chosen.probabilities)
    vacuum, single = oracle.decoy_counts(*args, tuple(counts.key), share)
    _, test_single = oracle.decoy_counts(*args, tuple(counts.test), share)
    test_errors = oracle.decoy_errors(*args, tuple(counts.test_errors), share)
    mine = finite("lim2014").estimate(counts, chosen, math.log(21 / secrecy))
    found = (mine.vacuum, mine.single, mine.test_single, mine.test_errors)
    assert found == pytest.approx((vacuum, single, test_single, test_errors), rel=1e-9, abs=1e-4)

    phase = oracle.bb84_phase(test_errors, test_single, single, secrecy)
    assert finite("lim2014").phase_error(mine, secrecy) == pytest.approx(phase, rel=1e-9)
    total = sum(counts.key)
    error = sum(counts.key_errors) / total
    length = oracle.bb84_length(vacuum, single, phase, total, error, 1.16, secrecy, 1e-15)
    leak = total * 1.16 * binary_entropy(error)
    security = Security(secrecy, 1e-15)
    ours = finite("lim2014").secret_length(counts, chosen, security, leak)
    assert max(ours, 0) == pytest.approx(length, rel=1e-9, abs=1.1)


@given(block=three_intensity_blocks(), secrecy=st.floats(1e-12, 1e-6))
def test_one_decoy_estimators_agree_with_pypi_qkd(
    block: tuple[BlockCounts, DecoySettings], secrecy: float
) -> None:
    counts, three = block
    signal, weak = three.probabilities[:2]
    # Quotients may add up to more than one in the last digit, which the oracle refuses.
    share_of_signal = signal / (signal + weak)
    probabilities = (share_of_signal, 1 - share_of_signal)
    chosen = DecoySettings(three.intensities[:2], probabilities, three.key_basis)
    counts = BlockCounts(
        counts.key[:2], counts.key_errors[:2], counts.test[:2], counts.test_errors[:2]
    )
    share, log_inverse = secrecy / 19, math.log(19 / secrecy)
    args = (*chosen.intensities, chosen.probabilities)
    fewest_vacuum, theirs, their_vacuum = oracle.sarg_counts(
        *args, tuple(counts.key), tuple(counts.key_errors), share
    )
    mine = finite("rusca2018").estimate(counts, chosen, log_inverse)
    assert mine.vacuum == pytest.approx(fewest_vacuum, rel=1e-9, abs=1e-4)
    wrong = oracle.sarg_errors(*args, tuple(counts.test_errors), share)
    assert mine.test_errors == pytest.approx(wrong, rel=1e-9, abs=1e-4)

    # The oracle takes the loosest of Rusca's vacuum ceilings, the package the tightest.
    ceiling = most_vacuum(counts.key, counts.key_errors, chosen, log_inverse)
    assert ceiling <= their_vacuum * (1 + 1e-12)
    mu, weak = chosen.intensities
    factor = chosen.photon_probability(1) * mu / (weak * (mu - weak))
    factor *= (1 - (weak / mu) ** 2) / chosen.photon_probability(0)
    single = fewest_single(counts.key, counts.key_errors, chosen, log_inverse)
    if theirs > 0:
        assert single - factor * (their_vacuum - ceiling) == pytest.approx(theirs, rel=1e-6)


def test_hoeffding_limits_hold_the_expectation_between_them() -> None:
    chosen = DecoySettings((0.5, 0.1), (0.5, 0.5))
    lower, upper = confidence_limits([100.0, 50.0], chosen, math.log(1e9))
    width = math.sqrt(75 * math.log(1e9))
    assert lower == pytest.approx(
        [2 * math.exp(0.5) * (100 - width), 2 * math.exp(0.1) * (50 - width)]
    )
    assert upper == pytest.approx(
        [2 * math.exp(0.5) * (100 + width), 2 * math.exp(0.1) * (50 + width)]
    )


@pytest.mark.parametrize(
    "photons",
    [
        SinglePhotons(0, 100, 0, 0),
        SinglePhotons(0, 0, 100, 0),
        SinglePhotons(0, 100, 100, 60),
        SinglePhotons(0, 100, 100, 150),
    ],
)
def test_a_sample_that_proves_nothing_means_a_phase_error_of_one_half(
    photons: SinglePhotons,
) -> None:
    assert finite("lim2014").phase_error(photons, 1e-9) == 0.5


def test_a_sample_without_errors_still_leaves_room_for_some() -> None:
    spotless = SinglePhotons(0, 1e6, 1e5, 0)
    assert finite("lim2014").phase_error(spotless, 1e-9) > 1e-5


@pytest.mark.parametrize("loss", [2.0, 10.0, 20.0])
def test_tno_confirms_the_asymptotic_rate(loss: float) -> None:
    chosen = DecoySettings((0.48, 0.05, 1e-3), (1.0, 0.0, 0.0), 0.5)
    link = QuantumLink(QUIET, loss_db=loss, bound="asymptotic", settings=chosen)
    closed_form = secret_key_rate(link)
    endless_decoys = secret_key_rate(replace(link, bound="tno-asymptotic"))
    two_decoys = secret_key_rate(replace(link, bound="tno"))
    # TNO also counts the bits of empty pulses, of which Eve knows nothing.
    assert closed_form <= endless_decoys <= closed_form * 1.01
    assert 0.95 * closed_form < two_decoys <= endless_decoys


def test_tno_chooses_intensities_no_worse_than_ours() -> None:
    link = QuantumLink(QUIET, loss_db=10, bound="tno-asymptotic", error_correction=1.0)
    given_ours = replace(link, settings=expected_block(replace(link, bound="asymptotic")).settings)
    assert secret_key_rate(link) >= secret_key_rate(given_ours) * (1 - 1e-4)
    assert expected_block(replace(link, bound="tno")).settings.intensities[0] > 0.5


def test_tno_is_refused_where_it_does_not_cover_the_detector() -> None:
    echoing = replace(QUIET, after_pulse=0.04)
    with pytest.raises(RequestError, match=r"after-pulse=0\.04"):
        secret_key_rate(QuantumLink(echoing, loss_db=10, bound="tno"))


@pytest.mark.parametrize(
    ("hidden", "bound", "advice"),
    [("tno", "tno", "deffd-flower[qkd]"), ("scipy", "lim2014", "deffd-flower[qkd]")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    hidden: str, bound: str, advice: str
) -> None:
    program = f"""
import sys
sys.modules[{hidden!r}] = None
from deffd_flower.errors import RequestError
from deffd_flower.qkd.link import Detector, QuantumLink, secret_key_rate
try:
    secret_key_rate(QuantumLink(Detector(0.1, 6e-7), length_km=50, bound={bound!r}))
except RequestError as problem:
    print(problem)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert f"qkd-bound={bound}" in run.stdout
    assert advice in run.stdout


@pytest.mark.parametrize("loss", [1.0, 10.0, 20.0])
def test_one_decoy_beats_two_for_blocks_up_to_1e8_without_after_pulses(loss: float) -> None:
    # Rusca et al. (2018), abstract.
    link = QuantumLink(Detector(0.6, 4e-8, 0, 0.005), loss_db=loss, block_size=10**7)
    assert secret_key_rate(replace(link, bound="rusca2018")) > secret_key_rate(link)
