"""Statistics of a few seeds, against closed forms, published examples and enumeration."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deffd_flower.results.statistics import (
    EXACT_SEEDS,
    SIGN_DRAWS,
    bootstrap_interval,
    compare,
    expanded_level,
    holm,
    sign_flip_p,
    smallest_p,
    summarise,
)

DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Crossed minus self-fertilised maize, in eighths of an inch (Fisher 1935, section 17)."""

unhurried = settings(deadline=None, max_examples=50)
whole = st.lists(st.integers(-9, 9), min_size=2, max_size=8)


def test_mean_sd_and_student_interval_of_one_to_five() -> None:
    summary = summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (summary.n, summary.mean) == (5, 3.0)
    assert summary.sd == pytest.approx(math.sqrt(2.5))
    # t(0.975, 4) = 2.776445 in every table
    assert summary.margin == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert (summary.interval.low + summary.interval.high) / 2 == pytest.approx(3.0)


@unhurried
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9).filter(lambda x: np.std(x) > 1e-6))
def test_the_interval_is_scipys(values: list[float]) -> None:
    interval = summarise(values).interval
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert interval.low == pytest.approx(theirs.low)
    assert interval.high == pytest.approx(theirs.high)


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    summary = summarise([0.4])
    assert (summary.n, summary.mean) == (1, 0.4)
    assert all(map(math.isnan, [summary.sd, summary.margin, summary.interval.low]))
    difference = compare([0.4], [0.3])
    assert math.isnan(difference.bootstrap.low)
    assert difference.p == 1.0


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_is_no_finite_value_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one finite value for each seed"):
        summarise(values)


def test_unequal_numbers_of_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare([1.0, 2.0, 3.0], [1.0, 2.0])


def test_fishers_own_example() -> None:
    """863 of 32,768 sign patterns have a sum of 314 or more (Fisher 1935, section 21)."""
    assert sign_flip_p(DARWIN) == pytest.approx(2 * 863 / 2**15)


@unhurried
@given(whole)
def test_the_p_value_is_the_share_of_sign_patterns_as_extreme(differences: list[int]) -> None:
    assert sign_flip_p(differences) == pytest.approx(float(enumerated_p(differences)))


def enumerated_p(differences: Sequence[int]) -> Fraction:
    observed = abs(sum(differences))
    sums = [
        sum(sign * one for sign, one in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return Fraction(sum(abs(each) >= observed for each in sums), len(sums))


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_few_seeds_cannot_give_a_small_p(n: int, p: float) -> None:
    steady = [1.0 + 0.001 * seed for seed in range(n)]
    assert sign_flip_p(steady) == smallest_p(n) == p


def test_no_difference_at_all_has_p_one() -> None:
    assert sign_flip_p([0.0] * 5) == 1.0


def test_equal_up_to_32_bits_is_equal() -> None:
    # A hit rate as two runs write it: one mean of 32-bit numbers is 2e-9 off.
    difference = compare([0.1275, 0.1225000005], [0.1175, 0.1224999986])
    assert difference.mean == pytest.approx(0.005, abs=1e-12)
    assert difference.p == 1.0


def test_many_seeds_draw_signs_and_come_close_to_all_patterns() -> None:
    differences = [3, -1, 4, 1, -5, 9, 2, 6, -5, 3, 5, -8, 9, 7, 9, -3, 2]
    assert len(differences) > EXACT_SEEDS
    exact = counted_p(differences)
    drawn = sign_flip_p(differences)
    assert drawn == sign_flip_p(differences) != sign_flip_p(differences, seed=1)
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact / SIGN_DRAWS))
    assert sign_flip_p([1.0] * 30) == smallest_p(30) > 0


def counted_p(differences: Sequence[int]) -> float:
    """Count the sign patterns by their sum, one difference after the other."""
    ways = {0: 1}
    for one in differences:
        more: dict[int, int] = {}
        for total, count in ways.items():
            for sign in (1, -1):
                more[total + sign * one] = more.get(total + sign * one, 0) + count
        ways = more
    extreme = sum(n for total, n in ways.items() if abs(total) >= abs(sum(differences)))
    return extreme / float(2 ** len(differences))


@unhurried
@given(st.lists(st.integers(1, 99), min_size=2, max_size=5))
def test_a_difference_whose_sign_is_chance_is_rarely_called_significant(sizes: list[int]) -> None:
    """Of all sign patterns, at most a share alpha has p <= alpha: the test is exact."""
    patterns = product((1, -1), repeat=len(sizes))
    p = [sign_flip_p([s * one for s, one in zip(signs, sizes, strict=True)]) for signs in patterns]
    for alpha in set(p):
        assert sum(each <= alpha + 1e-12 for each in p) <= alpha * len(p) + 1e-9


def test_the_bootstrap_agrees_with_all_3125_resamples_of_five() -> None:
    differences = [0.1, 0.4, 0.5, 0.9, 2.0]
    means = [math.fsum(resample) / 5 for resample in product(differences, repeat=5)]
    tail = (1 - expanded_level(5)) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    interval = bootstrap_interval(differences)
    assert interval.low == pytest.approx(low, abs=0.05)
    assert interval.high == pytest.approx(high, abs=0.1)


def test_the_bootstrap_of_three_is_their_range() -> None:
    interval = bootstrap_interval([0.2, -0.1, 0.7])
    assert interval.low == pytest.approx(-0.1)
    assert interval.high == pytest.approx(0.7)


def test_the_bootstrap_of_equal_differences_is_that_difference() -> None:
    interval = bootstrap_interval([0.25] * 5)
    assert (interval.low, interval.high) == (0.25, 0.25)


def test_the_bootstrap_repeats_itself() -> None:
    differences = np.random.default_rng(0).normal(size=9).tolist()
    assert bootstrap_interval(differences) == bootstrap_interval(differences)
    assert bootstrap_interval(differences) != bootstrap_interval(differences, seed=1)


def test_the_widened_level_makes_percentiles_as_wide_as_student() -> None:
    # Normal percentiles of the resampled mean, whose spread is sd sqrt((n - 1) / n) / sqrt(n).
    for n in (3, 5, 10, 100):
        quantile = stats.norm.ppf((1 + expanded_level(n)) / 2)
        assert quantile * math.sqrt((n - 1) / n) == pytest.approx(stats.t.ppf(0.975, n - 1))
    assert expanded_level(10**6) == pytest.approx(0.95, abs=1e-5)


def test_the_bootstrap_covers_the_mean_of_five_normal_values_as_often_as_said() -> None:
    generator = np.random.default_rng(7)
    found = [bootstrap_interval(generator.normal(size=5).tolist()) for _ in range(250)]
    coverage = sum(one.low <= 0 <= one.high for one in found) / len(found)
    assert coverage == pytest.approx(0.92, abs=0.06)


def test_compare_is_about_pairs() -> None:
    reference = [0.30, 0.50, 0.40, 0.60, 0.20]
    gains = [0.01, 0.03, 0.02, 0.04, 0.05]
    ours = [one + gain for one, gain in zip(reference, gains, strict=True)]
    difference = compare(ours, reference)
    assert difference.mean == pytest.approx(0.03)
    # The spread of the seeds, 0.16, has cancelled.
    assert difference.sd == pytest.approx(np.std(gains, ddof=1))
    assert difference.p == difference.holm == 0.0625
    assert 0.01 <= difference.bootstrap.low < 0.03 < difference.bootstrap.high <= 0.05
    assert difference.interval.low == pytest.approx(
        stats.ttest_rel(ours, reference).confidence_interval().low
    )


@unhurried
@given(whole)
def test_the_other_way_round_everything_has_the_other_sign(values: list[int]) -> None:
    one = [float(value) for value in values]
    zero = [0.0] * len(one)
    there, back = compare(one, zero), compare(zero, one)
    assert there.mean == pytest.approx(-back.mean)
    assert there.p == pytest.approx(back.p)
    assert there.interval.low == pytest.approx(-back.interval.high)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5]) == [0.5]
    assert holm([]) == []


@unhurried
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    """Reject a hypothesis where Bonferroni rejects every set of hypotheses with it in."""
    everything = range(len(p_values))
    for place, adjusted in enumerate(holm(p_values)):
        sets = [
            chosen
            for size in range(1, len(p_values) + 1)
            for chosen in combinations(everything, size)
            if place in chosen
        ]
        worst = max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets)
        assert adjusted == pytest.approx(worst)
