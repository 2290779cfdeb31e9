"""QKD networks one can name, and those read from a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import yaml

from deffd_flower.errors import RequestError
from deffd_flower.qkd.link import QuantumLink
from deffd_flower.qkd.network import (
    DirectNetwork,
    QkdNetwork,
    Section,
    TrustedNodeNetwork,
    at_length,
)
from deffd_flower.qkd.presets import links
from deffd_flower.registry import Registry

METRO_HOP_KM = 10.0
ACCESS_KM = 10.0

#: Sections of a network like KREONET, the Korean research network, with trusted nodes close
#: enough for QKD. Lengths approximate road distances in km, rounded to 5: fibre runs along
#: roads, and KREONET's cable plan is not public.
KREONET_SECTIONS = (
    ("Seoul", "Suwon", 40),
    ("Suwon", "Cheonan", 55),
    ("Cheonan", "Cheongju", 45),
    ("Cheongju", "Daejeon", 45),
    ("Daejeon", "Gimcheon", 85),
    ("Gimcheon", "Daegu", 75),
    ("Daegu", "Pohang", 85),
    ("Pohang", "Ulsan", 65),
    ("Ulsan", "Busan", 60),
    ("Busan", "Changwon", 50),
    ("Changwon", "Daegu", 95),
    ("Changwon", "Jinju", 65),
    ("Jinju", "Suncheon", 75),
    ("Suncheon", "Gwangju", 85),
    ("Gwangju", "Jeonju", 100),
    ("Jeonju", "Daejeon", 85),
    ("Seoul", "Incheon", 35),
    ("Incheon", "Suwon", 40),
    ("Seoul", "Wonju", 95),
    ("Wonju", "Gangneung", 100),
)


@dataclass(frozen=True)
class NetworkRequest:
    """What a network is built for.

    Attributes:
        clients: Number of clients.
        link: The QKD system on every link; networks with lengths of their own change its length.
        graph: Who may write to whom; ``None`` for everybody to everybody.
    """

    clients: int
    link: QuantumLink
    graph: "nx.Graph[int] | None" = None


networks: Registry[Callable[[NetworkRequest], QkdNetwork]] = Registry("qkd-network")


def qkd_network(name: str, request: NetworkRequest) -> QkdNetwork:
    """Return the network of this name, or read from the YAML file at this path.

    Raises:
        RequestError: There is no such network, or the file holds none.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_file(name, request)
    return networks.get(name)(request)


@networks.register("direct")
def direct(request: NetworkRequest) -> QkdNetwork:
    """A quantum link for each pair of clients that may write to each other."""
    return DirectNetwork(request.clients, request.link, request.graph)


@networks.register("kreonet")
def kreonet(request: NetworkRequest) -> QkdNetwork:
    """Trusted nodes in 18 cities of Korea; an approximation of the research network KREONET."""
    sections = [(a, b, at_length(request.link, km)) for a, b, km in KREONET_SECTIONS]
    return _relayed(sections, request)


@networks.register("metro-ring")
def metro_ring(request: NetworkRequest) -> QkdNetwork:
    """A ring through all clients, 10 km from one to the next."""
    hop = at_length(request.link, METRO_HOP_KM)
    clients = request.clients
    ring = [(str(client), str((client + 1) % clients), hop) for client in range(clients)]
    return _relayed(ring if clients > 2 else ring[:1], request)


def _relayed(sections: list[Section], request: NetworkRequest) -> QkdNetwork:
    return TrustedNodeNetwork(sections, request.clients, at_length(request.link, ACCESS_KM))


def _from_file(path: str, request: NetworkRequest) -> QkdNetwork:
    """Read ``[[Seoul, Daejeon, 140], [Daejeon, Busan, 200, li-2023], ...]``: km, and a preset."""
    try:
        rows = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
        sections = [_section(request.link, *row) for row in rows]
    except (OSError, yaml.YAMLError, TypeError, ValueError) as problem:
        advice = "must be a YAML list such as [[Seoul, Suwon, 40], [Suwon, Osan, 20, li-2023]]"
        raise RequestError(
            "qkd-network", path, f"{advice} ({' '.join(str(problem).split())})"
        ) from None
    return _relayed(sections, request)


def _section(
    link: QuantumLink, one: str, other: str, length_km: float, preset: str = ""
) -> Section:
    system = links.get(preset) if preset else link
    return str(one), str(other), at_length(system, float(length_km))
