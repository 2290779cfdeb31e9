"""A pool's closed forms, its books, and what changing conditions do to blocks."""

import math
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.qkd.link import block_seconds, secret_bits_per_second, secret_key_length
from deffd_flower.qkd.pool import KeyPool, PoolSettings
from deffd_flower.qkd.presets import links
from deffd_flower.qkd.production import (
    CALM,
    BlockYield,
    Disturbance,
    YieldOf,
    block_yield,
    mean_disturbance,
    nanoseconds,
)
from deffd_flower.transport.refusal import KeyUnavailable

PLAIN = PoolSettings(authentication_bits=0)


def constant(seconds: float = 1.0, bits: int = 1000, qber: float = 0.02) -> YieldOf:
    """A link that takes no notice of disturbances."""
    return lambda _: BlockYield(seconds, bits, qber)


def balanced(pool: KeyPool) -> bool:
    books = pool.books
    return books.produced == books.delivered + pool.stored + books.expired + books.burnt


def test_bits_come_block_by_block_and_only_when_a_block_is_complete() -> None:
    pool = KeyPool(constant(seconds=2.0, bits=1000), PLAIN)
    levels = []
    for _ in range(5):
        pool.advance(0.9)
        levels.append(pool.available)
    assert levels == [0, 0, 1000, 1000, 2000]


def test_level_is_production_minus_consumption() -> None:
    """1000 bit/s come and 600 bit/s go: after t seconds 400 t are there, to the bit."""
    pool = KeyPool(constant(seconds=0.5, bits=500), PLAIN)
    for second in range(1, 101):
        pool.advance(1.0)
        lease = pool.lease(600)
        pool.deliver(lease, 600)
        assert pool.available == 400 * second
    assert pool.books.delivered == 60_000
    assert balanced(pool)


def test_key_of_a_real_link_comes_at_its_published_rate() -> None:
    link = links.get("toshiba-tokyo-2010")
    pool = KeyPool(lambda seen: block_yield(link, 0.11, seen), PLAIN)
    hours = 10
    pool.advance(hours * 3600)
    expected = secret_bits_per_second(link) * hours * 3600
    assert pool.available == pytest.approx(expected, abs=secret_key_length(link))
    assert secret_bits_per_second(link) == pytest.approx(304e3, rel=1e-5)


def test_authentication_takes_its_key_from_every_block_and_keeps_a_reserve() -> None:
    pool = KeyPool(constant(bits=1000), PoolSettings(authentication_bits=256))
    assert (pool.available, pool.stored, pool.books.produced) == (0, 256, 256)
    pool.advance(10)
    assert pool.available == 10 * (1000 - 256)
    assert pool.stored == pool.available + 256
    assert pool.books.authentication == pool.books.burnt == 10 * 256
    assert balanced(pool)


@pytest.mark.parametrize("bits", [0, 255, 256])
def test_a_block_that_gives_no_more_than_its_authentication_takes_is_aborted(bits: int) -> None:
    pool = KeyPool(constant(bits=bits), PoolSettings(authentication_bits=256))
    pool.advance(10)
    assert (pool.books.blocks, pool.books.aborted, pool.books.produced) == (0, 10, 256)
    assert pool.stored == 256
    assert balanced(pool)


def test_a_full_store_loses_its_oldest_bits() -> None:
    pool = KeyPool(constant(bits=1000), replace(PLAIN, capacity=2500))
    pool.advance(10)
    assert pool.available == 2500
    assert pool.books.overflow == 7500
    assert pool.lease(1).start == 7500
    assert balanced(pool)


def test_bits_expire_when_they_are_too_old_oldest_first() -> None:
    pool = KeyPool(constant(bits=1000), replace(PLAIN, max_age_s=3.5))
    pool.advance(3.0)
    assert (pool.available, pool.books.expired) == (3000, 0)
    pool.advance(1.5)
    assert (pool.available, pool.books.expired) == (3000, 1000)
    pool.advance(995.5)
    assert (pool.available, pool.books.expired) == (4000, 996_000)
    assert balanced(pool)


def test_a_head_start_is_production_before_the_federation_begins() -> None:
    pool = KeyPool(constant(bits=1000), replace(PLAIN, head_start_s=60.5, max_age_s=61.0))
    assert (pool.time, pool.available, pool.books.produced) == (0, 60_000, 60_000)
    pool.advance(1.5)
    assert pool.books.produced == 62_000
    assert pool.books.expired == 1_000
    assert balanced(pool)


def test_a_billion_blocks_take_no_longer_than_one() -> None:
    full = PoolSettings(capacity=10**7, max_age_s=3600.0)
    pool = KeyPool(constant(seconds=0.001, bits=1000), full)
    begin = time.perf_counter()
    for _ in range(10):
        pool.advance(1e6)
    assert time.perf_counter() - begin < 0.5
    assert pool.books.blocks == 10**10
    assert pool.available == 10**7
    assert pool.books.expired == 0
    assert balanced(pool)


def test_a_lease_takes_the_oldest_bits_and_each_bit_once() -> None:
    pool = KeyPool(constant(bits=1000), PLAIN)
    pool.advance(3)
    first, second = pool.lease(1500), pool.lease(1000)
    assert (first.start, first.bits, first.born) == (0, 1500, nanoseconds(1))
    assert (second.start, second.bits, second.born) == (1500, 1000, nanoseconds(2))
    assert (pool.available, pool.leased, pool.stored) == (500, 2500, 3000)


def test_what_a_lease_did_not_use_is_burnt_and_never_comes_back() -> None:
    pool = KeyPool(constant(bits=1000), PLAIN)
    pool.advance(2)
    crashed, used = pool.lease(800), pool.lease(800)
    pool.burn(crashed)
    pool.deliver(used, 500)
    assert (pool.books.delivered, pool.books.unused, pool.leased) == (500, 1100, 0)
    assert pool.lease(400).start == 1600
    for lease in (crashed, used):
        with pytest.raises(ValueError, match="not open"):
            pool.burn(lease)


def test_a_lease_of_more_than_there_is_is_refused_and_takes_nothing() -> None:
    pool = KeyPool(constant(bits=1000), PLAIN)
    pool.advance(1)
    with pytest.raises(KeyUnavailable, match="1001 key bits wanted, 1000 stored"):
        pool.lease(1001)
    with pytest.raises(ValueError, match="0 bits"):
        pool.lease(0)
    lease = pool.lease(1000)
    with pytest.raises(ValueError, match="1001"):
        pool.deliver(lease, 1001)
    assert pool.leased == 1000


def test_leased_bits_neither_expire_nor_count_against_the_capacity() -> None:
    pool = KeyPool(constant(bits=1000), replace(PLAIN, capacity=1000, max_age_s=5.0))
    pool.advance(1)
    lease = pool.lease(1000)
    pool.advance(100)
    assert (pool.leased, pool.available) == (1000, 1000)
    pool.deliver(lease, 1000)
    assert pool.books.delivered == 1000
    assert balanced(pool)


def test_time_does_not_go_back() -> None:
    pool = KeyPool(constant(), PLAIN)
    pool.advance(1)
    with pytest.raises(ValueError, match="cannot go back"):
        pool.advance_to(0)


@given(
    steps=st.lists(st.integers(0, 5_000), min_size=1, max_size=12),
    capacity=st.none() | st.integers(1, 3_000),
    max_age=st.none() | st.integers(1, 4_000),
)
def test_the_steps_in_which_time_passes_do_not_matter(
    steps: list[int], capacity: int | None, max_age: int | None
) -> None:
    kept = PoolSettings(capacity, max_age and max_age * 1e-9, authentication_bits=3)
    many, one = (KeyPool(constant(seconds=37e-9, bits=50), kept) for _ in range(2))
    for step in steps:
        many.advance_to(many.time + step)
    one.advance_to(sum(steps))
    assert many.books == one.books
    assert many.available == one.available
    assert balanced(one)


@settings(max_examples=300)
@given(
    first=st.integers(0, 3_000),
    leased=st.integers(0, 500),
    bits=st.integers(1, 1_500),
    capacity=st.none() | st.integers(1, 1_500),
    max_age=st.none() | st.integers(1, 2_000),
)
def test_waiting_for_key_ends_with_the_first_moment_at_which_it_is_there(
    first: int, leased: int, bits: int, capacity: int | None, max_age: int | None
) -> None:
    kept = PoolSettings(capacity, max_age and max_age * 1e-9, authentication_bits=3)
    pool = KeyPool(constant(seconds=37e-9, bits=50), kept)
    pool.advance_to(first)
    if 0 < leased <= pool.available:
        pool.burn(pool.lease(leased))
    wait = pool.seconds_until(bits)
    for _ in range(200):
        if pool.available >= bits:
            break
        pool.advance_to(pool.time + 37 - pool.time % 37)
    if math.isinf(wait):
        assert pool.available < bits
    else:
        assert pool.available >= bits
        assert nanoseconds(wait) == max(0, pool.time - first)


def test_waiting_is_exact_even_after_years_of_simulated_time() -> None:
    pool = KeyPool(constant(seconds=math.pi, bits=7), PLAIN)
    pool.advance(1e8)
    wanted = pool.available + 7_000_003
    wait = pool.seconds_until(wanted)
    pool.advance(wait)
    assert pool.available >= wanted
    assert pool.available - 7 < wanted


def test_key_that_never_comes_takes_forever() -> None:
    silent, aborting = Disturbance(silent=True), constant(bits=0)
    assert KeyPool(constant(), PLAIN).seconds_until(1, silent) == math.inf
    assert KeyPool(aborting, PLAIN).seconds_until(1) == math.inf
    assert KeyPool(constant(seconds=math.inf), PLAIN).seconds_until(1) == math.inf
    assert KeyPool(constant(bits=9), replace(PLAIN, capacity=5)).seconds_until(6) == math.inf
    assert KeyPool(constant(bits=9), replace(PLAIN, max_age_s=2.5)).seconds_until(28) == math.inf
    assert KeyPool(constant(bits=9), replace(PLAIN, max_age_s=2.5)).seconds_until(27) == 3.0


# Conditions that change -----------------------------------------------------------------------

SLOW = Disturbance(extra_loss_db=3.0)
NOISY = Disturbance(extra_qber=0.2)
SILENT = Disturbance(silent=True)


def sensitive(seen: Disturbance) -> BlockYield:
    """Blocks of 10 s, or 20 s at 3 dB; 1000 bits, falling to 0 at a QBER of 10 %."""
    bits = max(0, round(1000 * (1 - 10 * seen.extra_qber)))
    return BlockYield(10 * (1 + seen.extra_loss_db / 3), bits, seen.extra_qber)


def test_what_is_filled_of_a_block_stays_when_the_pace_changes() -> None:
    """5 s of 10 fill half a block; the other half then takes 10 s of 20."""
    pool = KeyPool(sensitive, PLAIN)
    pool.advance(5)
    pool.advance(9.999999999, SLOW)
    assert pool.books.blocks == 0
    pool.advance(0.000000001, SLOW)
    assert pool.books.blocks == 1
    pool.advance(20, SLOW)
    assert pool.books.blocks == 2


def test_nothing_happens_to_a_block_while_nothing_arrives() -> None:
    pool = KeyPool(sensitive, PLAIN)
    pool.advance(9)
    pool.advance(1e6, SILENT)
    assert pool.books.blocks == 0
    pool.advance(1)
    assert (pool.books.blocks, pool.available, pool.qber) == (1, 1000, 0.0)


def test_a_block_gives_what_the_mean_of_its_disturbances_gives() -> None:
    """3 of 10 seconds at a QBER of 20 %: 6 % over the block, so 400 bits of 1000."""
    pool = KeyPool(sensitive, PLAIN)
    pool.advance(7)
    pool.advance(3, NOISY)
    assert pool.qber == pytest.approx(0.06)
    assert pool.available == 400
    pool.advance(10, NOISY)
    assert (pool.books.aborted, pool.qber) == (1, 0.2)
    pool.advance(10)
    assert (pool.available, pool.qber) == (1400, 0.0)


def test_a_mixed_block_is_foreseen() -> None:
    pool = KeyPool(sensitive, PLAIN)
    pool.advance(3, NOISY)
    assert pool.seconds_until(400) == 7.0
    assert pool.seconds_until(401) == 17.0
    assert pool.books.blocks == 0
    pool.advance(7)
    assert pool.available == 400


def test_a_poor_first_block_can_be_waited_out() -> None:
    """Keys live for 25 s: the mixed block of 400 bits and two good ones, or three good ones."""
    pool = KeyPool(sensitive, replace(PLAIN, max_age_s=25.0))
    pool.advance(3, NOISY)
    assert pool.seconds_until(2400) == 27.0
    assert pool.seconds_until(2401) == pool.seconds_until(3000) == 37.0
    assert pool.seconds_until(3001) == math.inf


def test_sustained_noise_aborts_blocks_and_lets_the_pool_run_dry() -> None:
    pool = KeyPool(sensitive, PLAIN)
    pool.advance(100)
    levels = []
    for _ in range(12):
        pool.advance(10, NOISY)
        if pool.available >= 1000:
            pool.deliver(pool.lease(1000), 1000)
        levels.append(pool.available)
    assert levels == [*range(9000, -1, -1000), 0, 0]
    assert pool.books.aborted == 12


def test_eve_on_a_real_link_shows_as_a_quarter_of_what_she_intercepts() -> None:
    link = links.get("lim-50km")
    calm = block_yield(link, 0.11, CALM)
    seen = block_yield(link, 0.11, Disturbance(intercepted=0.1))
    assert seen.qber - calm.qber == pytest.approx(0.025 * (1 - 2 * calm.qber), rel=0.05)
    assert 0 < seen.bits < calm.bits
    assert seen.seconds == pytest.approx(calm.seconds)
    assert block_yield(link, 0.11, Disturbance(intercepted=0.5)).bits == 0
    assert calm == (block_seconds(link), secret_key_length(link), calm.qber)


def test_the_abort_threshold_is_obeyed() -> None:
    link = links.get("lim-50km")
    qber = block_yield(link, 0.11, CALM).qber
    assert block_yield(link, qber + 1e-9, CALM).bits > 0
    assert block_yield(link, qber - 1e-9, CALM).bits == 0


def test_disturbances_add_up() -> None:
    one = Disturbance(intercepted=0.5, extra_loss_db=1.0, extra_qber=0.1)
    both = one + Disturbance(intercepted=0.5, extra_loss_db=2.0, extra_qber=0.1, silent=True)
    assert (both.intercepted, both.extra_loss_db, both.silent) == (0.75, 3.0, True)
    assert both.extra_qber == pytest.approx(0.18)
    assert one + CALM == one
    assert mean_disturbance([(0.25, one), (0.75, CALM)]) == Disturbance(0.125, 0.25, 0.025)


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        ({"capacity": 0}, "pool-capacity"),
        ({"max_age_s": 0.0}, "key-max-age-s"),
        ({"max_age_s": math.inf}, "key-max-age-s"),
        ({"authentication_bits": -1}, "authentication-bits"),
        ({"head_start_s": -1.0}, "head-start-s"),
        ({"abort_qber": 0.0}, "abort-qber"),
        ({"abort_qber": 0.6}, "abort-qber"),
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any], key: str) -> None:
    with pytest.raises(RequestError, match=key):
        PoolSettings(**bad)
