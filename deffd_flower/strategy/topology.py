"""Who may write to whom: undirected graphs over the clients, from networkx.

The complete graph is not stored edge by edge: with thousands of clients it would not fit.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeAlias

import networkx as nx
import yaml

from deffd_flower.config import RunConfig
from deffd_flower.errors import RequestError
from deffd_flower.randomness import derived_seed
from deffd_flower.registry import Registry

Graph: TypeAlias = "nx.Graph[int]"
topologies: "Registry[Callable[[RunConfig], Graph | None]]" = Registry("topology")

_DRAWS = 100


def topology(config: RunConfig) -> "Graph | None":
    """Return the graph over partition ids 0..clients-1, or ``None`` for the complete graph.

    Raises:
        RequestError: No such graph exists for this number of clients.
    """
    if config.topology.endswith((".yaml", ".yml")):
        return _edge_list(config)
    return topologies.get(config.topology)(config)


@topologies.register("complete")
def complete(config: RunConfig) -> None:
    """Everybody may write to everybody."""


@topologies.register("ring")
def ring(config: RunConfig) -> Graph:
    """Each client has the two neighbours beside it."""
    graph: Graph = nx.cycle_graph(config.clients)
    return graph


@topologies.register("torus")
def torus(config: RunConfig) -> Graph:
    """A grid, as square as the number of clients allows, whose edges wrap around."""
    sides = [side for side in range(2, config.clients) if config.clients % side == 0]
    rows = max((side for side in sides if side * side <= config.clients), default=0)
    if not rows:
        advice = f"{config.clients} clients form no grid; give a number with divisors, such as 12"
        raise RequestError("topology", "torus", advice)
    columns = config.clients // rows
    corners = [(row, column) for row in range(rows) for column in range(columns)]
    right = [(r * columns + c, r * columns + (c + 1) % columns) for r, c in corners]
    down = [(r * columns + c, (r + 1) % rows * columns + c) for r, c in corners]
    return nx.Graph([*right, *down])


@topologies.register("random-regular")
def random_regular(config: RunConfig) -> Graph:
    """Each client has ``topology-degree`` neighbours, drawn from the seed."""
    degree = config.topology_degree
    if degree >= config.clients or degree * config.clients % 2:
        advice = f"must be below clients={config.clients}, and their product even"
        raise RequestError("topology-degree", degree, advice)
    return _first_connected(
        config, lambda seed: nx.random_regular_graph(degree, config.clients, seed=seed)
    )


@topologies.register("small-world")
def small_world(config: RunConfig) -> Graph:
    """Watts and Strogatz 1998: a ring of ``topology-degree``, rewired at random."""
    degree, share = config.topology_degree, config.topology_probability
    if not 2 <= degree < config.clients or degree % 2:
        advice = f"must be even, at least 2 and below clients={config.clients}"
        raise RequestError("topology-degree", degree, advice)
    return _first_connected(
        config, lambda seed: nx.watts_strogatz_graph(config.clients, degree, share, seed=seed)
    )


@topologies.register("erdos-renyi")
def erdos_renyi(config: RunConfig) -> Graph:
    """Erdos and Renyi 1959: each edge is there with ``topology-probability``."""
    share = config.topology_probability
    return _first_connected(
        config, lambda seed: nx.gnp_random_graph(config.clients, share, seed=seed)
    )


def _first_connected(config: RunConfig, draw: Callable[[int], Graph]) -> Graph:
    for attempt in count():
        graph = draw(derived_seed(config.seed_of("pairing"), "topology", attempt) % 2**32)
        if nx.is_connected(graph):
            return graph
        if attempt == _DRAWS:
            break
    advice = f"{_DRAWS} draws left clients unreachable; raise topology-degree or -probability"
    raise RequestError("topology", config.topology, advice)


def _edge_list(config: RunConfig) -> Graph:
    """Read ``[[0, 1], [1, 2], ...]`` from a YAML file."""
    try:
        edges = yaml.safe_load(Path(config.topology).expanduser().read_text())
        graph: Graph = nx.Graph([(int(one), int(other)) for one, other in edges])
    except (OSError, yaml.YAMLError, TypeError, ValueError) as problem:
        advice = f"must be a YAML list of pairs such as [[0, 1], [1, 2]] ({problem})"
        raise RequestError("topology", config.topology, " ".join(advice.split())) from None
    missing = sorted(set(range(config.clients)) ^ set(graph))
    if missing or nx.number_of_selfloops(graph):
        advice = (
            f"must join each client 0..{config.clients - 1} to another one"
            f" (look at {missing[0] if missing else 'the loops'})"
        )
        raise RequestError("topology", config.topology, advice)
    return graph
