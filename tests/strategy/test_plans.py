"""Who writes to whom: topologies and pairing plans."""

from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.config import RunConfig, parse
from deffd_flower.errors import RequestError
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import RoundPlan, plans
from deffd_flower.strategy.topology import topologies, topology

SPARSE = ["ring", "torus", "random-regular", "small-world", "erdos-renyi"]


def config_of(**keys: object) -> RunConfig:
    return parse({key.replace("_", "-"): value for key, value in keys.items()})


def planned(plan: str, server_round: int = 1, **keys: object) -> RoundPlan:
    config = config_of(**keys)
    return plans.get(plan)(Knowledge(config, topology(config), server_round))


@pytest.mark.parametrize("name", SPARSE)
def test_a_topology_is_connected_without_loops_and_follows_from_the_seed(name: str) -> None:
    graph = topology(config_of(topology=name, clients=12))
    assert graph is not None
    assert sorted(graph) == list(range(12))
    assert nx.is_connected(graph)
    assert nx.number_of_selfloops(graph) == 0
    again = topology(config_of(topology=name, clients=12))
    assert again is not None
    assert sorted(graph.edges) == sorted(again.edges)


def test_every_named_topology_is_tested() -> None:
    assert set(topologies.names()) == {*SPARSE, "complete"}


def test_torus_and_regular_graphs_have_the_degrees_they_promise() -> None:
    torus = topology(config_of(topology="torus", clients=12))
    regular = topology(config_of(topology="random-regular", topology_degree=3, clients=12))
    assert torus is not None
    assert regular is not None
    assert {degree for _, degree in torus.degree} == {4}
    assert {degree for _, degree in regular.degree} == {3}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"topology": "torus", "clients": 7}, "7 clients form no grid"),
        ({"topology": "random-regular", "clients": 5, "topology_degree": 3}, "product even"),
        ({"topology": "small-world", "clients": 5, "topology_degree": 5}, "below clients=5"),
        ({"topology": "erdos-renyi", "topology_probability": 0.0}, "raise topology-degree"),
        ({"topology": "/no/such/file.yaml"}, "must be a YAML list of pairs"),
    ],
)
def test_an_impossible_topology_says_what_would_be_possible(
    keys: dict[str, object], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        topology(config_of(**keys))


def test_an_edge_list_is_read_from_yaml_and_must_reach_everybody(tmp_path: Path) -> None:
    path = tmp_path / "edges.yaml"
    path.write_text("- [0, 1]\n- [1, 2]\n")
    graph = topology(config_of(topology=str(path), clients=3))
    assert graph is not None
    assert sorted(graph.edges) == [(0, 1), (1, 2)]
    with pytest.raises(RequestError, match=r"each client 0..3"):
        topology(config_of(topology=str(path), clients=4))


@pytest.mark.parametrize("name", ["complete", *SPARSE])
@pytest.mark.parametrize("plan", ["pairs", "segments"])
@given(server_round=st.integers(1, 200), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=20)
def test_a_plan_pairs_neighbours_disjointly(
    name: str, plan: str, server_round: int, seed: int
) -> None:
    keys = {"topology": name, "clients": 12, "pairs": 4, "seed": seed, "segments": 5}
    graph = topology(config_of(**keys))
    drawn = planned(plan, server_round, **keys)
    assert drawn == planned(plan, server_round, **keys)
    senders = {transfer.sender for transfer in drawn.transfers}
    receivers = {transfer.receiver for transfer in drawn.transfers}
    assert senders <= set(drawn.trainers)
    assert not receivers & set(drawn.trainers), "receivers do not train before they fuse"
    assert 1 <= len(drawn.trainers) <= 4
    for transfer in drawn.transfers:
        assert graph is None or graph.has_edge(transfer.sender, transfer.receiver)
    if name == "complete":
        assert len(drawn.trainers) == len(receivers) == 4


def test_pairs_send_one_whole_model_each() -> None:
    plan = planned("pairs")
    assert len(plan.transfers) == 5
    assert all(transfer.segments == () for transfer in plan.transfers)


@pytest.mark.parametrize("peers", [1, 2])
def test_segments_reach_each_receiver_from_so_many_peers(peers: int) -> None:
    plan = planned("segments", 3, strategy="combo", segments=7, segment_peers=peers)
    for receiver in {transfer.receiver for transfer in plan.transfers}:
        arriving = [s for t in plan.transfers if t.receiver == receiver for s in t.segments]
        assert sorted(arriving) == sorted([*range(7)] * peers)


def test_rounds_and_seeds_draw_different_pairs() -> None:
    assert planned("pairs", 1) != planned("pairs", 2)
    assert planned("pairs", 1) != planned("pairs", 1, seed=1)


def test_every_client_sends_about_as_often_as_it_receives() -> None:
    sent = [planned("pairs", r, clients=6, pairs=1).transfers[0].sender for r in range(600)]
    assert all(60 < sent.count(client) < 140 for client in range(6))


def test_thousands_of_clients_are_paired_quickly() -> None:
    assert len(planned("pairs", clients=5000).transfers) == 2500
