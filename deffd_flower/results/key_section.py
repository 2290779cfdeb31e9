"""What a run's page says of its keys: the numbers, the links, the claims, and below each figure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deffd_flower.results.claims import Claim, claims
from deffd_flower.results.reader import Row, Run
from deffd_flower.results.situation import takes_key
from deffd_flower.results.table import (
    KEY_QUANTITIES,
    NOTHING,
    QUANTITIES,
    count,
    duration,
    percent,
    plain,
    written,
)
from deffd_flower.results.timeline import eve_spans, first_increase

LINKS_SHOWN = 30

LINK_COLUMNS = {
    "link": ("Link", plain),
    "produced": ("Produced (bits)", count),
    "delivered": ("Delivered (bits)", count),
    "stored": ("Stored (bits)", count),
    "expired": ("Expired (bits)", count),
    "burnt": ("Burnt (bits)", count),
    "aborted": ("Aborted blocks", count),
    "starved": ("Starved models", count),
    "qber": ("Last QBER (%)", percent),
}

TITLES = {
    "keys": "Keys, Eve and the models",
    "accuracy-by-key": "Accuracy by key",
    "accuracy-by-time": "Accuracy by simulated time",
    "suites": "What sealed the models",
}

ABOUT_QKD = ("key_source", "qkd_network", "link")


@dataclass(frozen=True)
class KeySection:
    """The section "Keys and security" of a page.

    Attributes:
        numbers: Label and value of what key was used for, and how it went.
        notice: What stands above the claims table.
        claims: The claims table.
        link_labels: Heads of the columns of ``links``.
        links: A row of cells per link; empty where they are too many to show.
        more_links: Their number where they are too many.
    """

    numbers: list[tuple[str, str]]
    notice: str
    claims: list[Claim]
    link_labels: list[str]
    links: list[list[str]]
    more_links: int


def key_section(run: Run, facts: Mapping[str, object]) -> KeySection | None:
    """Return the section, or None for a run that says nothing about keys.

    Args:
        run: The run.
        facts: Its summary, or what is known so far.
    """
    if "suite" not in run.config:
        return None
    shown = run.links if len(run.links) <= LINKS_SHOWN else []
    return KeySection(
        numbers=_numbers(run, facts),
        notice=_notice(run),
        claims=claims(run.config, facts),
        link_labels=[label for label, _ in LINK_COLUMNS.values()],
        links=[_cells(row) for row in sorted(shown, key=_by_name)],
        more_links=len(run.links) - len(shown),
    )


def caption(name: str, run: Run, facts: Mapping[str, object]) -> str:
    """Return what is said below a figure of the section."""
    if name == "keys":
        return (
            "All against simulated time, which starts with the first round. A link counts from "
            f"its first use on; its QBER is that of its last complete block. {_eves_effect(run)}"
        )
    if name == "accuracy-by-key":
        per_model = count(facts.get("key_bits_per_model"))
        more = f", {per_model} per model" if per_model != NOTHING else ""
        return (
            f"Mean over clients against the key bits that had sealed models by then: "
            f"{count(facts.get('key_bits'))}{more}. Key that a link lost is not among them."
        )
    if name == "accuracy-by-time":
        return (
            f"Mean over clients against the simulated time of computing, transfers and waiting "
            f"for key: {duration(facts.get('sim_time_s'))} in all."
        )
    return "Share of the sealed bytes that each suite sealed, headers and tags included."


def _notice(run: Run) -> str:
    notice = (
        "What this run guarantees, from what, and what breaks it; no more than its weakest part."
    )
    if run.config.get("key-source") == "embedded" and takes_key(str(run.config["suite"])):
        notice += (
            " With key-source=embedded the secrecy of QKD keys is simulated: clients work them out "
            "from a secret file they share."
        )
    return notice


def _numbers(run: Run, facts: Mapping[str, object]) -> list[tuple[str, str]]:
    given = {key.replace("-", "_"): value for key, value in run.config.items()}
    values = {key: value for key, value in {**given, **facts}.items() if key in KEY_QUANTITIES}
    if values.get("min_suite") == values["suite"]:
        del values["min_suite"]
    sealed = values.get("models_by_suite")
    if isinstance(sealed, dict) and len(sealed) < 2:
        del values["models_by_suite"]
    if not run.links and not takes_key(str(values["suite"])):
        values = {key: value for key, value in values.items() if key not in ABOUT_QKD}
    return [(QUANTITIES[key][0], written(key, values)) for key in KEY_QUANTITIES if values.get(key)]


def _cells(row: Row) -> list[str]:
    return [write(row.get(key)) for key, (_, write) in LINK_COLUMNS.items()]


def _by_name(row: Row) -> list[tuple[int, str]]:
    """Sort 0-2 before 0-10."""
    parts = re.findall(r"\d+|\D+", str(row.get("link")))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _eves_effect(run: Run) -> str:
    spans = eve_spans(run)
    if not spans:
        return "Eve is not active."
    begin = min(span.begin for span in spans)
    aborted, starved = (first_increase(run, key, begin) for key in ("aborted", "starved"))
    lost = (
        f"blocks were aborted by the end of round {aborted}" if aborted else "no block was aborted"
    )
    short = (
        f"models found too little key in round {starved}"
        if starved
        else "no model was short of key"
    )
    return f"Eve began at {duration(begin)}; since then {lost}, and {short}."
