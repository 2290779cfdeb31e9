"""The simulated quantum channel: the same key at both ends, as much as the physics gives."""

from functools import partial
from pathlib import Path

import pytest

from deffd_flower.errors import DeffdError
from deffd_flower.kme.quantum import Production, QuantumChannel
from deffd_flower.qkd.eve import Eve, parse_attacks
from deffd_flower.qkd.pool import KeyPool, PoolSettings
from deffd_flower.qkd.presets import links
from deffd_flower.qkd.production import block_yield, nanoseconds

LINK = links.get("lim-metro-10km")
E1, E2 = b"e" * 16, b"f" * 16


def test_both_ends_have_the_same_key_and_no_other(folder: Path) -> None:
    seed, other = folder / "ab.seed", folder / "ac.seed"
    alice, bob = QuantumChannel(seed, "a", "b"), QuantumChannel(seed, "a", "b")
    assert alice.key(E1, 1, 1000) == bob.key(E1, 1, 1000)
    assert alice.proof(E1, 1) == bob.proof(E1, 1)
    assert alice.key(E1, 1, 100) == alice.key(E1, 1, 1000)[:100]
    strangers = [
        QuantumChannel(other, "a", "b").key(E1, 1, 32),
        QuantumChannel(seed, "a", "c").key(E1, 1, 32),
        QuantumChannel(seed, "ab", "").key(E1, 1, 32),
        alice.key(E2, 1, 32),
        alice.key(E1, 2, 32),
        alice.proof(E1, 1) + alice.proof(E1, 2),
    ]
    assert len({alice.key(E1, 1, 32), *strangers}) == 7


def test_key_looks_random(folder: Path) -> None:
    key = QuantumChannel(folder / "seed", "a", "b").key(E1, 1, 10**6)
    ones = sum(byte.bit_count() for byte in key)
    assert abs(ones - 4e6) < 6 * (8e6 / 4) ** 0.5
    assert len({key[index : index + 16] for index in range(0, 10**6, 16)}) == 62_500


def test_the_seed_is_private(folder: Path) -> None:
    seed = folder / "ab.seed"
    QuantumChannel(seed, "a", "b")
    assert seed.stat().st_mode & 0o777 == 0o600
    seed.chmod(0o644)
    with pytest.raises(DeffdError, match="open to others"):
        QuantumChannel(seed, "a", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "attack",
    [
        "",
        "intercept fraction=0.2 seconds=100-300",
        "loss decibel=3",
        "denial seconds=50-60",
        "intercept fraction=0.9 seconds=0-200",
        "bursts qber=0.05 probability=0.5 slot=10",
    ],
)
def test_a_link_makes_what_the_pool_of_the_simulation_makes(attack: str) -> None:
    settings, eve = PoolSettings(head_start_s=30), Eve(parse_attacks(attack), 7)
    clock = Clock()
    production = Production("a-b", LINK, settings, eve, 10.0, -1, clock)
    pool = KeyPool(partial(block_yield, LINK, settings.abort_qber), settings)
    made, blocks, aborted = 0, 0, 0
    for step in (0.0, 0.5, 7.31, 22.0, 0.001, 10.2):
        clock.now += step
        part = production.advance()
        made, blocks, aborted = (
            made + part.length,
            blocks + part.blocks,
            aborted + part.aborted,
        )
    for until, conditions in eve.conditions("a-b", 0, nanoseconds(clock.now * 10), ()):
        pool.advance_to(until, conditions)
    assert production.simulated_ns == pool.time == nanoseconds(clock.now * 10)
    assert (blocks, aborted) == (pool.books.blocks, pool.books.aborted)
    # What does not fill a byte yet waits for the next block.
    assert 0 <= pool.available - 8 * made < 8
    assert production.qber == pool.qber


def test_the_head_start_comes_once_and_a_pause_gives_nothing() -> None:
    settings, clock = PoolSettings(head_start_s=10), Clock()
    first = Production("a-b", LINK, settings, Eve(), 1.0, -1, clock)
    assert first.advance().length > 0
    assert first.advance().length == 0
    clock.now = 100.0
    first.pause()
    assert first.advance().length == 0
    again = Production("a-b", LINK, settings, Eve(), 1.0, first.simulated_ns, clock)
    assert again.advance().length == 0


def test_a_block_that_gives_no_more_than_it_uses_is_aborted() -> None:
    settings, clock = PoolSettings(head_start_s=10, authentication_bits=2**24), Clock()
    made = Production("a-b", LINK, settings, Eve(), 1.0, -1, clock).advance()
    assert made.length == made.blocks == 0
    assert made.aborted > 0
