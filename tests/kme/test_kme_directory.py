"""Which way a key goes, and who is where."""

from itertools import pairwise, permutations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.kme.directory import (
    AmbiguousSaeError,
    Directory,
    RouteType,
    UnknownSaeError,
)
from deffd_flower.kme.messages import Advert


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def directory(clock: Clock | None = None, down: frozenset[str] = frozenset()) -> Directory:
    return Directory(
        "a", ["alice"], ["b", "c"], lambda kme: kme not in down, 1, 1.0, clock or Clock()
    )


def advert(
    kme: str, number: int = 1, boot: int = 1, saes: str = "", peers: str = "", **stored: int
) -> Advert:
    return Advert(
        kme=kme, boot=boot, number=number, saes=saes.split(), peers=peers.split(), stored=stored
    )


def test_enough_key_on_the_short_way_beats_more_on_the_long_one() -> None:
    network = directory()
    network.note({"b": 100, "c": 10_000})
    network.hear([advert("c", b=10_000), advert("b", c=50)])
    assert network.route("b", 100) == ("a", "b")
    assert network.route("b", 101) == ("a", "c", "b")
    assert network.route("c", 10) == ("a", "c")
    # Where no way has enough, the one that has most.
    assert network.route("b", 10**6) == ("a", "c", "b")


def test_a_way_can_be_asked_to_be_direct_or_not() -> None:
    network = directory()
    network.note({"b": 100, "c": 100})
    network.hear([advert("c", b=100, d=100), advert("b"), advert("d")])
    assert network.route("b", 10, RouteType.DIRECT) == ("a", "b")
    assert network.route("b", 10, RouteType.INDIRECT) == ("a", "c", "b")
    assert network.route("d", 10, RouteType.DIRECT) is None
    assert network.route("d", 10, RouteType.INDIRECT) == ("a", "c", "d")


def test_a_neighbour_that_is_down_and_a_kme_that_is_silent_are_no_way() -> None:
    clock = Clock()
    network = directory(clock, down=frozenset({"b"}))
    network.note({"b": 100, "c": 100})
    network.hear([advert("b", d=100), advert("c", d=100)])
    assert network.route("b", 10) is None
    assert network.route("d", 10) == ("a", "c", "d")
    assert network.adverts()[0].stored == {"c": 100}
    clock.now = 10.5
    assert network.route("d", 10) is None
    network.hear([advert("c", number=2, d=100)])
    assert network.route("d", 10) == ("a", "c", "d")


def test_only_news_is_taken_over_and_a_restart_is_news() -> None:
    network = directory()
    network.note({"b": 100})
    network.hear([advert("b", number=5, c=100)])
    network.hear([advert("b", number=4, d=100), advert("a", number=99, z=1)])
    assert network.route("c", 1) == ("a", "b", "c")
    assert network.route("d", 1) is None
    assert network.route("z", 1) is None
    network.hear([advert("b", number=1, boot=2, d=100)])
    assert network.route("d", 1) == ("a", "b", "d")


def test_saes_are_found_and_stay_where_they_were() -> None:
    clock = Clock()
    network = directory(clock)
    network.hear([advert("b", saes="bob alice"), advert("c", saes="carol")])
    assert (network.place("alice"), network.place("bob")) == ("a", "b")
    clock.now = 1e6
    assert network.place("carol") == "c"
    with pytest.raises(UnknownSaeError):
        network.place("mallory")
    network.hear([advert("d", saes="bob")])
    with pytest.raises(AmbiguousSaeError, match="b and d"):
        network.place("bob")


def test_a_kme_knows_when_it_has_heard_the_whole_network() -> None:
    network = directory()
    assert not network.is_settled
    network.hear([advert("b", peers="a d"), advert("c", peers="a")])
    assert not network.is_settled
    network.hear([advert("d", peers="b")])
    assert network.is_settled
    # One that was heard once is known, even if it is silent now.
    network.hear([advert("d", number=2, peers="b e")])
    assert not network.is_settled
    assert Directory("a", [], [], lambda kme: True, 1, 1.0).is_settled


@given(
    st.dictionaries(
        st.sampled_from(list(permutations("abcde", 2))), st.integers(0, 50), max_size=20
    ),
    st.integers(1, 50),
)
def test_no_other_way_is_better(widths: dict[tuple[str, str], int], wanted: int) -> None:
    network = directory()
    for kme in "abcde":
        stored = {other: width for (one, other), width in widths.items() if one == kme}
        told = Advert(kme=kme, boot=1, number=1, stored=stored)
        network.note(stored) if kme == "a" else network.hear([told])
    graph: nx.DiGraph[str] = nx.DiGraph(widths.keys())
    graph.add_nodes_from("abcde")

    def quality(way: tuple[str, ...]) -> tuple[int, int]:
        return min(wanted, *(widths[hop] for hop in pairwise(way))), -len(way)

    for target in "bcde":
        ways = [tuple(way) for way in nx.all_simple_paths(graph, "a", target)]
        found = network.route(target, wanted)
        if not ways:
            assert found is None
            continue
        assert found in ways
        assert quality(found) == max(map(quality, ways))
        assert network.width(found, wanted) == quality(found)[0]
