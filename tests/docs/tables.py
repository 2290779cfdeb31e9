"""The tables in the documentation that follow from the code.

``python -m tests.docs.tables`` writes them into the pages; with ``--check`` it names the pages that
are out of date instead, and exits with 1.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from deffd_flower.config import DEFAULTS, RunConfig
from deffd_flower.data.datasets import datasets
from deffd_flower.data.partition import partitioners
from deffd_flower.fusion.calibration import calibrations
from deffd_flower.fusion.features import feature_losses
from deffd_flower.fusion.logits import logit_losses
from deffd_flower.kme.config import (
    KeyConfig,
    KmeConfig,
    LimitConfig,
    LinkConfig,
    PeerConfig,
    PoolConfig,
    Section,
)
from deffd_flower.models import models
from deffd_flower.qkd.networks import networks
from deffd_flower.qkd.presets import preset_table
from deffd_flower.registry import Registry
from deffd_flower.results.table import NAMES
from deffd_flower.strategy.partners import partners
from deffd_flower.strategy.presets import GRAPH, OPTIONS, strategies
from deffd_flower.strategy.topology import topologies
from deffd_flower.transport.suites import suites
from experiments import SWEEPS
from experiments.ceiling import ceiling_table
from experiments.tables import (
    beside_the_paper,
    result_table,
    times_table,
    what_distilling_adds,
)
from tests.docs.pages import ROOT, text_of

SECTIONS = {
    "strategy": "The run",
    "dataset": "Data",
    "model": "Model and training",
    "ce-weight": "Fusion",
    "topology": "Who writes to whom",
    "suite": "Keys of the seals, and the QKD network",
    "eval-every": "Evaluation, machine and files",
}
"""The first key of each section of the page."""

REGISTRIES: dict[str, Registry[Any]] = {
    "strategy": strategies,
    "dataset": datasets,
    "partition": partitioners,
    "model": models,
    "calibrate": calibrations,
    "kd-loss": logit_losses,
    "feature-loss": feature_losses,
    "topology": topologies,
    "partner": partners,
    "suite": suites,
    "min-suite": suites,
    "qkd-network": networks,
}
"""Where the named values of a key are."""

BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def main(words: Sequence[str]) -> int:
    """Write or check every table; return the exit code."""
    stale = [page for page in TABLES if renewed(page) != text_of(page)]
    if words == ["--check"]:
        print("\n".join(stale))
        return 1 if stale else 0
    for page in stale:
        (ROOT / page).write_text(renewed(page), encoding="utf-8")
    return 0


def renewed(page: str) -> str:
    """Return a page with its tables written anew."""
    text = text_of(page)
    for name, table in TABLES[page].items():
        between = re.compile(rf"(<!-- generated: {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        if len(between.findall(text)) != 1:
            raise ValueError(f"{page} must have one place for the table {name}")
        text = between.sub(rf"\g<1>{table().replace(chr(92), chr(92) * 2)}", text)
    return text


def keys_table() -> str:
    """Return every key with default, allowed values and meaning, a table per section."""
    properties = RunConfig.model_json_schema(by_alias=True)["properties"]
    lines = []
    for key, schema in properties.items():
        if key in SECTIONS:
            lines += ["", f"## {SECTIONS[key]}", "", "| key | default | allowed | meaning |"]
            lines += ["|---|---|---|---|"]
        cells = [f"`{key}`", _written(DEFAULTS[key]), _allowed(key, schema), schema["description"]]
        lines.append(_row(cells))
    return "\n".join([*lines[1:], ""])


def strategies_table() -> str:
    """Return every strategy with what it does."""
    rows = [[f"`{name}`", NAMES[name], first_line(strategies.get(name))] for name in _strategies()]
    return table(["`strategy`", "name", "what happens"], rows)


def reads_table() -> str:
    """Return the keys that mean something to some strategies only."""
    rows = []
    for key in [key for key in DEFAULTS if key in OPTIONS - GRAPH]:
        readers = [f"`{name}`" for name in _strategies() if key in strategies.get(name)().reads]
        rows.append([f"`{key}`", ", ".join(readers)])
    return table(["key", "strategies that read it"], rows)


def partners_table() -> str:
    """Return every partner rule with whom a sender then writes to."""
    rows = [[f"`{name}`", first_line(partners.get(name).choose)] for name in _rules()]
    return table(["`partner`", "a sender writes to"], rows)


def reveals_table() -> str:
    """Return every partner rule with what the server learns for it."""
    rows = [[f"`{name}`", partners.get(name).reveals] for name in _rules()]
    return table(["`partner`", "what the server learns for it"], rows)


def suites_table() -> str:
    """Return every suite with its rank and its claims, the highest rank first."""
    ranked = sorted(suites.names(), key=lambda name: -suites.get(name).strength)
    rows = [[f"`{name}`", suites.get(name).strength, suites.get(name).claims] for name in ranked]
    return table(["suite", "rank", "claims"], rows)


def links_table() -> str:
    """Return every link preset, the fastest first."""
    rows = [
        [
            f"`{link.name}`",
            "" if link.length_km is None else f"{link.length_km:g}",
            f"{link.loss_db:.3g}",
            bits(link.bits_per_second),
            "given" if link.measured else "model",
            link.source,
        ]
        for link in preset_table()
    ]
    return table(["`link`", "km", "dB", "key per second", "rate", "source"], rows)


def section_table(section: type[Section]) -> str:
    """Return the keys of a section of a KME's file."""
    rows = []
    for name, field in section.model_fields.items():
        default = "required" if field.is_required() else _of_a_file(field.default)
        rows.append([f"`{field.alias or name}`", default, field.description])
    return table(["key", "default", "meaning"], rows)


def _of_a_file(default: object) -> str:
    return "" if default in (None, {}, [], "") else _written(default)


def bits(amount: float) -> str:
    """Return an amount of bits with three digits."""
    for unit, size in (("Mb", 1e6), ("kb", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.3g} b"


def first_line(documented: object) -> str:
    """Return the first line of a docstring."""
    return (documented.__doc__ or "").strip().splitlines()[0]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    return "\n".join([_row(head), "|" + "---|" * len(head), *map(_row, rows), ""])


def _rules() -> list[str]:
    return sorted(partners.names(), key=lambda name: (name != DEFAULTS["partner"], name))


def _strategies() -> list[str]:
    return sorted(strategies.names(), key=list(NAMES).index)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _written(value: object) -> str:
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(key: str, schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(key, choice) for choice in schema["anyOf"])
    if key == "link":
        return "[presets](qkd-simulation.md#links)"
    if key in REGISTRIES:
        return ", ".join(f"`{name}`" for name in REGISTRIES[key].names())
    if schema["type"] == "boolean":
        return "`true`, `false`"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "string":
        return "text"
    kind = "whole number" if schema["type"] == "integer" else "number"
    limits = [f"{word} {schema[bound]:g}" for bound, word in BOUNDS.items() if bound in schema]
    return ", ".join([kind, *limits])


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"strategies": strategies_table},
    "docs/configuration.md": {
        "keys": keys_table,
        "reads": reads_table,
        "partners": partners_table,
    },
    "docs/security.md": {"suites": suites_table, "partners": reveals_table},
    "docs/qkd-simulation.md": {"links": links_table},
    "docs/kme.md": {
        "kme": partial(section_table, KmeConfig),
        "kme-peers": partial(section_table, PeerConfig),
        "kme-link": partial(section_table, LinkConfig),
        "kme-keys": partial(section_table, KeyConfig),
        "kme-pool": partial(section_table, PoolConfig),
        "kme-limits": partial(section_table, LimitConfig),
    },
    "experiments/README.md": {
        "times": times_table,
        "paper": beside_the_paper,
        "ceiling": ceiling_table,
        "distilling": what_distilling_adds,
        **{name: partial(result_table, name) for name in SWEEPS},
    },
}
"""The tables of each page, by the name in its ``<!-- generated: name -->`` comment."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
