"""Every bit of key that was granted has sealed a model or is burnt, and the ledger says which."""

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deffd_flower.data.datasets import datasets
from deffd_flower.fusion.package import pack
from deffd_flower.models import build_model
from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.strategy.dispatch import Dispatcher
from deffd_flower.strategy.plans import RoundPlan, Transfer
from deffd_flower.transport import KeyReference, parse, suites
from tests.strategy.dispatching import SIZE, Keys, blob_of, dispatcher, plan, rows_of


def test_key_of_a_model_that_never_came_is_burnt_and_not_granted_again(tmp_path: Path) -> None:
    books = dispatcher(tmp_path / "keys.csv", suite="otp", after_s=60.0)
    bits = suites.get("otp")().key_bits(SIZE)
    (lost,) = books.begin_round(1, plan((0, 1)))
    before = books.levels()["0-1"]
    books.lost(lost)
    after = books.levels()["0-1"]
    assert before.stored - after.stored == bits
    assert before.available == after.available
    (next_one,) = books.begin_round(2, plan((0, 1)))
    assert {r.key_id for r in lost.references}.isdisjoint(r.key_id for r in next_one.references)
    books.sent(next_one, blob_of(next_one), 1.0)
    books.controller.close()
    events = rows_of(tmp_path / "keys.csv", "unused", "delivered")
    assert [(row["event"], int(row["bits"])) for row in events] == [
        ("unused", bits),
        ("delivered", bits),
    ]
    assert books.totals()["key_bits"] == bits


def test_bits_that_a_model_did_not_need_are_burnt(tmp_path: Path) -> None:
    keys: Keys = {"suite": "otp", "strategy": "combo", "segments": 10, "after_s": 60.0}
    books = dispatcher(tmp_path / "keys.csv", **keys)
    parts = RoundPlan([0], [Transfer(0, 1, (1, 4, 7))])
    (consignment,) = books.begin_round(1, parts)
    blob = blob_of(consignment, 317)
    books.sent(consignment, blob, 0.3)
    books.controller.close()
    assert consignment.grant is not None
    granted, used = consignment.grant.bits, suites.get("otp")().key_bits(317)
    assert granted > used == parse(blob)[0].key_bits
    rows = rows_of(tmp_path / "keys.csv", "delivered", "unused")
    assert [int(row["bits"]) for row in rows] == [used, granted - used]
    verify_ledger(tmp_path / "keys.csv")


def test_a_model_that_names_no_granted_key_has_used_none() -> None:
    books = dispatcher(suite="aes", after_s=60.0)
    one, other = books.begin_round(1, plan((0, 1), (2, 3)))
    books.sent(one, blob_of(other), 1.0)
    books.sent(other, b"no envelope", 1.0)
    assert books.totals()["key_bits"] == 0
    assert books.controller.tally.abandoned == 2


def test_a_model_that_claims_more_key_than_was_granted_is_booked_for_the_grant() -> None:
    books = dispatcher(suite="aes", after_s=60.0)
    (consignment,) = books.begin_round(1, plan((0, 1)))
    (whole,) = consignment.references
    extra = (whole, KeyReference(whole.key_id, 256, 800), KeyReference(uuid4(), 0, 800))
    header, body = parse(blob_of(consignment))
    boastful = type(header)(header.suite, header.route, SIZE, header.nonce, b"", extra)
    books.sent(consignment, boastful.encode() + bytes(body), 1.0)
    assert books.totals()["key_bits"] == 256


@cache
def built(model: str) -> nn.Module:
    shape = (3, 32, 32) if model == "resnet18" else datasets.get("digits").shape
    return build_model(model, shape, 10, 0)


@pytest.mark.parametrize("model", ["cnn", "mlp", "resnet18"])
@pytest.mark.parametrize("parts", [1, 10, 1000])
def test_segments_never_outgrow_the_key_granted_for_them(model: str, parts: int) -> None:
    network = built(model)
    draws = np.random.default_rng(parts)
    whole = len(pack(network, 600, [], parts).encode())
    keys: Keys = {"strategy": "combo", "segments": parts, "clients": 2, "link": "li-2023"}
    books = dispatcher(sizes={0: whole, 1: whole}, suite="otp", after_s=60.0, **keys)
    sizes = sorted({1, parts, *draws.integers(1, parts + 1, 3).tolist()})
    for server_round, size in enumerate(sizes, 1):
        chosen = tuple(sorted(draws.choice(parts, size, replace=False).tolist()))
        (consignment,) = books.begin_round(server_round, RoundPlan([0], [Transfer(0, 1, chosen)]))
        sent = len(pack(network, 600, list(chosen), parts).encode())
        granted = sum(reference.length for reference in consignment.references)
        needed = suites.get("otp")().key_bits(sent)
        assert needed <= granted <= needed + 8 * (128 + (128 + whole // parts) * size)


FATES = ["sent", "lost", "garbled"]
ATTACKS = [
    "",
    "denial rounds=2-3",
    "intercept fraction=0.5 links=0-1",
    "bursts qber=0.3 probability=0.4",
]


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(["wait", "repick", "skip", "degrade"]),
    suite=st.sampled_from(["otp", "aes", "hybrid"]),
    link=st.sampled_from(["idq-class", "buried-69km", "trieste", "lim-50km"]),
    strategy=st.sampled_from(["def-fd", "combo"]),
    messages=st.sampled_from([1, 3]),
    eve=st.sampled_from(ATTACKS),
    network=st.sampled_from(["direct", "metro-ring"]),
    seed=st.integers(0, 1000),
)
def test_whatever_happens_every_grant_is_settled_or_abandoned_and_the_ledger_adds_up(
    policy: str,
    suite: str,
    link: str,
    strategy: str,
    messages: int,
    eve: str,
    network: str,
    seed: int,
) -> None:
    keys: Keys = {"on_starved": policy, "suite": suite, "link": link, "strategy": strategy}
    keys |= {"eve": eve, "qkd_network": network, "seed": seed, "clients": 6}
    keys |= {"min_suite": "pqc"} if policy == "degrade" else {}
    keys |= {"rekey_messages": messages} if suite != "otp" else {}
    keys |= {"max_wait_s": 2000.0} if policy == "wait" else {}
    with TemporaryDirectory() as folder:
        ledger = Path(folder) / "keys.csv"
        books = dispatcher(ledger, pool_capacity=100_000, **keys)
        granted = _five_rounds(books, seed)
        tally = books.controller.tally
        assert granted == tally.messages + tally.abandoned
        books.controller.close()
        assert granted == tally.messages + tally.abandoned
        delivered = rows_of(ledger, "delivered", "relayed")
        assert sum(int(row["bits"]) for row in delivered) == tally.link_bits >= tally.key_bits
        verify_ledger(ledger)


def _five_rounds(books: Dispatcher, seed: int) -> int:
    """Send models of random pairs, each with a random fate; return the number of grants of key."""
    fates, granted = random.Random(seed), 0
    for server_round in range(1, 6):
        consigned = books.begin_round(server_round, _plan(books, fates))
        granted += sum(bool(each.references) for each in consigned)
        for consignment in consigned:
            fate = fates.choice(FATES)
            if fate == "lost":
                books.lost(consignment)
            elif fate == "garbled" or not consignment.grant:
                books.sent(consignment, b"garbled", 1.0)
            else:
                books.sent(consignment, blob_of(consignment, SIZE // 2), 1.0)
        books.end_round()
    return granted


def _plan(books: Dispatcher, draws: random.Random) -> RoundPlan:
    order = draws.sample(range(6), 6)
    segments = (0, 3, 8) if books._config.strategy == "combo" else ()
    transfers = [Transfer(order[2 * i], order[2 * i + 1], segments) for i in range(3)]
    return RoundPlan(sorted(order[::2]), sorted(transfers, key=lambda t: (t.sender, t.receiver)))
