"""Partner rules: what each chooses, what all promise, and what they may go by."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.config import RunConfig
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.request import resolve
from deffd_flower.strategy import partners as rules
from deffd_flower.strategy.complement import complement, preference
from deffd_flower.strategy.knowledge import Knowledge, Pair
from deffd_flower.strategy.partners import drawn, nominates, partner_of, partner_rule, partners
from deffd_flower.strategy.topology import topology

RULES = ["random", "least-recent", "complementary", "key-aware", "loss"]
SPARSE = ["ring", "torus", "random-regular", "small-world", "erdos-renyi"]
CLIENTS = 12

unhurried = settings(deadline=None)


def request(**keys: Any) -> RunConfig:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    return resolve({"dataset": "digits", "clients": CLIENTS, **given})


def knowing(config: RunConfig, server_round: int = 1, **known: Any) -> Knowledge:
    return Knowledge(config, topology(config), server_round, **known)


def unordered(one: int, other: int) -> Pair:
    return min(one, other), max(one, other)


def met(last: Mapping[Pair, int]) -> dict[int, dict[int, int]]:
    """Return meetings as the server knows them, given the last of each two clients."""
    meetings: dict[int, dict[int, int]] = {client: {} for client in range(CLIENTS)}
    for (one, other), server_round in last.items():
        meetings[one][other] = meetings[other][one] = server_round
    return meetings


def test_every_rule_is_tested_and_says_what_it_reveals() -> None:
    assert partners.names() == sorted(RULES)
    for name in RULES:
        assert partners.get(name).reveals.endswith(".")
        assert partners.get(name).choose.__doc__


# What all promise ---------------------------------------------------------------------------------


@st.composite
def situations(draw: st.DrawFn) -> Knowledge:
    """Return anything that a server may know."""
    config = request(
        partner=draw(st.sampled_from(RULES)),
        topology=draw(st.sampled_from(["complete", *SPARSE])),
        pairs=draw(st.integers(1, CLIENTS // 2)),
        seed=draw(st.integers(0, 50)),
    )
    clients = range(CLIENTS)
    pairs = st.sampled_from(list(combinations(clients, 2)))
    counts = st.lists(st.integers(0, 3), min_size=10, max_size=10)
    orders = st.dictionaries(st.sampled_from(clients), st.permutations(list(clients)))
    heard = {
        client: [peer for peer in order[: draw(st.integers(1, CLIENTS))] if peer != client]
        for client, order in draw(orders).items()
    }
    key = draw(st.lists(st.integers(0, 3), min_size=CLIENTS, max_size=CLIENTS))
    return knowing(
        config,
        draw(st.integers(1, 200)),
        meetings=met(draw(st.dictionaries(pairs, st.integers(1, 9)))),
        label_counts=draw(st.none() | st.lists(counts, min_size=CLIENTS, max_size=CLIENTS)),
        losses=draw(st.dictionaries(st.sampled_from(clients), st.floats(0, math.inf))),
        preferences={client: peers for client, peers in heard.items() if peers},
        stored=lambda sender, receiver: key[sender] * key[receiver],
    )


@unhurried
@given(situations())
def test_pairs_are_disjoint_neighbours_and_at_most_q(known: Knowledge) -> None:
    pairs = drawn(known)
    graph, wanted = known.graph, known.config.pairs_per_round
    assert len({client for pair in pairs for client in pair}) == 2 * len(pairs)
    assert 1 <= len(pairs) <= wanted
    if graph is None:
        assert len(pairs) == wanted
    else:
        assert all(graph.has_edge(*pair) for pair in pairs)
    assert all(type(client) is int for pair in pairs for client in pair)


@unhurried
@given(situations(), st.randoms(use_true_random=False))
def test_pairs_follow_from_what_is_known_and_not_from_when_it_came(
    known: Knowledge, random: Any
) -> None:
    def mixed(entries: Any) -> dict[Any, Any]:
        return dict(random.sample(sorted(entries.items()), len(entries)))

    again = replace(
        known,
        meetings={client: mixed(peers) for client, peers in known.meetings.items()},
        losses=mixed(known.losses),
        preferences=mixed(known.preferences),
    )
    assert drawn(again) == drawn(known)


@unhurried
@given(situations())
def test_on_the_complete_graph_all_rules_have_the_same_clients_train(known: Knowledge) -> None:
    at_random = replace(known, config=known.config.replace(partner="random"))
    expected = {sender for sender, _ in drawn(at_random)}
    if known.graph is None:
        assert {sender for sender, _ in drawn(known)} == expected


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "random"])
def test_a_sparse_graph_has_room_for_as_many_pairs_as_at_random(rule: str) -> None:
    """Give or take a few: senders that find their neighbours taken leave others to pair up."""
    counts: Counter[str] = Counter()
    for server_round in range(1, 201):
        known = knowing(request(topology="ring", partner=rule), server_round)
        counts[rule] += len(drawn(known))
        counts["random"] += len(partners.get("random").choose(known))
    assert counts[rule] > 0.95 * counts["random"]


@pytest.mark.parametrize("rule", RULES)
def test_where_nothing_is_known_the_draw_decides(rule: str) -> None:
    """All rules but `complementary`, which has to guess, then give the pairs of `random`."""
    config = request(partner=rule)
    known = [knowing(config, server_round) for server_round in range(1, 20)]
    chosen = [drawn(each) for each in known]
    at_random = [partners.get("random").choose(each) for each in known]
    assert (chosen == at_random) == (rule != "complementary")
    assert len({tuple(pairs) for pairs in chosen}) == len(chosen)


# Random -------------------------------------------------------------------------------------------

GOLDEN = {
    ("complete", 0, 1): [(2, 5), (3, 10), (6, 0), (11, 7)],
    ("complete", 7, 30): [(0, 2), (5, 4), (6, 3), (10, 1)],
    ("ring", 0, 1): [(3, 2), (6, 5), (7, 8), (11, 0)],
    ("ring", 7, 30): [(0, 11), (4, 3), (5, 6), (10, 9)],
    ("small-world", 0, 1): [(2, 1), (6, 3), (7, 8), (11, 0)],
    ("small-world", 7, 30): [(0, 2), (4, 3), (5, 10), (6, 7)],
}
"""What Def-KT's draw gave before there were other rules: topology, seed, round."""


@pytest.mark.parametrize(("name", "seed", "server_round"), GOLDEN)
def test_random_pairs_have_not_changed(name: str, seed: int, server_round: int) -> None:
    config = request(topology=name, pairs=4, seed=seed)
    assert sorted(drawn(knowing(config, server_round))) == GOLDEN[name, seed, server_round]


# Least recent -------------------------------------------------------------------------------------


@unhurried
@given(
    st.dictionaries(
        st.sampled_from(list(combinations(range(CLIENTS), 2))), st.integers(1, 9), min_size=20
    ),
    st.integers(1, 50),
)
def test_a_sender_writes_to_whom_it_has_not_met_for_longest(
    meetings: dict[Pair, int], server_round: int
) -> None:
    config = request(partner="least-recent", pairs=1)
    known = knowing(config, server_round, meetings=met(meetings))
    ((sender, receiver),) = drawn(known)
    others = [client for client in range(CLIENTS) if client != sender]
    last = {other: meetings.get(unordered(sender, other), 0) for other in others}
    assert last[receiver] == min(last.values())


def test_a_lonely_sender_has_met_everybody_before_it_meets_anybody_again() -> None:
    """Q = 1: of all pairs that a sender is drawn for, no receiver comes twice before all came."""
    config, meetings = request(partner="least-recent", pairs=1, clients=5), dict[Pair, int]()
    repeated: Counter[str] = Counter()
    for server_round in range(1, 300):
        ((sender, receiver),) = drawn(knowing(config, server_round, meetings=met(meetings)))
        others = {client for client in range(5) if client != sender}
        unmet = {other for other in others if unordered(sender, other) not in meetings}
        repeated["too early"] += bool(unmet) and receiver not in unmet
        repeated["rightly"] += not unmet
        meetings[unordered(sender, receiver)] = server_round
    assert repeated["too early"] == 0
    assert repeated["rightly"] > 200


# Complementary ------------------------------------------------------------------------------------

bitmaps = st.lists(st.booleans(), min_size=10, max_size=10)


@unhurried
@given(bitmaps, bitmaps)
def test_the_complement_counts_what_one_has_and_the_other_lacks_both_ways(
    one: list[bool], other: list[bool]
) -> None:
    mine, theirs = ({c for c, held in enumerate(bits) if held} for bits in (one, other))
    (found,) = complement(np.array(one), np.array([other]))
    assert found == len(mine - theirs) + len(theirs - mine)
    assert found == 2 * len(mine | theirs) - len(mine) - len(theirs)


@unhurried
@given(st.lists(bitmaps, min_size=CLIENTS, max_size=CLIENTS), st.integers(1, 50))
def test_a_sender_writes_to_whom_it_complements_most(
    classes: list[list[bool]], server_round: int
) -> None:
    counts = [[7 * held for held in bits] for bits in classes]
    config = request(partner="complementary", pairs=1)
    ((sender, receiver),) = drawn(knowing(config, server_round, label_counts=counts))
    marks = [
        sum(a != b for a, b in zip(classes[sender], classes[other], strict=True))
        for other in range(CLIENTS)
    ]
    assert marks[receiver] == max(marks[:sender] + marks[sender + 1 :])


def test_how_many_samples_of_a_class_a_client_has_does_not_matter() -> None:
    config = request(partner="complementary", clients=4)
    few, many = ([[size, 0], [size, 0], [0, size], [0, size]] for size in (1, 900))
    assert drawn(knowing(config, label_counts=few)) == drawn(knowing(config, label_counts=many))


@unhurried
@given(bitmaps, st.dictionaries(st.integers(0, 30), bitmaps, min_size=1), st.integers(0, 9))
def test_a_client_prefers_peers_by_how_far_they_complement_it(
    own: list[bool], others: dict[int, list[bool]], seed: int
) -> None:
    preferred = preference(own, others, np.random.default_rng(seed))
    assert sorted(preferred) == sorted(others)
    marks = [sum(a != b for a, b in zip(own, others[p], strict=True)) for p in preferred]
    assert marks == sorted(marks, reverse=True)


def test_no_partition_id_is_favoured_among_equals() -> None:
    alike = {peer: [True, False] for peer in range(5)}
    first = Counter(
        preference([False, True], alike, np.random.default_rng(seed))[0] for seed in range(500)
    )
    assert set(first) == set(alike)
    assert max(first.values()) < 150


def test_those_that_both_prefer_each_other_are_paired() -> None:
    """Everybody has heard from everybody: 0 and 1, 2 and 3 like each other best."""
    best = {0: 1, 1: 0, 2: 3, 3: 2}
    preferences = {
        client: [favourite, *(p for p in range(4) if p not in (client, favourite))]
        for client, favourite in best.items()
    }
    config = request(partner="complementary", share_label_counts=False, clients=4, pairs=1)
    for server_round in range(1, 30):
        ((sender, receiver),) = drawn(knowing(config, server_round, preferences=preferences))
        assert best[sender] == receiver


def test_one_who_was_told_of_is_known_to_the_other_side_too() -> None:
    """Client 0 has heard from all and likes 5 best; the others have heard from nobody."""
    order = [5, *(peer for peer in range(1, CLIENTS) if peer != 5)]
    config = request(partner="complementary", share_label_counts=False, pairs=1)
    found: Counter[tuple[bool, bool]] = Counter()
    for server_round in range(1, 400):
        known = knowing(config, server_round, preferences={0: order})
        ((sender, receiver),) = drawn(known)
        found[sender == 0, receiver == 5] += 1
        if sender == 0:
            assert receiver == 5
    assert found[True, True] > 10


def test_strangers_are_got_to_know_while_most_are_strangers() -> None:
    """Client 0 knows two of 49 peers: it writes to the better one now and then, not for ever."""
    config = request(partner="complementary", share_label_counts=False, clients=50, pairs=1)
    written = Counter(
        receiver
        for server_round in range(1, 3000)
        for sender, receiver in drawn(knowing(config, server_round, preferences={0: [1, 2]}))
        if sender == 0
    )
    assert written[1] < 0.2 * written.total()
    assert len(written) > 25


# Key-aware ----------------------------------------------------------------------------------------


@unhurried
@given(st.lists(st.integers(0, 5), min_size=CLIENTS, max_size=CLIENTS), st.integers(1, 50))
def test_a_sender_writes_where_most_key_is_stored(key: list[int], server_round: int) -> None:
    def stored(sender: int, receiver: int) -> int:
        return key[receiver] + 10 * (receiver == (sender + 1) % CLIENTS)

    known = knowing(request(partner="key-aware", pairs=1), server_round, stored=stored)
    ((sender, receiver),) = drawn(known)
    assert receiver == (sender + 1) % CLIENTS


def test_links_that_have_given_key_away_rest() -> None:
    """One-time pads of equal size over equal links: no link is used twice before all are."""
    config = request(partner="key-aware", pairs=1, clients=4, suite="otp", head_start_s=600)
    controller = controller_of(config)
    uses: Counter[Pair] = Counter()
    for server_round in range(1, 200):
        ((sender, receiver),) = drawn(knowing(config, server_round, stored=controller.available))
        of_sender = [uses[unordered(sender, other)] for other in range(4) if other != sender]
        assert uses[unordered(sender, receiver)] == min(of_sender)
        grant = controller.grant(sender, receiver, 8000, "otp")
        assert grant is not None
        controller.settle(grant, 8000)
        uses[unordered(sender, receiver)] += 1
    assert set(uses) == set(combinations(range(4), 2))


# Loss ---------------------------------------------------------------------------------------------


@unhurried
@given(
    st.lists(st.floats(0, 10, allow_nan=False), min_size=CLIENTS, max_size=CLIENTS, unique=True),
    st.integers(1, 50),
)
def test_the_lowest_loss_writes_to_the_highest(losses: list[float], server_round: int) -> None:
    known = knowing(request(partner="loss", pairs=4), server_round, losses=dict(enumerate(losses)))
    pairs = drawn(known)
    senders = [losses[sender] for sender, _ in pairs]
    receivers = [losses[receiver] for _, receiver in pairs]
    assert senders == sorted(senders)
    assert receivers == sorted(receivers, reverse=True)
    drawn_to_send = {sender for sender, _ in pairs}
    others = sorted((losses[c] for c in range(CLIENTS) if c not in drawn_to_send), reverse=True)
    assert receivers == others[:4]


def test_who_has_never_trained_counts_as_highest() -> None:
    losses = {client: 0.1 * client for client in range(CLIENTS) if client not in (3, 8)}
    for server_round in range(1, 30):
        known = knowing(request(partner="loss", pairs=2), server_round, losses=losses)
        pairs = drawn(known)
        silent = {3, 8} - {sender for sender, _ in pairs}
        assert silent <= {receiver for _, receiver in pairs}


# Rules of one's own -------------------------------------------------------------------------------


@pytest.fixture
def own_rule(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Offers what is put under ``pairs`` as a rule of one's own, which ``own:rule`` finds."""
    offered: dict[str, Any] = {}
    choose = partner_rule("Nothing.")(lambda known: offered["pairs"])
    monkeypatch.setattr(rules, "own", choose, raising=False)
    monkeypatch.setattr(rules, "silent", lambda known: [], raising=False)
    return offered


OWN = "deffd_flower.strategy.partners:own"


def test_a_rule_of_ones_own_is_found_by_its_path(own_rule: dict[str, Any]) -> None:
    own_rule["pairs"] = [(np.int64(4), np.int64(2))]
    assert drawn(knowing(request(partner=OWN))) == [(4, 2)]


@pytest.mark.parametrize(
    ("keys", "pairs"),
    [
        ({}, [(0, 1), (1, 2)]),
        ({}, [(0, 0)]),
        ({}, [(0, CLIENTS)]),
        ({}, [(-1, 2)]),
        ({"pairs": 1}, [(0, 1), (2, 3)]),
        ({"topology": "ring"}, [(0, 2)]),
    ],
)
def test_pairs_that_break_the_promise_end_the_run(
    own_rule: dict[str, Any], keys: dict[str, Any], pairs: list[Pair]
) -> None:
    own_rule["pairs"] = pairs
    told = "must give at most . disjoint pairs of neighbours; in round 3 it gave"
    with pytest.raises(DeffdError, match=told):
        drawn(knowing(request(partner=OWN, **keys), 3))


@pytest.mark.usefixtures("own_rule")
def test_a_rule_that_does_not_say_what_it_reveals_is_refused() -> None:
    with pytest.raises(RequestError, match="silent: must say what it reveals to the server"):
        request(partner="deffd_flower.strategy.partners:silent")


# Requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"partner": "rnadom"}, "partner=rnadom: must be one of .*Did you mean 'random'"),
        ({"partner": "key-aware", "key_source": "etsi014"}, "key managers' affair"),
        ({"partner": "key-aware", "suite": "pqc"}, "suite=pqc uses none; take another rule"),
        ({"partner": "key-aware", "suite": "none"}, "suite=none uses none; take another rule"),
        ({"partner": "loss", "strategy": "combo"}, "strategy=combo does not use it"),
        ({"partner": "loss", "strategy": "local"}, "strategy=local does not use it"),
        (
            {"partner": "loss", "strategy": "fedavg", "suite": "none"},
            "strategy=fedavg does not use it",
        ),
    ],
)
def test_a_rule_that_could_not_work_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        request(**keys)
    assert caught.value.key == "partner"


@pytest.mark.parametrize("rule", ["random", "least-recent", "complementary", "loss"])
def test_rules_that_need_no_key_work_with_key_managers_and_without_key(rule: str) -> None:
    assert partner_of(request(partner=rule, key_source="etsi014")) is partners.get(rule)
    assert partner_of(request(partner=rule, suite="pqc")) is partners.get(rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shared", [True, False])
def test_clients_tell_whom_they_prefer_only_where_the_server_has_no_label_counts(
    rule: str, shared: bool
) -> None:
    asked = nominates(request(partner=rule, share_label_counts=shared))
    assert asked == (rule == "complementary" and not shared)


def test_label_counts_are_shared_in_a_simulation_and_on_real_nodes_only_on_request() -> None:
    real = {"partner": "complementary", "key_source": "etsi014"}
    assert not request(**real).label_counts_shared
    assert nominates(request(**real))
    assert request(**real, share_label_counts=True).label_counts_shared
    assert request(partner="complementary").label_counts_shared
    assert not request(partner="complementary", share_label_counts=False).label_counts_shared
