"""A plan as tables that fit a terminal of 80 columns."""

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from deffd_flower.qkd.plan import (
    LargestModels,
    LinkPlan,
    PackageSize,
    SuitePlan,
    largest_models,
    significant,
)
from deffd_flower.qkd.planner import Planner
from deffd_flower.results.table import proper_name
from deffd_flower.transport.envelope import MAX_PLAINTEXT_BYTES

_LINKS_SHOWN = 10
_UNITS = (
    (365.25 * 86_400, "years"),
    (86_400, "d"),
    (3600, "h"),
    (60, "min"),
    (1, "s"),
    (1e-3, "ms"),
    (1e-6, "µs"),
)


def print_plan(planner: Planner, console: Console) -> None:
    """Print what is planned, the tables, what they rest on, and a verdict for each suite."""
    for line in _heading(planner):
        console.print(escape(line), highlight=False)
    for table in _tables(planner):
        console.print(table)
        if table.caption:
            console.print()
    for line in _notes(planner):
        console.print(escape(line), highlight=False)
    console.print(_verdicts(planner))


def _tables(planner: Planner) -> Iterator[Table]:
    shown = _shown(planner)
    if planner.traffic.transfers:
        yield _key_table(planner)
    if shown.links:
        yield _link_table(shown)
    yield _pace_table(planner)
    sizes = largest_models(planner.suites["otp"], *planner.packages)
    if sizes:
        yield _otp_table(sizes, planner.packages[0])


def _shown(planner: Planner) -> SuitePlan:
    """Return the plan whose links are shown: the requested suite's, or otp's if it has none."""
    own = planner.suites[planner.config.suite]
    return own if own.links else planner.suites["otp"]


def span(seconds: float) -> str:
    """Return a duration in the largest unit of which there is at least one."""
    if math.isinf(seconds):
        return "never"
    for size, unit in _UNITS:
        if seconds >= 0.9995 * size:
            return f"{significant(seconds / size)} {unit}"
    return f"{significant(seconds / 1e-6)} µs" if seconds else "0 s"


def rate(bits_per_s: float) -> str:
    """Return a key rate with its unit."""
    for size, unit in ((1e6, "Mb/s"), (1e3, "kb/s")):
        if bits_per_s >= 0.9995 * size:
            return f"{significant(bits_per_s / size)} {unit}"
    return f"{significant(bits_per_s)} b/s"


def _daily(rounds: float) -> str:
    return "no limit" if math.isinf(rounds) else significant(rounds)


def _heading(planner: Planner) -> Iterator[str]:
    config, traffic = planner.config, planner.traffic
    strategy, dataset = proper_name(config.strategy), proper_name(config.dataset)
    graph = f"{config.clients} clients, topology={config.topology}"
    yield f"{strategy}: {config.model} on {dataset}, {graph}"
    for name, package in zip(config.cast.names, planner.packages, strict=True):
        which = f"Package of {name}" if config.cast.several else "Model package"
        yield f"{which}: {package.bytes:,} bytes, {package.parameters:,} float32 parameters"
    pieces = traffic.mean(lambda transfer: len(transfer.segments))
    if pieces:
        size = f"{planner.packages[0].segment_bytes:,} bytes"
        yield f"A segment's package: {size}; a message takes {significant(pieces)} segments"
    yield f"QKD: {config.link}, qkd-network={config.qkd_network}"
    sent = f"{significant(traffic.per_round)} messages" if traffic.per_round else "no message"
    transfer = planner.suites[config.suite].transfer_s
    spent = f"{span(config.round_compute_s)} computing, {span(transfer)} transfer"
    yield f"A round: {sent}, {spent} at {config.transfer_mbps:g} Mb/s"


def _key_table(planner: Planner) -> Table:
    table = _table("Key for one message", "suite")
    table.caption = (
        "gathered in: at the slowest link's mean rate; from empty: waiting for whole blocks;"
        f" at start: after {span(planner.config.head_start_s)} of QKD"
    )
    for name in ("key bits", "gathered in", "from empty", "at start", "bytes sent"):
        table.add_column(name, justify="right")
    for name, plan in planner.suites.items():
        waits = [span(seconds) for seconds in (plan.gather_s, plan.empty_s, plan.first_s)]
        sizes = [f"{round(size):,}" for size in (plan.key_bits, plan.wire_bytes)]
        cells = [sizes[0], *(waits if plan.links else ["–"] * 3), sizes[1]]
        table.add_row(name, *cells, style=_style(planner, name))
    return table


def _link_table(plan: SuitePlan) -> Table:
    table = _table(f"Links under {plan.suite}, per link and round; the bottleneck first", "link")
    for name in ("loss (dB)", "net key rate", "models", "key bits", "rounds/day"):
        table.add_column(name, justify="right")
    for link in plan.links[:_LINKS_SHOWN]:
        table.add_row(
            _name(link),
            f"{link.loss_db:.1f}",
            rate(link.bits_per_s),
            significant(link.messages),
            _whole(link.bits),
            _daily(link.rounds_per_day),
        )
    more = plan.links[_LINKS_SHOWN:]
    if more:
        table.add_row(f"{len(more)} more", *[""] * 4, f"to {_daily(more[-1].rounds_per_day)}")
    return table


def _name(link: LinkPlan) -> str:
    return escape(link.link) if link.links == 1 else f"{link.links:,} alike"


def _whole(bits: float) -> str:
    return significant(bits) if bits < 100 else significant(round(bits))


def _pace_table(planner: Planner) -> Table:
    table = _table("Rounds per day", "suite")
    table.caption = "by time: of computing and transfers alone"
    for name in ("by key", "by time", "possible", "limited by"):
        table.add_column(name, justify="right")
    table.add_column("bottleneck", overflow="fold")
    for name, plan in planner.suites.items():
        paces = (plan.key_pace, plan.pace, plan.rounds_per_day)
        link = _name(plan.links[0]) if plan.links else "–"
        cells = [*map(_daily, paces), plan.limited_by, link]
        table.add_row(name, *cells, style=_style(planner, name))
    return table


def _otp_table(sizes: LargestModels, package: PackageSize) -> Table:
    table = _table("Largest model under otp", "if each link seals")
    if sizes.per_day == MAX_PLAINTEXT_BYTES:
        table.caption = "an envelope holds 1 GiB at most"
    for name in ("bytes", "float32 parameters"):
        table.add_column(name, justify="right")
    rows = {
        "a model each round": sizes.per_round,
        "what this plan sends over it": sizes.as_planned,
        "a model a day": sizes.per_day,
    }
    for when, size in rows.items():
        table.add_row(when, f"{size:,}", f"{package.parameters_in(size):,}")
    return table


def _notes(planner: Planner) -> Iterator[str]:
    config, traffic, shown = planner.config, planner.traffic, _shown(planner)
    if traffic.exact:
        yield "Loads are exact expectations over the draw of pairs."
    elif traffic.alike:
        yield f"Message sizes are means over {len(traffic.rounds):,} drawn rounds."
    else:
        yield f"Loads are estimated from {len(traffic.rounds):,} rounds drawn by this plan."
    if shown.hops > 1.001:
        hops = significant(shown.hops)
        yield f"A key takes {hops} links on average; it goes where most key is stored."
    if config.eve:
        yield "eve: attacks on links count as if all were on, all the time."
    if config.pool_capacity or config.key_max_age_s:
        yield "Key lost to pool-capacity or key-max-age-s is not counted."
    own = planner.suites[config.suite]
    if config.on_starved != "wait" and not own.sustainable:
        share = f"{100 * own.key_pace / own.pace:.1f} % of its models"
        yield f"on-starved={config.on_starved}: at full pace the bottleneck has key for {share}."


def _verdicts(planner: Planner) -> Table:
    grid = Table.grid(padding=(0, 1))
    for name, plan in planner.suites.items():
        colour = "green" if plan.sustainable else "red" if plan.obstacle else "yellow"
        verdict = Text(plan.verdict(planner.config), colour)
        mark = "→" if name == planner.config.suite else ""
        grid.add_row(mark, Text(name, "bold"), verdict)
    return grid


def _table(title: str, first: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        highlight=False,
    )
    table.add_column(first, overflow="fold")
    return table


def _style(planner: Planner, suite: str) -> str:
    return "bold" if suite == planner.config.suite else ""
