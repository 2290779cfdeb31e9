"""Eve's schedule: what a link suffers at any time, however time is cut."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.qkd.attacks import (
    Attack,
    CompromisedNode,
    DenialOfService,
    InterceptResend,
    LossStep,
    QberBursts,
    Window,
    attacks,
)
from deffd_flower.qkd.eve import Eve, parse_attacks
from deffd_flower.qkd.production import CALM, NANOSECONDS, Disturbance

S = NANOSECONDS
ROUNDS = [(number, 10 * S * (number - 1)) for number in range(1, 9)]
"""Rounds 1 to 8 of 10 s each; round 9 has not begun."""


def test_rounds_are_attacked_from_the_first_to_the_last_included() -> None:
    eve = Eve([InterceptResend(fraction=0.4, window=Window(3, 4, "rounds"))])
    for moment, fraction in (
        (0, 0),
        (20 * S - 1, 0),
        (20 * S, 0.4),
        (40 * S - 1, 0.4),
        (40 * S, 0),
    ):
        assert eve.at("0-1", moment, ROUNDS) == Disturbance(intercepted=fraction)


def test_a_round_that_has_not_begun_is_not_attacked_yet_and_the_last_one_is_not_over() -> None:
    begun = ROUNDS[:3]
    later = Eve([LossStep(decibel=3.0, window=Window(4, 5, "rounds"))])
    assert later.at("0-1", 10**6 * S, begun) == CALM
    now = Eve([LossStep(decibel=3.0, window=Window(3, 3, "rounds"))])
    assert now.at("0-1", 10**6 * S, begun).extra_loss_db == 3.0


def test_seconds_are_attacked_up_to_the_last_not_included() -> None:
    eve = Eve([DenialOfService(window=Window(1.5, 2.5))])
    assert not eve.at("0-1", 1_499_999_999, ROUNDS).silent
    assert eve.at("0-1", 1_500_000_000, ROUNDS).silent
    assert eve.at("0-1", 2_499_999_999, ROUNDS).silent
    assert not eve.at("0-1", 2_500_000_000, ROUNDS).silent


def test_only_the_named_links_suffer() -> None:
    eve = Eve([LossStep(decibel=2.0, links=frozenset({"0-1", "2-3"})), LossStep(decibel=1.0)])
    assert eve.at("2-3", 0, ROUNDS).extra_loss_db == 3.0
    assert eve.at("1-2", 0, ROUNDS).extra_loss_db == 1.0


def test_attacks_that_overlap_add_up_piece_by_piece() -> None:
    eve = Eve(
        [
            LossStep(decibel=1.0, window=Window(10, 40)),
            LossStep(decibel=2.0, window=Window(20, 30)),
            DenialOfService(window=Window(25, 50)),
        ]
    )
    pieces = [
        (until // S, seen.extra_loss_db, seen.silent)
        for until, seen in eve.conditions("0-1", 0, 60 * S, ROUNDS)
    ]
    assert pieces == [
        (10, 0, False),
        (20, 1, False),
        (25, 3, False),
        (30, 3, True),
        (40, 1, True),
        (50, 0, True),
        (60, 0, False),
    ]


windows = st.builds(
    lambda first, length, unit: Window(first, first + length, unit),
    st.integers(0, 9),
    st.integers(1, 60),
    st.sampled_from(["rounds", "seconds"]),
)
schedules = st.lists(
    st.builds(InterceptResend, fraction=st.sampled_from([0.1, 0.5]), window=windows)
    | st.builds(LossStep, decibel=st.sampled_from([1.0, 3.0]), window=windows)
    | st.builds(DenialOfService, window=windows)
    | st.builds(
        QberBursts,
        qber=st.just(0.05),
        probability=st.sampled_from([0.0, 0.3, 1.0]),
        slot=st.sampled_from([0.7, 3.0]),
        window=windows,
    ),
    max_size=4,
)


@given(
    schedule=schedules,
    cuts=st.lists(st.integers(0, 80 * S), min_size=2, max_size=6, unique=True),
    moments=st.lists(st.integers(0, 80 * S), max_size=10),
)
def test_a_moment_suffers_the_same_however_time_is_cut(
    schedule: list[Attack], cuts: list[int], moments: list[int]
) -> None:
    eve = Eve(schedule, seed=3)
    cuts.sort()
    pieces = []
    for start, end in pairwise(cuts):
        last = start
        for until, seen in eve.conditions("0-1", start, end, ROUNDS):
            pieces.append((last, until, seen))
            last = until
        assert last == end
    for moment in moments:
        covering = [seen for start, end, seen in pieces if start <= moment < end]
        assert covering == [eve.at("0-1", moment, ROUNDS)] * len(covering)
        assert len(covering) == (cuts[0] <= moment < cuts[-1])


def bad_slots(eve: Eve, link: str, slots: int) -> list[bool]:
    return [eve.at(link, slot * S, ROUNDS).extra_qber > 0 for slot in range(slots)]


def test_bursts_come_as_often_as_asked_for_and_independently() -> None:
    eve = Eve([QberBursts(qber=0.08, probability=0.3, slot=1.0)], seed=5)
    bad = np.array(bad_slots(eve, "0-1", 5000))
    assert bad.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 5000))
    neighbours = np.corrcoef(bad[1:], bad[:-1])[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(5000)


def test_bursts_follow_from_seed_link_and_attack_alone() -> None:
    burst = QberBursts(qber=0.08, probability=0.5, slot=1.0)
    one = bad_slots(Eve([burst], seed=5), "0-1", 60)
    assert bad_slots(Eve([burst], seed=5), "0-1", 60) == one
    assert bad_slots(Eve([burst], seed=6), "0-1", 60) != one
    assert bad_slots(Eve([burst], seed=5), "0-2", 60) != one
    two = Eve([burst, burst], seed=5)
    together = {round(two.at("0-1", slot * S, ROUNDS).extra_qber, 6) for slot in range(60)}
    assert together == {0.0, 0.08, 2 * 0.08 * 0.92}


def test_a_compromised_node_changes_no_link() -> None:
    eve = Eve([CompromisedNode(node="Daejeon", window=Window(2, 3, "rounds"))])
    assert eve.compromised(10 * S - 1, ROUNDS) == frozenset()
    assert eve.compromised(10 * S, ROUNDS) == {"Daejeon"}
    assert eve.compromised(30 * S, ROUNDS) == frozenset()
    assert eve.at("Daejeon-Seoul", 15 * S, ROUNDS) == CALM


def test_a_schedule_can_be_written_down() -> None:
    text = (
        "intercept fraction=0.4 rounds=5-10 links=0-1,2-3; loss decibel=3 seconds=60-; "
        "denial rounds=7; bursts qber=.1 probability=.2 slot=10; compromise node=Daejeon rounds=3-;"
    )
    assert parse_attacks(text) == [
        InterceptResend(
            fraction=0.4, window=Window(5, 10, "rounds"), links=frozenset({"0-1", "2-3"})
        ),
        LossStep(decibel=3.0, window=Window(60, math.inf, "seconds")),
        DenialOfService(window=Window(7, 7, "rounds")),
        QberBursts(qber=0.1, probability=0.2, slot=10.0),
        CompromisedNode(node="Daejeon", window=Window(3, math.inf, "rounds")),
    ]
    assert parse_attacks("") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("zap", "attack=zap"),
        ("intercept", "fraction: Field required"),
        ("intercept fraction=lots", "valid number"),
        ("intercept fraction=nan", "between 0 and 1"),
        ("intercept fraction=1.5", "between 0 and 1"),
        ("intercept frction=1", "Did you mean 'fraction'"),
        ("intercept fraction=1 fraction=0", "each once"),
        ("intercept fraction=1 rounds=1-2 seconds=1-2", "each once"),
        ("loss decibel=-1", "at least 0"),
        ("loss decibel=inf", "at least 0"),
        ("bursts qber=0.6 probability=1", "between 0 and 0.5"),
        ("bursts qber=0.1 probability=2", "between 0 and 1"),
        ("bursts qber=0.1 probability=1 slot=0", "at least 0.001"),
        ("denial rounds=5-3", "rounds=5-3: must be FIRST-LAST"),
        ("denial seconds=5", "seconds=5-5: must be FIRST-LAST"),
        ("denial rounds=one", "rounds=one: must be FIRST-LAST"),
        ("denial rounds=-3", "rounds=-3: must be FIRST-LAST"),
        ("denial rounds=nan-", "must be FIRST-LAST"),
        ("compromise rounds=3-", "node: Field required"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_attacks(text)
    assert complaint in str(refusal.value)


def test_every_kind_of_attack_has_a_name() -> None:
    assert attacks.names() == ["bursts", "compromise", "denial", "intercept", "loss"]
