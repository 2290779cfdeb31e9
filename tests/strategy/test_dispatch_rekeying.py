"""Server and senders decide apart from each other when a key has served its time, and agree."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flwr.app import Context, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deffd_flower.strategy.dispatch import Consignment, Dispatcher
from deffd_flower.strategy.orders import Parcel
from deffd_flower.strategy.plans import RoundPlan
from deffd_flower.transport import Header, parse
from deffd_flower.transport.desk import Desk
from tests.strategy.dispatching import SIZE, Keys, blob_of, dispatcher, plan

SEND_0_TO_1 = plan((0, 1))


def grants(books: Dispatcher, rounds: int, first: int = 1) -> Iterator[bool]:
    """Send a model from 0 to 1 in each round; yield whether it was granted fresh key."""
    for server_round in range(first, first + rounds):
        (consignment,) = books.begin_round(server_round, SEND_0_TO_1)
        blob = blob_of(consignment) if consignment.grant else b""
        books.sent(consignment, blob, 1.0)
        yield consignment.grant is not None


def test_by_default_every_model_is_granted_its_own_key() -> None:
    assert list(grants(dispatcher(after_s=60.0), 5)) == [True] * 5


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"rekey_messages": 3}, [True, False, False] * 3),
        ({"rekey_messages": 9, "rekey_bytes": 2 * SIZE}, [True, False] * 4),
        ({"rekey_messages": 9, "rekey_bytes": SIZE - 1}, [True] * 4),
    ],
)
def test_a_key_serves_until_its_first_limit(limit: Keys, expected: list[bool]) -> None:
    books = dispatcher(after_s=60.0, **limit)
    assert list(grants(books, len(expected))) == expected
    assert books.totals()["key_bits"] == 256 * sum(expected)


def test_a_key_serves_for_its_time() -> None:
    books = dispatcher(after_s=60.0, rekey_messages=99, rekey_seconds=25.0)
    fresh: list[bool] = []
    for server_round in range(1, 7):
        fresh += grants(books, 1, server_round)
        books.controller.advance(10.0)
    assert fresh == [True, False, False] * 2


def test_after_a_lost_model_the_next_one_has_a_fresh_key() -> None:
    books = dispatcher(after_s=60.0, rekey_messages=9)
    assert list(grants(books, 2)) == [True, False]
    (lost,) = books.begin_round(3, SEND_0_TO_1)
    assert lost.grant is None
    books.lost(lost)
    assert list(grants(books, 3, 4)) == [True, False, False]


def test_a_key_that_grows_too_old_while_another_model_waits_is_replaced() -> None:
    keys: Keys = {"rekey_messages": 9, "rekey_seconds": 40.0, "eve": "loss decibel=6 links=2-3"}
    books = dispatcher(after_s=30.0, key_max_age_s=1e6, **keys)
    assert list(grants(books, 1)) == [True]
    needed = books.controller.seconds_until(2, 3, 256)
    assert needed > 40.0
    going_on, waiting = books.begin_round(2, plan((0, 1), (2, 3)))
    assert waiting.grant is not None
    assert waiting.grant.wait_s == needed
    assert going_on.grant is not None


CLIENTS = 4
FATES = ["sent", "sent", "sent", "never reached", "crashed before saving", "reply lost"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    suite=st.sampled_from(["aes", "hybrid"]),
    messages=st.integers(1, 5),
    size=st.sampled_from([2**36, 3 * SIZE, SIZE]),
    seconds=st.sampled_from([3600.0, 90.0, 40.0]),
    policy=st.sampled_from(["wait", "repick", "skip", "degrade"]),
    seed=st.integers(0, 10_000),
)
def test_every_sender_has_key_for_what_it_is_told_to_send_and_every_receiver_opens_it(
    suite: str, messages: int, size: int, seconds: float, policy: str, seed: int
) -> None:
    keys: Keys = {"suite": suite, "rekey_messages": messages, "on_starved": policy, "seed": seed}
    keys |= {"rekey_bytes": size, "rekey_seconds": seconds} if messages > 1 else {}
    keys |= {"key_max_age_s": 45.0}
    keys |= {"min_suite": "pqc"} if policy == "degrade" else {}
    books = dispatcher(clients=CLIENTS, eve="loss decibel=6 links=2-3,0-2", **keys)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFFD_QKD_SECRET_FILE", str(Path(folder) / "qkd-secret"))
        headers = _ten_rounds(books, random.Random(seed))
    keyed = [(header.references, header.nonce) for header in headers if header.references]
    assert len(set(keyed)) == len(keyed)
    uses = Counter(references for references, _ in keyed)
    assert max(uses.values(), default=0) <= min(messages, max(1, size // SIZE))


def _ten_rounds(books: Dispatcher, draws: random.Random) -> list[Header]:
    """Send between random pairs with random fates; return the headers of all that was sealed."""
    run_config = books._config.values()
    contexts = [
        Context(1, client, {"partition-id": client}, RecordDict(), run_config)
        for client in range(CLIENTS)
    ]
    kem = [_introduced(context) for context in contexts]
    headers: list[Header] = []
    for server_round in range(1, 11):
        consigned = books.begin_round(server_round, _plan(draws))
        clock = books.controller.now
        for consignment in consigned:
            fate = draws.choice(FATES)
            blob = _sealed(contexts, kem, consignment, server_round, clock, fate)
            if blob:
                headers.append(parse(blob)[0])
            if fate != "sent":
                books.lost(consignment)
                continue
            books.sent(consignment, blob, 1.0)
            receiver = contexts[consignment.transfer.receiver]
            desk = Desk(receiver)
            assert desk.open(blob, server_round).plaintext == bytes(SIZE)
            desk.save()
        books.end_round()
    return headers


def _plan(draws: random.Random) -> RoundPlan:
    one, two, three, four = draws.sample(range(CLIENTS), CLIENTS)
    return plan(*sorted([(one, two), (three, four)])[: draws.randint(1, 2)])


def _introduced(context: Context) -> tuple[bytes, bytes]:
    desk = Desk(context)
    about = desk.introduce()
    desk.save()
    public, proof = about["kem-public"], about["kem-proof"]
    assert isinstance(public, bytes)
    assert isinstance(proof, bytes)
    return public, proof


def _sealed(
    contexts: list[Context],
    kem: list[tuple[bytes, bytes]],
    consignment: Consignment,
    server_round: int,
    clock: float,
    fate: str,
) -> bytes:
    if fate == "never reached":
        return b""
    transfer = consignment.transfer
    context = contexts[transfer.sender]
    references = consignment.references
    parcel = Parcel(transfer.receiver, consignment.suite, (), references, *kem[transfer.receiver])
    desk = Desk(context)
    blob = desk.seal(bytes(SIZE), parcel, server_round, clock)
    if fate != "crashed before saving":
        desk.save()
    return blob
