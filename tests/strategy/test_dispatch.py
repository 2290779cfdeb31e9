"""What becomes of a model that finds too little key: it waits, goes elsewhere, or goes weaker."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.qkd.link import block_seconds
from deffd_flower.qkd.presets import links
from deffd_flower.strategy.dispatch import suites_in_play
from deffd_flower.strategy.plans import RoundPlan, Transfer
from deffd_flower.transport import suites
from tests.strategy.dispatching import SIZE, Keys, blob_of, dispatcher, pairs_of, plan, rows_of

BLOCK_S = block_seconds(links.get("idq-class"))
LARGE = 100_000


# wait --------------------------------------------------------------------------------------------


def test_waiting_lets_just_so_much_time_pass_as_the_link_needs() -> None:
    waiting = dispatcher(on_starved="wait", suite="aes")
    needed = waiting.controller.seconds_until(0, 1, 256)
    assert needed == pytest.approx(BLOCK_S)
    one, other = waiting.begin_round(1, plan((0, 1), (2, 3)))
    assert waiting.controller.now == pytest.approx(needed, abs=1e-9)
    assert (one.grant and one.grant.wait_s, other.grant and other.grant.wait_s) == (needed, 0.0)
    assert (waiting.counts["starved"], waiting.counts["waits"]) == (1, 1)


def test_a_one_time_pad_waits_for_as_many_blocks_as_it_takes() -> None:
    waiting = dispatcher(on_starved="wait", suite="otp", sizes=dict.fromkeys(range(4), LARGE))
    needed = waiting.controller.seconds_until(0, 1, suites.get("otp")().key_bits(LARGE))
    assert needed == pytest.approx(BLOCK_S * 16)
    (consignment,) = waiting.begin_round(1, plan((0, 1)))
    assert waiting.controller.now == pytest.approx(needed, abs=1e-9)
    waiting.sent(consignment, blob_of(consignment, LARGE), 1.0)
    assert waiting.totals()["waited_s"] == pytest.approx(needed, abs=1e-6)
    assert waiting.totals()["key_bits"] == suites.get("otp")().key_bits(LARGE)


def test_a_model_that_would_wait_too_long_is_skipped_and_time_stands_still() -> None:
    needed = dispatcher().controller.seconds_until(0, 1, 256)
    for longest, sent in ((needed - 1e-6, 0), (needed, 1)):
        waiting = dispatcher(on_starved="wait", max_wait_s=longest)
        assert len(waiting.begin_round(1, plan((0, 1)))) == sent
        assert waiting.controller.now == pytest.approx(sent * needed)
        assert waiting.counts["skipped"] == 1 - sent
        assert waiting.counts["waits"] == sent


def test_key_that_can_never_be_there_is_not_waited_for() -> None:
    hopeless: list[Keys] = [
        {"eve": "denial"},
        {"suite": "otp", "pool_capacity": 8 * SIZE},
    ]
    for keys in hopeless:
        waiting = dispatcher(on_starved="wait", max_wait_s=1e300, **keys)
        assert waiting.begin_round(1, plan((0, 1))) == []
        assert waiting.controller.now == 0
        assert (waiting.counts["starved"], waiting.counts["skipped"]) == (1, 1)


def test_a_round_takes_its_computing_and_its_largest_transfer() -> None:
    waiting = dispatcher(head_start_s=60.0, round_compute_s=7.0, transfer_mbps=0.5)
    consigned = waiting.begin_round(1, plan((0, 1), (2, 3)))
    blobs = [blob_of(each, size) for each, size in zip(consigned, (3000, 5000), strict=True)]
    for consignment, blob in zip(consigned, blobs, strict=True):
        waiting.sent(consignment, blob, 1.0)
    waiting.end_round()
    assert waiting.controller.now == pytest.approx(7.0 + 8 * len(blobs[1]) / 500_000)


# repick ------------------------------------------------------------------------------------------


def test_repick_finds_a_free_neighbour_with_key() -> None:
    keys: Keys = {"on_starved": "repick", "clients": 6, "after_s": 60.0}
    lonely = dispatcher(eve="denial links=0-1,0-2,0-3,0-4", **keys)
    assert pairs_of(lonely.begin_round(1, plan((0, 1)))) == [(0, 5)]
    assert (lonely.counts["starved"], lonely.counts["repicked"]) == (1, 1)
    assert lonely.controller.now == 60.0


def test_repick_stays_within_the_topology() -> None:
    keys: Keys = {
        "on_starved": "repick",
        "clients": 6,
        "after_s": 60.0,
        "topology": "ring",
    }
    ring = dispatcher(eve="denial links=0-1", **keys)
    assert pairs_of(ring.begin_round(1, plan((0, 1)))) == [(0, 5)]
    assert ring.begin_round(2, plan((0, 1), (5, 4))) != []
    assert ring.counts["skipped"] == 1


def test_repick_draws_from_the_seed_the_round_and_the_pair() -> None:
    keys: Keys = {
        "on_starved": "repick",
        "clients": 9,
        "after_s": 600.0,
        "eve": "denial links=0-1",
    }

    def receivers(seed: int) -> list[int]:
        repicking = dispatcher(seed=seed, **keys)
        rounds = [repicking.begin_round(number, plan((0, 1))) for number in range(1, 21)]
        return [consigned[0].transfer.receiver for consigned in rounds]

    assert receivers(1) == receivers(1) != receivers(2)
    assert len(set(receivers(1))) > 3


def test_combo_pulls_starved_segments_from_another_sender() -> None:
    keys: Keys = {"strategy": "combo", "clients": 6, "after_s": 60.0}
    combo = dispatcher(on_starved="repick", eve="denial links=0-1", **keys)
    wanted = Transfer(0, 1, (2, 5))
    (found,) = combo.begin_round(1, RoundPlan([0, 2], [wanted]))
    assert found.transfer == Transfer(2, 1, (2, 5))
    assert combo.begin_round(2, RoundPlan([0], [wanted])) == []


PEOPLE = 8
EDGES = [(one, other) for one in range(PEOPLE) for other in range(one + 1, PEOPLE)]


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(PEOPLE)),
    pairs=st.integers(1, 4),
    dead=st.sets(st.sampled_from(EDGES)),
)
def test_repicked_pairs_stay_disjoint_and_nobody_is_skipped_who_could_send(
    order: list[int], pairs: int, dead: set[tuple[int, int]]
) -> None:
    eve = "denial links=" + ",".join(f"{a}-{b}" for a, b in sorted(dead)) if dead else ""
    repicking = dispatcher(on_starved="repick", clients=PEOPLE, after_s=60.0, eve=eve)
    drawn = plan(*zip(order[:pairs], order[pairs : 2 * pairs], strict=True))
    sent = pairs_of(repicking.begin_round(1, drawn))
    everybody = [client for pair in sent for client in pair]
    assert len(set(everybody)) == len(everybody)
    assert {sender for sender, _ in sent} <= set(drawn.trainers)
    assert dead.isdisjoint(map(edge, sent))
    planned = {(transfer.sender, transfer.receiver) for transfer in drawn.transfers}
    alive = {pair for pair in planned if edge(pair) not in dead}
    assert alive <= set(sent)
    assert repicking.counts["repicked"] == len(sent) - len(alive)
    assert repicking.counts["skipped"] == pairs - len(sent)
    free = set(range(PEOPLE)) - {client for pair in planned for client in pair} - set(everybody)
    for sender in set(drawn.trainers) - {sender for sender, _ in sent}:
        assert dead.issuperset(edge((sender, other)) for other in free)


def edge(pair: tuple[int, int]) -> tuple[int, int]:
    return min(pair), max(pair)


# skip and degrade --------------------------------------------------------------------------------


def test_skipping_sends_what_has_key_and_drops_the_rest() -> None:
    skipping = dispatcher(on_starved="skip", after_s=60.0, eve="denial links=0-1")
    assert pairs_of(skipping.begin_round(1, plan((0, 1), (2, 3)))) == [(2, 3)]
    assert (skipping.counts["starved"], skipping.counts["skipped"]) == (1, 1)
    assert skipping.controller.now == 60.0


@pytest.mark.parametrize(
    ("suite", "floor", "order"),
    [
        ("otp", "pqc", ["otp", "aes", "hybrid", "pqc"]),
        ("otp", "hybrid", ["otp", "aes", "hybrid"]),
        ("aes", "pqc", ["aes", "hybrid", "pqc"]),
        ("hybrid", "pqc", ["hybrid", "pqc"]),
    ],
)
def test_suites_degrade_in_this_order_and_never_to_plaintext(
    suite: str, floor: str, order: list[str], tmp_path: Path
) -> None:
    ledger = tmp_path / "keys.csv"
    keys: Keys = {
        "on_starved": "degrade",
        "suite": suite,
        "min_suite": floor,
        "eve": "denial",
    }
    degrading = dispatcher(ledger, **keys)
    assert suites_in_play(degrading._config) == order
    sent = degrading.begin_round(1, plan((0, 1)))
    degrading.controller.close()
    tried = [row["suite"] for row in rows_of(ledger, "starved")]
    assert tried == [name for name in order if name != "pqc"]
    assert [each.suite for each in sent] == [name for name in order if name == "pqc"]
    assert (degrading.counts["degraded"], degrading.counts["skipped"]) == (len(sent), 1 - len(sent))


def test_a_pad_too_large_for_the_link_gives_way_to_aes_and_comes_back() -> None:
    keys: Keys = {
        "on_starved": "degrade",
        "suite": "otp",
        "min_suite": "pqc",
        "head_start_s": 60.0,
    }
    degrading = dispatcher(sizes={0: LARGE, 1: SIZE, 2: SIZE, 3: SIZE}, **keys)
    large, small = degrading.begin_round(1, plan((0, 1), (2, 3)))
    assert (large.suite, small.suite) == ("aes", "otp")
    for consignment, size in ((large, LARGE), (small, SIZE)):
        degrading.sent(consignment, blob_of(consignment, size), 1.0)
    assert degrading.models_by_suite == {"aes": 1.0, "otp": 1.0}
    assert degrading.bytes_by_suite["aes"] > 10 * degrading.bytes_by_suite["otp"] > 10 * SIZE
    degrading.controller.advance(20 * BLOCK_S)
    assert [each.suite for each in degrading.begin_round(2, plan((0, 1)))] == ["otp"]
    assert degrading.counts["degraded"] == 1


def test_a_key_in_use_is_not_confused_with_a_degraded_message_between() -> None:
    keys: Keys = {
        "on_starved": "degrade",
        "suite": "aes",
        "min_suite": "pqc",
        "rekey_messages": 3,
    }
    degrading = dispatcher(**keys)
    (first,) = degrading.begin_round(1, plan((0, 1)))
    assert (first.suite, first.references) == ("pqc", ())
    degrading.controller.advance(60.0)
    (second,) = degrading.begin_round(2, plan((0, 1)))
    assert second.suite == "aes"
    assert len(second.references) == 1
    (third,) = degrading.begin_round(3, plan((0, 1)))
    assert (third.suite, third.grant) == ("aes", None)


def test_eve_who_cuts_all_fibres_in_round_two_starves_the_federation(tmp_path: Path) -> None:
    ledger = tmp_path / "keys.csv"
    keys: Keys = {
        "on_starved": "skip",
        "suite": "otp",
        "pool_capacity": 10 * SIZE,
        "head_start_s": 60.0,
    }
    cut = dispatcher(ledger, eve="denial rounds=2-", **keys)
    sent = []
    for number in range(1, 6):
        consigned = cut.begin_round(number, plan((0, 1), (2, 3)))
        for consignment in consigned:
            cut.sent(consignment, blob_of(consignment), 1.0)
        cut.end_round()
        cut.controller.advance(10 * BLOCK_S)
        sent.append(len(consigned))
    cut.controller.close()
    assert sent == [2, 2, 0, 0, 0]
    assert cut.counts["skipped"] == cut.counts["starved"] == 6
    verify_ledger(ledger)
