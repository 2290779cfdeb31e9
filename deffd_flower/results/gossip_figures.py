"""Who wrote to whom: a run's traffic as a graph, or as a matrix where a graph would be a knot."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from deffd_flower.errors import RequestError
from deffd_flower.results.chart import BLUE, INK, VERMILION, has, known, new_axes
from deffd_flower.results.reader import Run, column
from deffd_flower.results.table import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from networkx import Graph

MOST_NODES = 30
"""Up to so many clients are drawn as a graph."""

SERVER = "server"
THINNEST, WIDEST = 0.8, 7.0
"""Points."""

USED: dict[str, Any] = {"color": BLUE, "alpha": 0.55}
UNUSED: dict[str, Any] = {"color": INK, "alpha": 0.25, "linewidth": 0.8}
UNSENT: dict[str, Any] = {"color": VERMILION, "linewidth": 1.2, "linestyle": (0, (2, 2))}

DARK, LIGHT = "#000001", "#fefefe"
"""Not INK and PAPER: these stand on a node's colour, not on the page's."""


class Pair(NamedTuple):
    """What two clients, or a client and the server, have sent each other.

    Attributes:
        one: The one of lower number; the server comes first.
        other: The other one.
        models: Models sent, both ways together.
        unsent: How often a model was not sent that should have been.
    """

    one: str
    other: str
    models: float
    unsent: float


def gossip(run: Run) -> "Figure | None":
    """Return the traffic between clients, or None where nothing was ever to be sent."""
    if not run.traffic:
        return None
    return _graph(run) if _size(run) <= MOST_NODES else _matrix(run)


def caption(run: Run) -> str:
    """Return what is said below the figure."""
    pairs = traffic_pairs(run)
    busiest = max(pairs, key=lambda pair: pair.models)
    models = math.fsum(pair.models for pair in pairs)
    lost = math.fsum(pair.unsent for pair in pairs)
    used = sum(pair.models > 0 for pair in pairs)
    unsent = f" {count(lost)} were not sent that should have been." if lost else ""
    if not models:
        return f"Nothing was sent.{unsent}"
    ends = f"{busiest.one} and {busiest.other}"
    return (
        f"Models sent over the whole run: {count(models)} between {count(used)} pairs, most "
        f"between {ends} ({count(busiest.models)}).{unsent}"
    )


def traffic_pairs(run: Run) -> list[Pair]:
    """Return the pairs between which something was sent or to be sent, by number."""
    sums: dict[tuple[str, str], Pair] = {}
    for row in run.traffic:
        one, other = sorted((_end(row["sender"]), _end(row["receiver"])), key=_place)
        before = sums.get((one, other), Pair(one, other, 0.0, 0.0))
        models, unsent = number(row["models"]), number(row["unsent"])
        sums[one, other] = Pair(one, other, before.models + models, before.unsent + unsent)
    return sorted(sums.values(), key=lambda pair: (_place(pair.one), _place(pair.other)))


def _graph(run: Run) -> "Figure":
    figure, axes = new_axes(4.9)
    neighbours = _neighbours(run)
    places = _layout(run, neighbours)
    _draw_unused(axes, neighbours, places)
    pairs = traffic_pairs(run)
    most = max(pair.models for pair in pairs)
    for pair in pairs:
        ends = [places[pair.one], places[pair.other]]
        if pair.models:
            _line(axes, ends, **USED, linewidth=_width(pair.models, most))
        if pair.unsent:
            _line(axes, ends, **UNSENT, zorder=1.5)
    _draw_nodes(figure, axes, run, places)
    _explain(axes, most, unsent=any(pair.unsent for pair in pairs), unused=bool(neighbours))
    axes.set(xlim=(-1.13, 1.13), ylim=(-1.13, 1.13))
    axes.axis("off")
    return figure


def _matrix(run: Run) -> "Figure":
    size = _size(run)
    models = [[math.nan] * size for _ in range(size)]
    for row in run.traffic:
        sender, receiver = _place(_end(row["sender"])), _place(_end(row["receiver"]))
        if min(sender, receiver) >= 0 and row["models"]:
            models[sender][receiver] = number(row["models"])
    if not any(has(row) for row in models):
        return _totals(run)
    figure, axes = new_axes(4.4)
    image = axes.imshow(models, cmap="cividis_r", vmin=0, interpolation="none")
    figure.colorbar(image, label="models sent", shrink=0.8)
    axes.set(xlabel="receiver (client)", ylabel="sender (client)")
    axes.grid(visible=False)
    return figure


def _totals(run: Run) -> "Figure":
    """Return how many clients exchanged how many models with the server."""
    models: dict[str, float] = {}
    for pair in traffic_pairs(run):
        models[pair.other] = models.get(pair.other, 0.0) + pair.models
    figure, axes = new_axes(3.2)
    axes.plot(sorted(models.values()), color=BLUE, drawstyle="steps-mid")
    axes.set(xlabel="clients, by models exchanged", ylabel="models exchanged with the server")
    axes.set_ylim(bottom=0)
    return figure


def _layout(run: Run, neighbours: "Graph[int] | None") -> dict[str, tuple[float, float]]:
    """Place clients on a circle, or by a spring model where not everybody may write to anybody."""
    size = _size(run)
    angles = [math.pi / 2 - 2 * math.pi * client / size for client in range(size)]
    circle = {n: (math.cos(angle), math.sin(angle)) for n, angle in enumerate(angles)}
    if neighbours is not None and any(degree != 2 for _, degree in neighbours.degree()):
        from networkx import spring_layout

        drawn = spring_layout(neighbours, pos=circle, iterations=200, seed=0)
        circle = dict(zip(drawn, _filling([tuple(at) for at in drawn.values()]), strict=True))
    return {SERVER: (0.0, 0.0), **{str(n): place for n, place in circle.items()}}


def _filling(places: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return the places moved apart, so that they reach from -1 to 1 either way."""
    lows = [min(place[axis] for place in places) for axis in (0, 1)]
    spans = [max(place[axis] for place in places) - lows[axis] or 1.0 for axis in (0, 1)]
    shares = [[(place[a] - lows[a]) / spans[a] for a in (0, 1)] for place in places]
    return [(2 * float(x) - 1, 2 * float(y) - 1) for x, y in shares]


def _neighbours(run: Run) -> "Graph[int] | None":
    """Return who may write to whom, or None for everybody to everybody."""
    from deffd_flower.config import FIELDS, parse
    from deffd_flower.strategy.topology import topology

    # The file of an edge list may be gone, and a topology of one's own is not imported here.
    with suppress(RequestError):
        return topology(parse({key: run.config[key] for key in FIELDS if key in run.config}))
    return None


def _draw_unused(
    axes: "Axes", neighbours: "Graph[int] | None", places: dict[str, tuple[float, float]]
) -> None:
    for one, other in neighbours.edges() if neighbours is not None else ():
        ends = [places[str(one)], places[str(other)]]
        _line(axes, ends, **UNUSED)


def _line(axes: "Axes", ends: list[tuple[float, float]], **look: Any) -> None:
    axes.plot(*zip(*ends, strict=True), solid_capstyle="round", **{"zorder": 1, **look})


def _draw_nodes(
    figure: "Figure", axes: "Axes", run: Run, places: dict[str, tuple[float, float]]
) -> None:
    from matplotlib import colormaps

    accuracies = dict(_accuracies(run))
    clients = [str(client) for client in range(_size(run))]
    values = [accuracies.get(client, math.nan) for client in clients]
    colours: Colormap = colormaps["cividis"].with_extremes(bad="#bbbbbb")
    xs, ys = zip(*(places[client] for client in clients), strict=True)
    dots = axes.scatter(xs, ys, c=values, cmap=colours, s=300, zorder=3, plotnonfinite=True)
    dots.set(edgecolor=INK, linewidth=0.8)
    if has(values):
        figure.colorbar(dots, label="global accuracy (%)", shrink=0.75, pad=0.02)
    ends = known(values) or [0.0]
    middle = (min(ends) + max(ends)) / 2
    for client, value in zip(clients, values, strict=True):
        _write(axes, places[client], client, LIGHT if value < middle else DARK)
    if any(pair.one == SERVER for pair in traffic_pairs(run)):
        server = _write(axes, places[SERVER], SERVER, DARK)
        server.set_bbox({"boxstyle": "round", "facecolor": "#bbbbbb", "edgecolor": INK})


def _write(axes: "Axes", place: tuple[float, float], text: str, colour: str) -> "Text":
    written = axes.text(*place, text, color=colour, ha="center", va="center", zorder=4)
    written.set(fontsize=9, in_layout=False)
    return written


def _explain(axes: "Axes", most: float, *, unsent: bool, unused: bool) -> None:
    """Say which width is how many models, below the graph."""
    from matplotlib.lines import Line2D

    names = {amount: count(amount) for amount in sorted({min(1.0, most), most} - {0.0})}
    names |= {most: f"{count(most)} models sent"} if most else {}
    lines = [
        Line2D([], [], **USED, linewidth=_width(amount, most), label=name)
        for amount, name in names.items()
    ]
    if unused:
        lines.append(Line2D([], [], **UNUSED, label="neighbours"))
    if unsent:
        lines.append(Line2D([], [], **UNSENT, label="not always sent"))
    columns = len(lines) if len(lines) < 4 else 2
    axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns)


def _width(models: float, most: float) -> float:
    return THINNEST + (WIDEST - THINNEST) * models / most


def _accuracies(run: Run) -> Iterator[tuple[str, float]]:
    for client, accuracy in zip(
        column(run.clients, "client"), column(run.clients, "global_accuracy"), strict=True
    ):
        if math.isfinite(client):
            yield f"{client:.0f}", 100 * accuracy


def _size(run: Run) -> int:
    named = [_place(_end(row[end])) for row in run.traffic for end in ("sender", "receiver")]
    return max(round(number(run.config.get("clients", 0))), 1 + max(named, default=0))


def _end(name: object) -> str:
    return f"{name:.0f}" if isinstance(name, float) else str(name)


def _place(name: str) -> int:
    return -1 if name == SERVER else int(name)
