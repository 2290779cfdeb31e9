"""Orders for clients with key managers of their own, and what follows when one has no key."""

import math
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.request import resolve
from deffd_flower.strategy import key_managers
from deffd_flower.strategy.consignment import Consignment
from deffd_flower.strategy.key_managers import MOST_OTHERS, KeyManagerDispatcher
from deffd_flower.strategy.plans import RoundPlan, Transfer
from deffd_flower.strategy.topology import topology
from deffd_flower.transport import Direction, Header, KeyReference, Route, suites
from tests.strategy.dispatching import pairs_of, plan, rows_of

SIZE = 1000


def dispatcher(ledger: Path | None = None, **keys: Any) -> KeyManagerDispatcher:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve({"dataset": "digits", "clients": 6, "key-source": "etsi014", **given})
    return KeyManagerDispatcher(config, topology(config), ledger)


def sealed(consignment: Consignment, *references: KeyReference) -> bytes:
    """Return what a client would send: the server sees its header and no more."""
    transfer, suite = consignment.transfer, suites.get(consignment.suite)()
    names = (f"client-{transfer.sender}", f"client-{transfer.receiver}")
    route = Route(1, *names, Direction.MODEL, 1, 0)
    header = Header(suite.suite_id, route, SIZE, suite.nonce(route), b"", references)
    return header.encode() + bytes(SIZE + suite.tag_bytes)


def key(bits: int = 256) -> KeyReference:
    return KeyReference(uuid4(), 0, bits)


def test_everything_planned_is_ordered_and_no_key_is_granted() -> None:
    books = dispatcher()
    consigned = books.begin_round(1, plan((0, 1), (2, 3)))
    assert pairs_of(consigned) == [(0, 1), (2, 3)]
    assert [(each.suite, each.grant, each.references) for each in consigned] == [
        ("aes", None, ())
    ] * 2
    assert books.again([]) == []


def test_key_is_counted_by_what_headers_name_and_once_where_it_seals_twice(tmp_path: Path) -> None:
    books = dispatcher(tmp_path / "keys.csv", rekey_messages=3)
    one, two = books.begin_round(1, plan((0, 1), (2, 3)))
    shared, several = key(), [key(64), key(192)]
    books.sent(one, sealed(one, shared), 1.0)
    books.sent(two, sealed(two, *several), 1.0)
    books.end_round()
    (again,) = books.begin_round(2, plan((0, 1)))
    books.sent(again, sealed(again, shared), 1.0)
    books.sent(again, b"no envelope", 1.0)
    books.close()
    assert books.totals()["key_bits"] == 512
    assert math.isnan(books.totals()["sim_time_s"])
    assert books.tally.messages == 3
    assert verify_ledger(tmp_path / "keys.csv") == 6
    delivered = rows_of(tmp_path / "keys.csv", "delivered")
    assert [(row["link"], row["bits"], row["round"]) for row in delivered] == [
        ("0-1", "256", "1"),
        ("2-3", "64", "1"),
        ("2-3", "192", "1"),
    ]


def test_skip_gives_a_starved_model_up(tmp_path: Path) -> None:
    books = dispatcher(tmp_path / "keys.csv", on_starved="skip")
    one, two = books.begin_round(1, plan((0, 1), (2, 3)))
    books.sent(two, sealed(two, key()), 1.0)
    assert books.again([one]) == []
    books.close()
    totals = books.totals()
    assert (totals["starved"], totals["skipped"], totals["waits"]) == (1, 1, 0)
    assert len(rows_of(tmp_path / "keys.csv", "starved")) == 1
    verify_ledger(tmp_path / "keys.csv")


def test_wait_orders_again_after_growing_pauses_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_managers, "FIRST_PAUSE_S", 0.05)
    books = dispatcher(max_wait_s=0.4)
    (one,) = books.begin_round(1, plan((0, 1)))
    begun, orders = time.monotonic(), [0.0]
    while books.again([one]) == [one]:
        orders.append(time.monotonic() - begun)
    pauses = [later - earlier for earlier, later in pairwise(orders)]
    assert all(pause >= 0.05 * 2**n - 0.001 for n, pause in enumerate(pauses[:-1]))
    assert 3 <= len(pauses) <= 4
    assert orders[-1] >= 0.399, "the last look is at the end of the time"
    totals = books.totals()
    assert (totals["starved"], totals["skipped"], totals["waits"]) == (1, 1, 0)


def test_a_model_that_was_waited_for_is_counted_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_managers, "FIRST_PAUSE_S", 0.1)
    books = dispatcher(max_wait_s=60)
    one, two = books.begin_round(1, plan((0, 1), (2, 3)))
    assert books.again([two, one]) == [one, two]
    books.sent(one, sealed(one, key()), 1.0)
    books.lost(two)
    totals = books.totals()
    assert (totals["starved"], totals["waits"], totals["skipped"]) == (2, 1, 0)
    assert totals["waited_s"] >= 0.1


def test_repick_takes_free_neighbours_one_after_the_other_and_not_for_ever() -> None:
    books = dispatcher(on_starved="repick", clients=12)
    (consignment, _) = books.begin_round(1, plan((0, 1), (2, 3)))
    tried = [consignment.transfer.receiver]
    while again := books.again([consignment]):
        (consignment,) = again
        assert consignment.transfer.sender == 0
        tried.append(consignment.transfer.receiver)
    assert len(tried) == len(set(tried)) == 1 + MOST_OTHERS
    assert not {0, 2, 3}.intersection(tried), "neither those that train nor those that are taken"
    totals = books.totals()
    assert (totals["starved"], totals["repicked"], totals["skipped"]) == (1, 0, 1)


def test_repick_is_the_same_for_the_same_seed_and_counts_what_was_sent() -> None:
    choices = set()
    for seed in (0, 0, 1, 2, 3):
        books = dispatcher(on_starved="repick", seed=seed)
        (one,) = books.begin_round(1, plan((0, 1)))
        (other,) = books.again([one])
        books.sent(other, sealed(other, key()), 1.0)
        assert books.totals()["repicked"] == 1
        choices.add((seed, other.transfer.receiver))
    assert len({seed for seed, _ in choices}) == len(choices) == 4
    assert len({receiver for _, receiver in choices}) > 1


def test_two_starved_models_are_not_given_to_one_neighbour() -> None:
    books = dispatcher(on_starved="repick")
    consigned = books.begin_round(1, plan((0, 1), (2, 3)))
    receivers = [each.transfer.receiver for each in books.again(consigned)]
    assert sorted(receivers) == [4, 5]


def test_repick_asks_a_neighbour_only() -> None:
    books = dispatcher(on_starved="repick", topology="ring")
    (one,) = books.begin_round(1, plan((0, 1)))
    assert pairs_of(books.again([one])) == [(0, 5)]


def test_segments_are_repicked_from_another_sender() -> None:
    books = dispatcher(on_starved="repick", strategy="combo", segments=2)
    parts = [Transfer(0, 3, (0,)), Transfer(1, 3, (1,))]
    consigned = books.begin_round(1, RoundPlan([0, 1, 2], parts))
    (again,) = books.again(consigned[:1])
    assert again.transfer == replace(parts[0], sender=again.transfer.sender)
    assert again.transfer.sender in (1, 2)


def test_degrade_goes_down_step_by_step_to_the_floor() -> None:
    books = dispatcher(on_starved="degrade", suite="otp", min_suite="hybrid")
    (one,) = books.begin_round(1, plan((0, 1)))
    ordered = [one.suite]
    while again := books.again([one]):
        (one,) = again
        assert one.transfer == Transfer(0, 1)
        ordered.append(one.suite)
    assert ordered == ["otp", "aes", "hybrid"]
    assert books.totals()["skipped"] == 1
    (one,) = books.begin_round(2, plan((0, 1)))
    (one,) = books.again([one])
    books.sent(one, sealed(one, key()), 1.0)
    assert books.totals()["degraded"] == 1
    assert books.models_by_suite == {"aes": 1.0}


def test_mail_that_found_no_key_comes_again_while_the_policy_waits() -> None:
    patient, hasty = dispatcher(max_wait_s=0.2), dispatcher(on_starved="skip")
    assert not hasty.delivers_again(1, 0, 1)
    assert patient.delivers_again(1, 0, 1)
    assert patient.delivers_again(1, 2, 3)
    time.sleep(0.25)
    assert not patient.delivers_again(1, 0, 1)
    assert patient.totals()["starved"] == 2
