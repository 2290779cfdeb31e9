"""Which way a key goes: against all simple paths, and over the named networks."""

import math
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.qkd.link import secret_bits_per_second
from deffd_flower.qkd.network import DirectNetwork, QkdNetwork, TrustedNodeNetwork, at_length
from deffd_flower.qkd.networks import KREONET_SECTIONS, NetworkRequest, networks, qkd_network
from deffd_flower.qkd.presets import links

LINK = links.get("lim-50km")


def relayed(edges: list[tuple[int, int]], clients: int) -> TrustedNodeNetwork:
    return TrustedNodeNetwork([(f"n{a}", f"n{b}", LINK) for a, b in edges], clients, LINK)


@given(st.data())
def test_a_route_is_the_widest_and_among_those_the_shortest(data: st.DataObject) -> None:
    """Every simple path is tried; dead ends hang at most graphs."""
    nodes = data.draw(st.integers(2, 7))
    tree = [(data.draw(st.integers(0, node - 1)), node) for node in range(1, nodes)]
    pairs = [(a, b) for b in range(nodes) for a in range(b)]
    extra = data.draw(st.lists(st.sampled_from(pairs), max_size=6, unique=True))
    network = relayed(sorted({*tree, *extra}), nodes)
    graph = nx.Graph([(f"n{a}", f"n{b}") for a, b in {*tree, *extra}])
    names = [f"n{a}-n{b}" for a, b in sorted({*tree, *extra})]
    stored = {name: data.draw(st.integers(0, 4), label=name) for name in names}

    def quality(path: list[str]) -> tuple[int, int]:
        hops = [stored.get(f"{a}-{b}", stored.get(f"{b}-{a}", -1)) for a, b in pairwise(path)]
        return min(hops), -len(hops)

    sender, receiver = data.draw(st.sampled_from(pairs))
    route = network.route(sender, receiver, lambda name: stored[name])
    assert route is not None
    ends = network.places[sender], network.places[receiver]
    best = max(quality(path) for path in nx.all_simple_paths(graph, *ends))
    assert (route.nodes[0], route.nodes[-1]) == ends
    assert quality(list(route.nodes)) == best
    assert [stored[name] for name in route.links] == [
        stored.get(f"{a}-{b}", stored.get(f"{b}-{a}", -1)) for a, b in pairwise(route.nodes)
    ]


def test_the_nodes_in_between_see_the_key_and_the_ends_are_not_counted() -> None:
    network = relayed([(0, 1), (1, 2), (2, 3), (3, 0)], 4)
    thin = {"n0-n1": 5, "n1-n2": 5, "n2-n3": 5, "n3-n0": 4}
    route = network.route(0, 3, thin.__getitem__)
    assert route is not None
    assert route.nodes == ("n0", "n1", "n2", "n3")
    assert route.links == ("n0-n1", "n1-n2", "n2-n3")
    assert route.exposed == {"n1", "n2"}
    level = network.route(0, 3, lambda _: 5)
    assert level is not None
    assert (level.links, level.exposed) == (("n3-n0",), frozenset())


def test_a_detour_is_not_worth_what_a_narrow_dead_end_cannot_pass_on() -> None:
    """Client 0 hangs on n1 by a link of 2: wide ways from n1 to n4 are as good as narrower ones."""
    network = relayed([(0, 1), (1, 2), (2, 3), (3, 4), (1, 4)], 5)
    stored = {"n0-n1": 2, "n1-n4": 3}
    route = network.route(0, 4, lambda name: stored.get(name, 9))
    assert route is not None
    assert route.nodes == ("n0", "n1", "n4")
    inner = network.route(1, 4, lambda name: stored.get(name, 9))
    assert inner is not None
    assert inner.nodes == ("n1", "n2", "n3", "n4")


def test_direct_links_expose_keys_to_nobody_and_serve_both_directions() -> None:
    network = DirectNetwork(5000, LINK)
    there, back = network.route(17, 4999, lambda _: 0.0), network.route(4999, 17, lambda _: 0.0)
    assert there is not None
    assert back is not None
    assert there.links == back.links == ("17-4999",)
    assert there.exposed == frozenset()
    assert network.link("17-4999") is LINK
    assert network.route(3, 3, lambda _: 0.0) is None


def test_direct_links_follow_the_topology() -> None:
    network = DirectNetwork(4, LINK, nx.cycle_graph(4))
    assert network.route(0, 2, lambda _: 0.0) is None
    assert network.route(0, 3, lambda _: 0.0) is not None
    assert network.link("0-3") is LINK
    for name in ("0-2", "3-0", "0-4", "0", "a-b", "00-1", "0-1-2", "1-1", ""):
        with pytest.raises(RequestError, match="there is no such link"):
            network.link(name)


@pytest.mark.parametrize("clients", [2, 3, 10])
def test_the_metro_ring_goes_through_all_clients(clients: int) -> None:
    network = qkd_network("metro-ring", NetworkRequest(clients, LINK))
    assert isinstance(network, TrustedNodeNetwork)
    assert network.places == [str(client) for client in range(clients)]
    opposite = network.route(0, clients // 2, lambda _: 1.0)
    assert opposite is not None
    assert len(opposite.links) == clients // 2
    assert network.link("0-1").total_loss_db == pytest.approx(2.0)


def test_the_korean_backbone_has_no_single_line_between_its_south_and_its_north() -> None:
    graph = nx.Graph([(a, b) for a, b, _ in KREONET_SECTIONS])
    assert len(graph) == 18
    assert nx.is_connected(graph)
    loops = set(nx.k_core(graph, 2))
    assert {"Seoul", "Daejeon", "Daegu", "Busan", "Gwangju"} <= loops
    assert max(km for _, _, km in KREONET_SECTIONS) <= 100


def test_every_section_of_the_korean_backbone_gives_key_at_a_gigahertz() -> None:
    network = qkd_network("kreonet", NetworkRequest(18, LINK))
    rates = {
        f"{a}-{b}": secret_bits_per_second(network.link(f"{a}-{b}")) for a, b, _ in KREONET_SECTIONS
    }
    assert min(rates, key=lambda name: rates[name]) in {"Gwangju-Jeonju", "Wonju-Gangneung"}
    assert min(rates.values()) > 10_000
    assert max(rates, key=lambda name: rates[name]) == "Seoul-Incheon"


def test_clients_beyond_the_nodes_have_sites_of_their_own_on_access_links() -> None:
    network = qkd_network("kreonet", NetworkRequest(20, LINK))
    assert isinstance(network, TrustedNodeNetwork)
    assert network.places[:2] == ["Seoul", "Suwon"]
    assert network.places[18:] == ["client18", "client19"]
    assert len(set(network.places)) == 20
    route = network.route(18, 19, lambda _: 1.0)
    assert route is not None
    assert route.nodes == ("client18", "Seoul", "Suwon", "client19")
    assert route.exposed == {"Seoul", "Suwon"}
    assert network.link("Seoul-client18").total_loss_db == pytest.approx(2.0)


def test_a_network_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("[[A, B, 10], [B, C, 20, toshiba-2018]]")
    network = qkd_network(str(path), NetworkRequest(3, LINK))
    assert network.link("A-B").total_loss_db == pytest.approx(2.0)
    assert network.link("B-C").detector == links.get("toshiba-2018").detector
    assert network.has_node("C")
    assert not network.has_node("D")
    route = network.route(0, 2, lambda _: 1.0)
    assert route is not None
    assert route.exposed == {"B"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[A, B, 10], [C, D, 10]]", "must join all of its nodes"),
        ("[[A, B, 10], [B, A, 10]]", "only once"),
        ("[[A, A, 10]]", "two nodes"),
        ("[[A, B C, 10]]", "no spaces"),
        ("[[A, B, -1]]", "length-km"),
        ("[[A, B, 10, no-such-link]]", "link=no-such-link"),
        ("[[A, B]]", "must be a YAML list"),
        ("[[A, B, far]]", "must be a YAML list"),
        ("[]", "must join all"),
        ("7", "must be a YAML list"),
        ("[[A, B", "must be a YAML list"),
    ],
)
def test_a_file_that_holds_no_network_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=complaint):
        qkd_network(str(path), NetworkRequest(2, LINK))


def test_names_lead_to_networks_and_misspelt_ones_to_advice() -> None:
    assert networks.names() == ["direct", "kreonet", "metro-ring"]
    assert isinstance(qkd_network("direct", NetworkRequest(3, LINK)), QkdNetwork)
    with pytest.raises(RequestError, match="Did you mean 'kreonet'"):
        qkd_network("kreone", NetworkRequest(3, LINK))
    with pytest.raises(RequestError, match="qkd-network=/nowhere/mine"):
        qkd_network("/nowhere/mine.yaml", NetworkRequest(3, LINK))
    network = qkd_network("kreonet", NetworkRequest(3, LINK))
    with pytest.raises(RequestError, match="Did you mean 'Seoul-Suwon'"):
        network.link("Seoul-Suwonn")


def test_a_system_over_another_length_scales_as_the_model() -> None:
    """A measured rate keeps its ratio to the modelled one; twice there and back changes nothing."""
    tokyo = links.get("toshiba-tokyo-2010")
    assert secret_bits_per_second(at_length(LINK, 100)) == pytest.approx(
        secret_bits_per_second(links.get("lim-100km")), rel=0.01
    )
    near, far = at_length(tokyo, 20.0), at_length(at_length(tokyo, 20.0), 72.5)
    assert secret_bits_per_second(near) > 3 * secret_bits_per_second(tokyo)
    assert secret_bits_per_second(far) == pytest.approx(304e3, rel=1e-3)
    assert secret_bits_per_second(at_length(tokyo, 300.0)) == 0
    assert math.isclose(at_length(tokyo, 20.0).total_loss_db, 4.0)
