"""The QKD network: which quantum links there are, and over which nodes a key is relayed.

Where no quantum link joins two clients, their key goes from node to node, encrypted on each hop
with that hop's key as a one-time pad (key relay, ITU-T Y.3803). Every node on the way has to be
trusted: it sees the key.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import networkx as nx
from networkx.utils import UnionFind

from deffd_flower.errors import RequestError, did_you_mean
from deffd_flower.qkd.link import QuantumLink

#: What a route should have much of, by the name of a link.
Width = Callable[[str], float]
Section = tuple[str, str, QuantumLink]


@dataclass(frozen=True)
class Route:
    """The way of one key.

    Attributes:
        nodes: Names of the nodes that have the key, from the sender's to the receiver's.
        links: Names of the quantum links between them.
    """

    nodes: tuple[str, ...]
    links: tuple[str, ...]

    @property
    def exposed(self) -> frozenset[str]:
        """The trusted nodes on the way, which see a key that is not theirs."""
        return frozenset(self.nodes[1:-1])


class QkdNetwork(ABC):
    """Quantum links between nodes; each client sits at a node of its own."""

    @abstractmethod
    def link(self, name: str) -> QuantumLink:
        """Return the quantum link of this name.

        Raises:
            RequestError: There is none.
        """

    @abstractmethod
    def has_node(self, name: str) -> bool:
        """Say whether there is a node of this name."""

    @abstractmethod
    def route(self, sender: int, receiver: int, width: Width) -> Route | None:
        """Return the best way for a key between two clients; ``None`` if there is no way.

        Among all ways the narrowest link is as wide as possible; among those, the hops are few.
        """


class DirectNetwork(QkdNetwork):
    """A quantum link of its own for each pair of clients that may write to each other.

    Nodes are called as the clients, 0, 1, ..., links 0-1, 0-2, ... Nothing is stored per link,
    so that the complete graph of thousands of clients costs nothing.

    Args:
        clients: Number of clients.
        link: Each of the links.
        graph: Who may write to whom; ``None`` for everybody to everybody.
    """

    def __init__(
        self, clients: int, link: QuantumLink, graph: "nx.Graph[int] | None" = None
    ) -> None:
        self._clients = clients
        self._link = link
        self._graph = graph

    def link(self, name: str) -> QuantumLink:
        """Return the quantum link of this name."""
        if not self._has_link(name):
            advice = f"there is no such link; links are 0-1 to {self._clients - 2}-"
            raise RequestError("links", name, f"{advice}{self._clients - 1}, lower number first")
        return self._link

    def has_node(self, name: str) -> bool:
        """Say whether there is a node of this name."""
        return name.isdecimal() and name == str(int(name)) and int(name) < self._clients

    def route(self, sender: int, receiver: int, width: Width) -> Route | None:
        """Return the link between the two."""
        if sender == receiver or not self._joined(sender, receiver):
            return None
        name = f"{min(sender, receiver)}-{max(sender, receiver)}"
        return Route((str(sender), str(receiver)), (name,))

    def _joined(self, one: int, other: int) -> bool:
        return self._graph is None or self._graph.has_edge(one, other)

    def _has_link(self, name: str) -> bool:
        one, _, other = name.partition("-")
        if not (self.has_node(one) and self.has_node(other)):
            return False
        return int(one) < int(other) and self._joined(int(one), int(other))


class TrustedNodeNetwork(QkdNetwork):
    """A sparse graph of quantum links, over which keys are relayed.

    Client i sits at the i-th node. A further client has a site of its own, which an access link
    joins to one of the nodes in turn.

    Args:
        sections: Quantum links with the names of their two ends.
        clients: Number of clients.
        access: The access link of clients beyond the number of nodes.

    Raises:
        RequestError: The links do not join all nodes.
    """

    def __init__(self, sections: Iterable[Section], clients: int, access: QuantumLink) -> None:
        self._links: dict[str, QuantumLink] = {}
        self._graph: nx.Graph[str] = nx.Graph()
        for one, other, link in sections:
            self._join(one, other, link)
        backbone = list(self._graph)
        if not backbone or not nx.is_connected(self._graph):
            raise RequestError("qkd-network", None, "its links must join all of its nodes")
        self.places = backbone[:clients]
        for client in range(len(backbone), clients):
            self.places.append(f"client{client}")
            self._join(backbone[client % len(backbone)], self.places[-1], access)
        # A dead end leaves a key no choice, so only the rest of the graph is ever searched.
        inner = {node for node, degree in self._graph.degree if degree > 1}
        self._core = inner or set(self._graph)
        self._core_links = [
            (self._name(one, other), one, other)
            for one, other in self._graph.edges
            if {one, other} <= self._core
        ]

    def link(self, name: str) -> QuantumLink:
        """Return the quantum link of this name."""
        if name not in self._links:
            known = list(self._links)
            advice = f"there is no such link; links are {', '.join(known[:30])}."
            raise RequestError("links", name, advice + did_you_mean(name, known))
        return self._links[name]

    def has_node(self, name: str) -> bool:
        """Say whether there is a node of this name."""
        return name in self._graph

    def route(self, sender: int, receiver: int, width: Width) -> Route | None:
        """Return the way whose narrowest link is widest, with the fewest hops among equals."""
        if sender == receiver:
            return None
        start, end = self.places[sender], self.places[receiver]
        first, last = self._way_in(start), self._way_in(end)
        before = [] if start == first else [start]
        after = [] if end == last else [end]
        forced = [*pairwise([*before, first]), *pairwise([last, *after])]
        limit = min((width(self._name(*hop)) for hop in forced), default=math.inf)
        nodes = [*before, *self._widest(first, last, width, limit), *after]
        return Route(tuple(nodes), tuple(self._name(*hop) for hop in pairwise(nodes)))

    def _join(self, one: str, other: str, link: QuantumLink) -> None:
        name = f"{one}-{other}"
        if one == other or name in self._links or self._graph.has_edge(one, other):
            raise RequestError("qkd-network", name, "must join two nodes, and only once")
        if len(name.split()) != 1:
            raise RequestError("qkd-network", name, "names of nodes must have no spaces")
        self._graph.add_edge(one, other, name=name)
        self._links[name] = link

    def _name(self, one: str, other: str) -> str:
        return str(self._graph.edges[one, other]["name"])

    def _way_in(self, node: str) -> str:
        return node if node in self._core else next(iter(self._graph[node]))

    def _widest(self, first: str, last: str, width: Width, limit: float) -> list[str]:
        """Return the best way in the core, where width beyond ``limit`` is of no use.

        Links are let in from the widest down until the two ends are joined; the last one let in
        is the narrowest of the way, and the shortest way over all links as wide is it.
        """
        if first == last:
            return [first]
        sections = [(min(limit, width(name)), one, other) for name, one, other in self._core_links]
        sections.sort(key=lambda section: section[0], reverse=True)
        least = _narrowest(sections, first, last)
        wide: nx.Graph[str] = nx.Graph()
        wide.add_edges_from((one, other) for size, one, other in sections if size >= least)
        return list(nx.shortest_path(wide, first, last))


def _narrowest(sections: Sequence[tuple[float, str, str]], first: str, last: str) -> float:
    joined = UnionFind([first, last])
    for size, one, other in sections:
        joined.union(one, other)
        if joined[first] == joined[last]:
            return size
    return -math.inf


def at_length(link: QuantumLink, length_km: float) -> QuantumLink:
    """Return the same system over another length of fibre; a measured rate scales as the model."""
    calm = None if link.measured_rate is None else link.undisturbed or link
    return replace(link, length_km=length_km, loss_db=None, undisturbed=calm)
