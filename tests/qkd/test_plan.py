"""`deffd plan` against hand calculation, the published key budget, and the network it speaks of."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.config import RunConfig
from deffd_flower.data.client import client_data
from deffd_flower.errors import RequestError
from deffd_flower.peer import Peer
from deffd_flower.qkd.link import block_seconds, secret_key_length
from deffd_flower.qkd.plan import PackageSize, SuitePlan, largest_models, significant
from deffd_flower.qkd.planner import Planner, package_sizes
from deffd_flower.qkd.pool import KeyPool, PoolSettings
from deffd_flower.qkd.presets import links
from deffd_flower.qkd.production import CALM, Disturbance, block_yield
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.qkd.traffic import Reuse, Traffic, evened
from deffd_flower.request import resolve
from deffd_flower.strategy.dispatch import Consignment, Dispatcher
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.partners import partners
from deffd_flower.strategy.plans import Transfer, plans
from deffd_flower.strategy.presets import strategies
from deffd_flower.strategy.topology import topology
from deffd_flower.transport.desk import sae_id
from deffd_flower.transport.envelope import MAX_PLAINTEXT_BYTES, Direction, Header, Route
from deffd_flower.transport.kem import generate_kem_keypair
from deffd_flower.transport.keys import KeyMaterial
from deffd_flower.transport.sealing import seal
from deffd_flower.transport.suites import suites

DAY = 86_400
MINUTE, HOUR = 60, 3600
MB = PackageSize(bytes=1_000_000, parameters=249_000, segment_bytes=100_000)


def request(**keys: object) -> RunConfig:
    return resolve({"dataset": "digits"} | {key.replace("_", "-"): v for key, v in keys.items()})


def planned(config: RunConfig, package: PackageSize = MB, suite: str = "otp") -> SuitePlan:
    return Planner(config, package).suite(suite)


def sized(*sizes: int) -> list[PackageSize]:
    return [PackageSize(size, size // 4, size // 10) for size in sizes]


BLOCK = block_yield(links.get("lim-50km"), 0.11, CALM)
BLOCK_S = BLOCK.seconds

KEY_BUDGET = [
    ("aerial-70km", 20.2, 17.5 * HOUR, 7.29 * DAY, 365 * DAY),
    ("quky-ingaas", 1.6, 83 * MINUTE, 13.9 * HOUR, 28.9 * DAY),
    ("idq-class", 0.128, 6.67 * MINUTE, 66.7 * MINUTE, 2.31 * DAY),
    ("quky-snspd", 54e-3, 2.8 * MINUTE, 28 * MINUTE, 23.4 * HOUR),
    ("lim-100km", 5.4e-3, 16.8, 2.8 * MINUTE, 2.33 * HOUR),
    ("toshiba-tokyo-2010", 0.84e-3, 2.6, 26.3, 21.9 * MINUTE),
    ("gruenenfelder-2023-102km", 85e-6, 0.27, 2.67, 2.2 * MINUTE),
    ("toshiba-2018", 19e-6, 58e-3, 0.58, 29.0),
]


@pytest.mark.parametrize(("link", "aes", "kb100", "mb1", "mb50"), KEY_BUDGET)
def test_key_is_gathered_in_the_times_of_the_key_budget(
    link: str, aes: float, kb100: float, mb1: float, mb50: float
) -> None:
    """Seconds for an AES-256 key, and a one-time pad for 100 kB, 1 MB and 50 MB."""
    config = request(link=link, clients=2, authentication_bits=0)
    assert planned(config, MB, "aes").gather_s == pytest.approx(aes, rel=0.02)
    for size, expected in ((100_000, kb100), (1_000_000, mb1), (50_000_000, mb50)):
        package = PackageSize(size, size // 4, size)
        # The table prints two or three digits.
        assert planned(config, package).gather_s == pytest.approx(expected, rel=0.02)


def test_the_budget_of_one_megabyte_at_304_kilobits_to_the_digit() -> None:
    plan = planned(request(link="toshiba-tokyo-2010", clients=2, authentication_bits=0))
    assert plan.key_bits == 8 * 1_000_000 + 256
    assert plan.gather_s == pytest.approx(8_000_256 / 304_000, rel=1e-6)


def test_key_from_an_empty_store_waits_for_whole_blocks_and_pays_for_authentication() -> None:
    link = links.get("toshiba-tokyo-2010")
    net = secret_key_length(link) - 256
    blocks = math.ceil(8_000_256 / net)
    plan = planned(request(link="toshiba-tokyo-2010", clients=2, head_start_s=0))
    assert blocks == 5
    assert plan.empty_s == plan.first_s == pytest.approx(blocks * block_seconds(link), abs=1e-8)
    assert plan.gather_s == pytest.approx(8_000_256 / net * block_seconds(link))
    later = planned(request(link="toshiba-tokyo-2010", clients=2, head_start_s=10))
    assert later.empty_s == plan.empty_s
    assert later.first_s == pytest.approx(plan.empty_s - 10, abs=1e-8)


def test_rounds_per_day_by_hand() -> None:
    """10 clients, 5 models a round, 45 links: each carries a model every ninth round."""
    link = links.get("idq-class")
    per_second = (secret_key_length(link) - 256) / block_seconds(link)
    plan = planned(request(link="idq-class", round_compute_s=30, transfer_mbps=8))
    (every,) = plan.links
    assert every.links == 45
    assert every.messages == pytest.approx(1 / 9)
    assert every.bits == pytest.approx(8_000_256 / 9)
    assert plan.key_pace == pytest.approx(per_second * DAY / (8_000_256 / 9))
    assert plan.round_s == pytest.approx(30 + plan.wire_bytes / 1e6)
    assert plan.pace == pytest.approx(DAY / plan.round_s)
    assert plan.limited_by == "key"
    assert plan.rounds_per_day == plan.key_pace < plan.pace
    fast = planned(request(link="li-2023", round_compute_s=30, transfer_mbps=8))
    assert (fast.limited_by, fast.rounds_per_day) == ("compute", fast.pace)
    assert planned(request(link="li-2023", transfer_mbps=0.1)).limited_by == "transfer"


@settings(max_examples=10)
@given(st.integers(2, 9), st.data())
def test_each_link_of_the_complete_graph_is_used_as_often_as_the_draw_uses_it(
    clients: int, data: st.DataObject
) -> None:
    pairs = data.draw(st.integers(1, clients // 2))
    config = request(clients=clients, pairs=pairs)
    draw, rounds = plans.get("pairs"), 3000
    used = Counter(
        frozenset((transfer.sender, transfer.receiver))
        for number in range(rounds)
        for transfer in draw(Knowledge(config, None, 10_000 + number)).transfers
    )
    (link,) = planned(config).links
    chance = link.messages
    assert chance == pytest.approx(pairs / (clients * (clients - 1) / 2))
    slack = 5 * math.sqrt(rounds * chance * (1 - chance)) + 1e-9
    assert len(used) == link.links
    assert all(abs(times - rounds * chance) <= slack for times in used.values())


def envelope(consignment: Consignment, size: int) -> bytes:
    """What the server sees of a sealed model: its header, and as many bytes as it has."""
    transfer, suite = consignment.transfer, suites.get(consignment.suite)()
    bits = sum(reference.length for reference in consignment.references)
    if consignment.suite == "otp":
        size = bits // 8 - 32
    names = sae_id(transfer.sender), sae_id(transfer.receiver)
    route = Route(1, *names, Direction.MODEL, 1, 0)
    header = Header(suite.suite_id, route, size, suite.nonce(route), b"", consignment.references)
    return header.encode() + bytes(size + suite.tag_bytes)


def simulated_rounds_per_day(config: RunConfig, *by_model: int, days: float = 1) -> float:
    """Let the dispatcher and the controller of a real run work for a day."""
    graph = topology(config)
    sizes = {client: by_model[config.cast.place(client)] for client in range(config.clients)}
    dispatcher = Dispatcher(config, graph, controller_of(config), sizes)
    draw = plans.get(strategies.get(config.strategy)().plan)
    rounds = 0
    while dispatcher.controller.now < days * DAY:
        rounds += 1
        plan = draw(Knowledge(config, graph, rounds))
        consigned = dispatcher.begin_round(rounds, plan)
        assert len(consigned) == len(plan.transfers), "nothing may be skipped"
        for consignment in consigned:
            size = sizes[consignment.transfer.sender]
            dispatcher.sent(consignment, envelope(consignment, size), 1.0)
        dispatcher.end_round()
    return rounds * DAY / dispatcher.controller.now


@pytest.mark.parametrize(
    ("keys", "size", "limit"),
    [
        ({"clients": 3}, 6_000, "key"),
        ({"clients": 4, "round_compute_s": 40}, 3_000, "compute"),
        ({"clients": 4, "topology": "ring"}, 5_000, "key"),
        ({"clients": 5, "qkd_network": "metro-ring"}, 50_000, "key"),
        ({"clients": 4, "strategy": "combo"}, 10_000, "key"),
    ],
)
def test_a_simulated_day_has_as_many_rounds_as_planned(
    keys: dict[str, object], size: int, limit: str
) -> None:
    usual = {"link": "idq-class", "suite": "otp", "head_start_s": 0, "round_compute_s": 5}
    config = request(**(usual | {"seed": 1} | keys))
    plan = planned(config.replace(seed=2), PackageSize(size, size // 4, size // 10))
    assert plan.limited_by == limit
    day = simulated_rounds_per_day(config, size)
    assert plan.rounds_per_day == pytest.approx(day, rel=0.02)


@pytest.mark.parametrize(("network", "large"), [("direct", 9_000), ("metro-ring", 90_000)])
def test_models_of_several_sizes_load_the_links_as_planned(network: str, large: int) -> None:
    """Clients 0 and 2 send nine times as much as 1 and 3: the link 0-2 is the bottleneck."""
    sizes = large, large // 9
    usual = {"link": "idq-class", "suite": "otp", "head_start_s": 0, "round_compute_s": 5}
    config = request(**usual, model="cnn,mlp", clients=4, seed=1, qkd_network=network)
    plan = Planner(config.replace(seed=2), *sized(*sizes)).suite("otp")
    assert plan.limited_by == "key"
    if network == "direct":
        bits = {link.link: link.bits for link in plan.links}
        both = [8 * size + 256 for size in sizes]
        expected = {"0-2": both[0], "1-3": both[1]}
        for link in bits:
            mean = expected.get(link, sum(both) / 2)
            assert bits[link] == pytest.approx(mean / 3, rel=0.03)
    day = simulated_rounds_per_day(config, *sizes)
    assert plan.rounds_per_day == pytest.approx(day, rel=0.03)


def test_relays_share_the_load_as_planned_where_links_differ(tmp_path: Path) -> None:
    """A square of 60 to 100 km: most keys go the way that has most key, not the shortest."""
    square = tmp_path / "square.yaml"
    square.write_text("[[A, B, 60], [B, C, 100], [C, D, 70], [D, A, 90]]")
    keys = {"link": "lim-100km", "clients": 4, "qkd_network": str(square), "suite": "otp"}
    config = request(**keys, round_compute_s=5, head_start_s=0, seed=1)
    plan = planned(config.replace(seed=2), PackageSize(200_000, 50_000, 20_000))
    assert plan.limited_by == "key"
    day = simulated_rounds_per_day(config, 200_000)
    assert plan.rounds_per_day == pytest.approx(day, rel=0.02)


def test_keys_that_seal_several_models_allow_as_many_rounds_as_planned() -> None:
    """A slow link on which key is short even for AES, over 20 days.

    That rounds are longer when they wait for key is in the plan; that they wait most just before
    a key is fresh is not.
    """
    keys = {"link": "buried-69km", "clients": 4, "authentication_bits": 8800, "head_start_s": 0}
    config = request(**keys, rekey_messages=7)
    package = PackageSize(1000, 200, 1000)
    plan = planned(config, package, "aes")
    assert plan.limited_by == "key"
    assert plan.rounds_per_day > 5 * planned(request(**keys), package, "aes").rounds_per_day
    twenty_days = simulated_rounds_per_day(config, 1000, days=20)
    assert plan.rounds_per_day == pytest.approx(twenty_days, rel=0.03)


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        # Two clients; each writes in every other round. 5 rounds of 700 s begin within an hour.
        ({"rekey_messages": 100, "round_compute_s": 700}, 1 / (1 + 5 / 2)),
        ({"rekey_messages": 2, "round_compute_s": 10}, 1 / 2),
        ({"rekey_messages": 100, "round_compute_s": 10, "rekey_bytes": 4_500_000}, 1 / 4),
        ({"rekey_messages": 100, "round_compute_s": 3600}, 1.0),
        ({"rekey_messages": 1, "round_compute_s": 10}, 1.0),
    ],
)
def test_a_key_is_used_until_messages_bytes_or_seconds_end_it(
    keys: dict[str, object], share: float
) -> None:
    plan = planned(request(clients=2, **keys), MB, "aes")
    assert plan.links[0].bits == pytest.approx(256 * share)
    assert planned(request(clients=2, **keys), MB, "otp").links[0].bits == 8_000_256


@given(st.integers(1, 12), st.integers(0, 40), st.floats(0.01, 1))
def test_the_share_of_fresh_keys_is_one_over_the_mean_number_of_messages_of_a_key(
    messages: int, rounds: int, probability: float
) -> None:
    expected = 1 + sum(
        min(more, messages - 1)
        * math.comb(rounds, more)
        * probability**more
        * (1 - probability) ** (rounds - more)
        for more in range(rounds + 1)
    )
    share = Reuse(messages, rounds).fresh_share(probability)
    assert share == pytest.approx(1 / expected)


def test_relayed_keys_load_every_hop() -> None:
    """A, B and C in a row: whatever A and C write to each other takes both links."""
    config = request(clients=3, qkd_network="metro-ring", link="idq-class")
    row = request(clients=2, qkd_network="metro-ring", link="idq-class")
    (only,) = planned(row).links
    assert (only.messages, only.bits) == (1, 8_000_256)
    ring = planned(config)
    assert 1 < ring.hops < 2
    messages = sum(link.messages for link in ring.links)
    assert messages == pytest.approx(ring.hops * ring.messages)
    assert sum(link.bits for link in ring.links) == pytest.approx(messages * 8_000_256)


def test_loads_that_differ_by_chance_are_evened_out_and_others_are_kept() -> None:
    generator = np.random.default_rng(3)
    rounds = 1000
    same = generator.binomial(rounds, 0.2, size=400)
    evens = evened({str(i): int(n) for i, n in enumerate(same)}, 400, rounds)
    assert max(same) > 1.15 * 200
    assert max(evens.values()) == pytest.approx(200, rel=0.03)
    assert sum(evens.values()) == pytest.approx(same.sum())
    different = {"a": 900, "b": 100, "c": 20}
    kept = evened(different, 3, rounds)
    assert all(kept[link] == pytest.approx(n, abs=3) for link, n in different.items())
    # Two links were never drawn: mean 10, variance 200, of which chance makes 10 x 2/3.
    assert evened({"a": 30}, 3, 30)["a"] == pytest.approx(10 + 20 * (1 - 20 / 3 / 200))


def test_every_link_of_a_ring_is_planned_alike() -> None:
    config = request(clients=12, topology="ring")
    traffic = Traffic(config, controller_of(config).network)
    plan = planned(config)
    assert sum(link.links for link in plan.links) == 12
    for link in plan.links:
        assert link.messages == pytest.approx(traffic.per_round / 12, rel=0.02)


@pytest.mark.parametrize(
    "keys",
    [
        {"strategy": "combo", "segments": 7},
        {"teacher_weight": "presence"},
        {"partner": "complementary", "key_source": "etsi014"},
    ],
)
def test_sizes_are_those_that_a_peer_seals(keys: dict[str, object]) -> None:
    config = request(model="mlp", **keys)
    peer = Peer(0, client_data(config, 0), config)
    (size,) = package_sizes(config)
    assert size.bytes == len(peer.package([]))
    assert size.segment_bytes == len(peer.package([0]))
    assert size.parameters == sum(weights.numel() for weights in peer.model.parameters())
    assert size.parameters_in(size.bytes) == size.parameters


def test_sizes_of_several_models_are_those_that_their_peers_seal() -> None:
    config = request(model="mlp*2,cnn,defkt-cnn")
    sizes = package_sizes(config)
    peers = [Peer(client, client_data(config, client), config) for client in (0, 2, 3)]
    assert [size.bytes for size in sizes] == [len(peer.package([])) for peer in peers]
    planner = Planner(config, *sizes)
    assert [planner.message_bytes(Transfer(sender, 9)) for sender in (0, 1, 2, 3, 4)] == [
        *[sizes[0].bytes] * 2,
        *(sizes[1].bytes, sizes[2].bytes, sizes[0].bytes),
    ]
    assert largest_models(planner.suite("otp"), *sizes) is None


@pytest.mark.parametrize("strategy", ["def-fd", "combo"])
def test_messages_take_the_key_that_a_run_sets_aside_for_them(strategy: str) -> None:
    config = request(strategy=strategy, suite="otp")
    planner = Planner(config, MB)
    dispatcher = Dispatcher(
        config, None, controller_of(config), dict.fromkeys(range(config.clients), MB.bytes)
    )
    draw = plans.get(strategies.get(strategy)().plan)
    consigned = dispatcher.begin_round(1, draw(Knowledge(config, None, 1)))
    assert len(consigned) >= 5
    for consignment in consigned:
        assert consignment.grant is not None
        expected = 8 * planner.message_bytes(consignment.transfer) + 256
        assert consignment.grant.bits == expected


@pytest.mark.parametrize("suite", ["otp", "aes", "hybrid", "pqc", "none"])
def test_key_bits_and_bytes_on_the_wire_are_those_of_a_sealed_message(suite: str) -> None:
    config = request(clients=2)
    package = PackageSize(5000, 1000, 5000)
    kind, pair = suites.get(suite)(), generate_kem_keypair()
    plan = planned(config, package, suite)
    bits = round(plan.key_bits)
    (grant,) = (controller_of(config).grant(0, 1, bits, suite),)
    assert grant is not None
    key = KeyMaterial(grant.references, bytes(bits // 8)) if bits else None
    route = Route(1, sae_id(0), sae_id(1), Direction.MODEL, 1, 0)
    sealed = seal(kind, route, bytes(5000), key, pair.public if kind.uses_kem else None)
    assert plan.wire_bytes == len(sealed)
    assert sum(reference.length for reference in grant.references) == bits


def test_suites_without_qkd_key_leave_the_links_alone() -> None:
    planner = Planner(request(link="korzh-2015"), MB)
    for name in ("pqc", "none"):
        plan = planner.suite(name)
        assert (plan.links, plan.key_bits, plan.gather_s, plan.empty_s) == ((), 0, 0, 0)
        assert plan.rounds_per_day == plan.pace
        assert plan.verdict(planner.config) == "sustainable"


def test_verdicts_name_the_pace_the_wait_and_the_obstacle() -> None:
    fast, slow = request(link="li-2023"), request(link="korzh-2015")
    assert planned(fast).verdict(fast) == "sustainable"
    plan = planned(slow)
    assert plan.empty_s > slow.max_wait_s
    pace, wait = significant(plan.key_pace), math.ceil(plan.empty_s)
    assert plan.verdict(slow) == (
        f"sustainable at {pace} rounds per day, with max-wait-s={wait} or more"
    )
    skipping = request(link="korzh-2015", on_starved="skip")
    assert planned(skipping).verdict(skipping) == f"sustainable at {pace} rounds per day"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"eve": "intercept fraction=0.5"}, "link 0-1 gives no key (QBER 14.3 %)"),
        ({"eve": "denial rounds=5-9"}, "link 0-1 gives no key"),
        ({"abort_qber": 0.02}, "link 0-1 gives no key (QBER 2.4 %)"),
        ({"authentication_bits": 10**9}, "link 0-1 gives no key"),
        ({"pool_capacity": 8_000_000}, "a store keeps 8,000,000 bits at most"),
        ({"key_max_age_s": 1.0}, "a store keeps"),
    ],
)
def test_key_that_never_comes_is_not_sustainable(keys: dict[str, object], told: str) -> None:
    config = request(**keys)
    plan = planned(config)
    assert plan.rounds_per_day == 0
    assert plan.key_pace == 0
    assert plan.limited_by == "key"
    assert plan.verdict(config).startswith(f"not sustainable: {told}")


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"key_max_age_s": 100.0}, math.ceil(100 / BLOCK_S)),
        ({"key_max_age_s": 3 * BLOCK_S + 1e-3}, 4),
        ({"key_max_age_s": BLOCK_S / 2}, 1),
    ],
)
def test_a_store_holds_as_much_as_the_plan_says(keys: dict[str, float], most: int) -> None:
    config = request(link="lim-50km", **keys)
    (link,) = planned(config).links
    pool = KeyPool(lambda _: BLOCK, PoolSettings(max_age_s=keys["key_max_age_s"]))
    levels = []
    for _ in range(60):
        pool.advance(BLOCK_S)
        levels.append(pool.available)
    assert link.storable_bits == max(levels) == most * (BLOCK.bits - 256)
    both = request(link="lim-50km", pool_capacity=1000, **keys)
    assert planned(both).links[0].storable_bits == 1000


def test_attacks_count_as_if_they_never_ended() -> None:
    disturbance = Disturbance(intercepted=0.1, extra_loss_db=3)
    block = block_yield(links.get("lim-50km"), 0.11, disturbance)
    attacks = "intercept fraction=0.1 rounds=5-; loss decibel=3 seconds=10-20"
    config = request(link="lim-50km", clients=2, eve=attacks)
    (link,) = planned(config).links
    assert link.bits_per_s == pytest.approx((block.bits - 256) / block.seconds)
    assert link.qber == block.qber > 0.045
    elsewhere = request(link="lim-50km", eve="loss decibel=3 links=3-7,0-1")
    lossy, calm = planned(elsewhere).links
    assert (lossy.link, lossy.links) == ("0-1", 2)
    assert (calm.link, calm.links) == ("0-2", 43)
    assert lossy.bits_per_s < 0.6 * calm.bits_per_s
    assert calm.bits_per_s == planned(request(link="lim-50km")).links[0].bits_per_s


def test_the_largest_models_are_the_largest_for_which_there_is_key() -> None:
    config = request(link="idq-class", round_compute_s=60)
    plan = planned(config)
    sizes = largest_models(plan, MB)
    assert sizes is not None
    bits, rate = suites.get("otp")().key_bits, plan.links[0].bits_per_s
    for size, seconds in ((sizes.per_round, plan.round_s), (sizes.per_day, DAY)):
        assert bits(size) <= rate * seconds < bits(size + 1)
    chance = 1 / 9
    assert chance * bits(sizes.as_planned) <= rate * plan.round_s
    assert chance * bits(sizes.as_planned + 1) > rate * plan.round_s
    limited = request(link="idq-class", round_compute_s=60, pool_capacity=80_256)
    assert largest_models(planned(limited), MB) == type(sizes)(10_000, 10_000, 10_000)


def test_no_model_is_larger_than_an_envelope_or_smaller_than_nothing() -> None:
    huge = largest_models(planned(request(link="li-2023")), MB)
    tiny = largest_models(planned(request(link="korzh-2015")), MB)
    assert huge is not None
    assert tiny is not None
    assert huge.per_day == MAX_PLAINTEXT_BYTES
    assert tiny.per_round == 0


def test_a_strategy_that_sends_nothing_needs_no_key() -> None:
    config = request(strategy="local")
    plan = planned(config)
    assert (plan.messages, plan.links, plan.transfer_s) == (0, (), 0)
    assert plan.verdict(config) == "sustainable"
    assert largest_models(plan, MB) is None


def test_a_central_server_is_no_case_for_a_plan() -> None:
    with pytest.raises(RequestError, match="strategy=fedavg"):
        Planner(request(strategy="fedavg", suite="none"), MB)


@pytest.mark.parametrize("partner", sorted({*partners.names()} - {"random"}))
def test_pairs_that_follow_the_run_have_no_plan(partner: str) -> None:
    with pytest.raises(RequestError, match=f"partner={partner}: follows the run"):
        Planner(request(partner=partner), MB)
