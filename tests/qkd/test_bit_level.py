"""The protocol, bit by bit, gives what the rate level promises."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bit_level import BlockResult, run_block, same_hash
from deffd_flower.qkd.bounds import DecoySettings, FiniteBound, binary_entropy, bounds
from deffd_flower.qkd.bounds.finite import expected_counts
from deffd_flower.qkd.link import Detector, QuantumLink, qber
from deffd_flower.qkd.toeplitz import toeplitz_hash
from deffd_flower.qkd.transmission import Sifted, transmit

PULSES = 1_500_000
NOISY = Detector(efficiency=0.1, dark_count=2e-4, after_pulse=0.04, misalignment=0.02)
NANOWIRE = Detector(efficiency=0.6, dark_count=4e-8, misalignment=0.005)
TWO_DECOYS = DecoySettings((0.5, 0.2, 2e-4), (0.4, 0.4, 0.2), 0.7)
METRO = QuantumLink(
    NANOWIRE,
    length_km=5,
    bound="rusca2018",
    settings=DecoySettings((0.42, 0.146), (0.51, 0.49), 0.78),
)


@lru_cache
def block(intercepted: float = 0.0, seed: int = 1) -> BlockResult:
    return run_block(METRO, PULSES, seed, intercepted)


def sent(link: QuantumLink, intercepted: float = 0.0, seed: int = 5) -> Sifted:
    assert link.settings is not None
    return transmit(link, link.settings, PULSES, intercepted, np.random.default_rng(seed))


def metro_bound() -> FiniteBound:
    bound = bounds.get(METRO.bound)
    assert isinstance(bound, FiniteBound)
    return bound


def assert_within_five_sigma(count: int, trials: int, probability: float) -> None:
    sigma = math.sqrt(trials * probability * (1 - probability))
    assert abs(count - trials * probability) < 5 * sigma + 1


@pytest.mark.parametrize("detector", [NOISY, NANOWIRE])
def test_gains_and_errors_of_every_intensity_and_basis_are_those_of_the_rate_level(
    detector: Detector,
) -> None:
    link = QuantumLink(detector, length_km=5, settings=TWO_DECOYS)
    sifted = sent(link)
    wrong = sifted.alice != sifted.bob
    gains, errors = link.gains(TWO_DECOYS), link.error_gains(TWO_DECOYS)
    for key_basis, share in ((True, 0.7**2), (False, 0.3**2)):
        for index in range(3):
            here = (sifted.key_basis == key_basis) & (sifted.intensity == index)
            assert_within_five_sigma(int(here.sum()), PULSES, share * gains[index])
            assert_within_five_sigma(int((here & wrong).sum()), PULSES, share * errors[index])


def test_bits_are_balanced_in_both_keys() -> None:
    sifted = sent(METRO)
    for bits in (sifted.alice, sifted.bob):
        assert_within_five_sigma(int(bits.sum()), len(bits), 0.5)


@pytest.mark.parametrize("intercepted", [0.25, 0.5, 1.0])
def test_intercepting_a_share_of_pulses_makes_a_quarter_of_it_wrong(intercepted: float) -> None:
    perfect = QuantumLink(
        Detector(efficiency=0.5, dark_count=0), length_km=0, settings=METRO.settings
    )
    sifted = sent(perfect, intercepted)
    wrong = int(np.count_nonzero(sifted.alice != sifted.bob))
    # Her basis is wrong half the time, and then Bob's bit is wrong half the time.
    assert wrong / len(sifted.alice) == pytest.approx(intercepted / 4, abs=0.003)


@pytest.mark.parametrize("intercepted", [0.1, 0.4, 1.0])
def test_eve_at_work_and_the_disturbed_link_of_the_rate_level_agree(intercepted: float) -> None:
    link = QuantumLink(NOISY, length_km=5, settings=TWO_DECOYS)
    sifted = sent(link, intercepted)
    key_wrong = (sifted.alice != sifted.bob)[sifted.key_basis]
    expected = qber(link.disturbed(intercepted=intercepted))
    assert_within_five_sigma(int(key_wrong.sum()), len(key_wrong), expected)
    matching = 0.7**2 + 0.3**2
    detected = matching * sum(link.gains(TWO_DECOYS))
    assert_within_five_sigma(len(sifted.alice), PULSES, detected)


def test_an_undisturbed_block_gives_both_the_same_key() -> None:
    result = block()
    assert result.aborted is None
    assert result.verified
    assert len(result.alice) > 10_000
    assert np.array_equal(result.alice, result.bob)
    assert_within_five_sigma(int(result.alice.sum()), len(result.alice), 0.5)


def test_the_length_is_what_the_bound_says_for_what_was_counted() -> None:
    result = block()
    assert result.counts is not None
    assert METRO.settings is not None
    assert sum(result.counts.key) == result.sifted - result.sampled
    assert sum(result.counts.key_errors) == result.errors
    length = metro_bound().secret_length(result.counts, METRO.settings, METRO.security, result.leak)
    assert len(result.alice) == math.floor(length)


def test_the_length_is_near_what_the_rate_level_expects() -> None:
    result, chosen = block(), METRO.settings
    assert chosen is not None
    raw = result.sifted - result.sampled
    gains = METRO.gains(chosen)
    pulses = raw / (chosen.key_basis**2 * sum(gains))
    expected = expected_counts(pulses, chosen, gains, METRO.error_gains(chosen))
    # The sample thins the key basis alone; the test basis stays whole.
    whole = expected_counts(PULSES, chosen, gains, METRO.error_gains(chosen))
    expected = replace(expected, test=whole.test, test_errors=whole.test_errors)
    length = metro_bound().secret_length(expected, chosen, METRO.security, result.leak)
    assert len(result.alice) == pytest.approx(length, rel=0.1)
    assert_within_five_sigma(result.sifted, PULSES, chosen.key_basis**2 * sum(gains))


def test_the_published_sample_estimates_the_error_rate_without_bias() -> None:
    result = block()
    assert result.sampled == pytest.approx(0.05 * result.sifted, rel=0.1)
    wrong = round(result.estimated_qber * result.sampled)
    assert_within_five_sigma(wrong, result.sampled, qber(METRO))


def test_error_correction_stays_within_what_the_rate_level_charges() -> None:
    result = block()
    raw = result.sifted - result.sampled
    shannon = raw * binary_entropy(result.errors / raw)
    assert shannon < result.leak < METRO.error_correction * shannon


def test_the_key_is_the_public_matrix_times_a_raw_key() -> None:
    result = block()
    raw = result.sifted - result.sampled
    assert len(result.seed) == raw + len(result.alice) - 1
    # A key from any other raw key would not be this one.
    other = np.zeros(raw, dtype=np.uint8)
    assert not np.array_equal(toeplitz_hash(other, result.seed, len(result.alice)), result.alice)


def test_eve_on_every_pulse_makes_a_quarter_wrong_and_the_block_is_thrown_away() -> None:
    result = block(1.0)
    assert result.aborted == "QBER above threshold"
    sigma = math.sqrt(0.25 * 0.75 / result.sampled)
    assert abs(result.estimated_qber - 0.2525) < 5 * sigma
    assert not result.verified
    assert len(result.alice) == len(result.bob) == result.leak == 0


def test_eve_on_a_few_pulses_costs_key() -> None:
    quiet, watched = block(), block(0.04)
    assert watched.aborted is None
    assert np.array_equal(watched.alice, watched.bob)
    assert 0 < len(watched.alice) < 0.6 * len(quiet.alice)


def test_too_few_pulses_give_no_key_but_a_reason() -> None:
    assert run_block(METRO, 1, 1).aborted == "too few detections"
    short = run_block(METRO, 30_000, 1)
    assert short.aborted == "no secret bits left"
    assert short.verified
    assert len(short.alice) == 0


def test_the_two_decoy_bound_works_bit_by_bit_too() -> None:
    chosen = DecoySettings((0.45, 0.16, 2e-4), (0.1, 0.56, 0.34), 0.66)
    link = QuantumLink(replace(NANOWIRE, efficiency=0.9), length_km=0, settings=chosen)
    result = run_block(link, PULSES, 3)
    assert result.aborted is None
    assert len(result.alice) > 1_000
    assert np.array_equal(result.alice, result.bob)


def test_the_seed_decides_everything() -> None:
    again, other = run_block(METRO, PULSES, 1), block(seed=2)
    assert np.array_equal(again.alice, block().alice)
    assert again.leak == block().leak
    assert other.aborted is None
    assert other.alice[:1000].tolist() != again.alice[:1000].tolist()


def test_keys_that_differ_in_one_bit_do_not_verify() -> None:
    generator = np.random.default_rng(1)
    alice = generator.integers(0, 2, 5_000, dtype=np.uint8)
    assert same_hash(alice, alice.copy(), 1e-15, generator)
    for place in range(0, 5_000, 250):
        bob = alice.copy()
        bob[place] ^= 1
        assert not same_hash(alice, bob, 1e-15, generator)


def test_verification_misses_a_difference_about_as_often_as_tolerated() -> None:
    generator = np.random.default_rng(2)
    alice = np.zeros(64, dtype=np.uint8)
    bob = alice.copy()
    bob[[3, 40]] = 1
    missed = sum(same_hash(alice, bob, 1 / 16, generator) for _ in range(2_000))
    assert_within_five_sigma(missed, 2_000, 1 / 16)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("pulses", {"pulses": 0}),
        ("intercepted", {"intercepted": 1.5}),
        ("sample-share", {"sample_share": 0.0}),
        ("sample-share", {"sample_share": 1.0}),
    ],
)
def test_an_argument_out_of_range_is_refused(key: str, changes: dict[str, float]) -> None:
    arguments: dict[str, Any] = {"pulses": 1000, "seed": 1, **changes}
    with pytest.raises(RequestError) as problem:
        run_block(METRO, **arguments)
    assert problem.value.key == key


def test_a_bound_for_endless_blocks_is_refused() -> None:
    with pytest.raises(RequestError, match="needs lim2014 or rusca2018"):
        run_block(replace(METRO, bound="asymptotic"), 1000, 1)
