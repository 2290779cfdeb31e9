"""The numbers of a run: what they are called, how they are written, and the closing table."""

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "–"

NAMES = {
    "def-fd": "Def-FD",
    "def-kt": "Def-KT",
    "def-fd-plus": "Def-FD+",
    "hand-off": "Hand-off",
    "average-then-distil": "Average, then distil",
    "full-avg": "FullAvg",
    "combo": "Combo",
    "local": "Local training",
    "fedavg": "FedAvg",
    "fashion-mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "Digits",
}
"""Proper names of strategies and data sets, by config value."""

SUITES = {
    "otp": "One-time pad",
    "aes": "AES-256-GCM",
    "hybrid": "AES + ML-KEM",
    "pqc": "ML-KEM, no QKD",
    "none": "None: plaintext",
}
"""Short names of the ways to seal a model, by config value."""

EVALUATED_ON = {"test": "Test set", "validation": "Validation"}
"""What the global accuracy is counted on, by config value."""

LEFT_OVER, SET_ASIDE = "left over", "set aside"
"""Where validation images come from: what clients left, or taken away before the rest was dealt."""


def number(value: object) -> float:
    """Return the value as a float, NaN when it is not a number."""
    return float(value) if isinstance(value, int | float) else math.nan


def percent(value: object) -> str:
    """Return a fraction in percent with one decimal, without the sign."""
    fraction = number(value)
    return f"{100 * fraction:.1f}" if math.isfinite(fraction) else NOTHING


def duration(value: object) -> str:
    """Return seconds in the units a person would say them in."""
    seconds = number(value)
    if not math.isfinite(seconds):
        return NOTHING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24:,} d {hours % 24:02d} h"


def megabytes(value: object) -> str:
    """Return bytes in MB (10^6 bytes)."""
    size = number(value) / 1e6
    if not math.isfinite(size):
        return NOTHING
    return f"{size:,.1f}" if size >= 1 else f"{size:.3g}"


def plain(value: object) -> str:
    """Return a value of any kind as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return json.dumps(value, default=str) if isinstance(value, list | bool) else str(value)


def count(value: object) -> str:
    """Return a count with its thousands set apart; parts of models make some counts fractions."""
    amount = number(value)
    if not math.isfinite(amount):
        return NOTHING
    return f"{amount:,.0f}" if amount.is_integer() else f"{amount:,.1f}"


def proper_name(value: object) -> str:
    """Return the proper name of a strategy or data set."""
    return NAMES.get(str(value), plain(value))


def suite_name(value: object) -> str:
    """Return a short name of a way to seal models."""
    return SUITES.get(str(value), plain(value))


def evaluation_set(value: object) -> str:
    """Return what the global accuracy is counted on, by config value."""
    return EVALUATED_ON.get(str(value), plain(value))


def judged_on(values: Mapping[str, object]) -> str:
    """Return in words what the global accuracy is counted on."""
    kind = "validation" if values.get("evaluated_on") == "validation" else "test"
    images = count(values.get("evaluation_samples"))
    whole = "whole test set" if kind == "test" else "validation split"
    return whole if images == NOTHING else f"{images} {kind} images"


def listed(value: object) -> str:
    """Return a list's entries as text."""
    return ", ".join(map(plain, value)) if isinstance(value, list) else plain(value)


def shares(value: object) -> str:
    """Return amounts by suite as percentages of their sum."""
    amounts = value if isinstance(value, dict) else {}
    total = math.fsum(map(number, amounts.values()))
    if not total > 0:
        return NOTHING
    parts = [f"{suite_name(name)} {percent(number(amounts[name]) / total)}" for name in amounts]
    return ", ".join(parts)


QUANTITIES: dict[str, tuple[str, Callable[[object], str]]] = {
    "strategy": ("Strategy", proper_name),
    "dataset": ("Data set", proper_name),
    "model": ("Model", plain),
    "clients": ("Clients", count),
    "rounds": ("Rounds", count),
    "round": ("Last evaluated round", count),
    "seed": ("Seed", plain),
    "partition_seed": ("Seed of the partition", plain),
    "init_seed": ("Seed of the initial weights", plain),
    "pairing_seed": ("Seed of the pairing", plain),
    "evaluated_on": ("Evaluated on", evaluation_set),
    "evaluation_samples": ("Evaluation images", count),
    "validation_split": ("Validation images were", plain),
    "final_evaluations": ("Evaluations averaged", count),
    "global_accuracy": ("Global accuracy (%)", percent),
    "local_accuracy": ("Local accuracy (%)", percent),
    "local_accuracy_prior": ("Local with prior (%)", percent),
    "held_accuracy": ("Held classes (%)", percent),
    "absent_accuracy": ("Absent classes (%)", percent),
    "worst10_accuracy": ("Worst 10 % of clients (%)", percent),
    "best_global_accuracy": ("Best global accuracy (%)", percent),
    "best_round": ("Best after round", count),
    "consensus_distance": ("Consensus distance", plain),
    "loss_train": ("Local training loss (nats)", plain),
    "loss_ce": ("Fusion cross-entropy (nats)", plain),
    "loss_kl": ("Fusion KL divergence (nats)", plain),
    "loss_feature": ("Fusion feature-map loss", plain),
    "loss_anchor": ("Fusion KL divergence from the anchor (nats)", plain),
    "gamma": ("Gamma found by gamma=auto", plain),
    "models_sent": ("Models sent", count),
    "bytes_sent": ("Sent (MB)", megabytes),
    "suite": ("Suite", suite_name),
    "min_suite": ("Weakest suite allowed", suite_name),
    "models_by_suite": ("Models by suite (%)", shares),
    "bytes_by_suite": ("Bytes by suite (%)", shares),
    "key_source": ("Key source", plain),
    "qkd_network": ("QKD network", plain),
    "link": ("QKD system of a link", plain),
    "key_bits": ("Key used (bits)", count),
    "key_bits_per_model": ("Key per model (bits)", count),
    "sim_time_s": ("Simulated time", duration),
    "starved": ("Starved of key (models)", count),
    "waits": ("Waited for key (models)", count),
    "waited_s": ("Waited for key, in all", duration),
    "repicked": ("Sent to another peer", count),
    "degraded": ("Sent under weaker suite", count),
    "skipped": ("Not sent, lacking key", count),
    "sealed_failures": ("Sealed models refused", count),
    "relayed": ("Models whose key trusted nodes saw", count),
    "exposed_nodes": ("Trusted nodes that saw keys", listed),
    "compromised": ("Models whose key Eve read", count),
    "eve": ("Eve", plain),
    "failures": ("Failures", count),
    "wall_s": ("Time", duration),
    "compute_s": ("Compute time", duration),
    "engine": ("Engine", plain),
    "state_sha256": ("SHA-256 of all weights", plain),
}
"""Label and format of each known quantity, in the order they are shown."""

KEY_QUANTITIES = [
    *("suite", "min_suite", "models_by_suite"),
    *("key_source", "qkd_network", "link", "key_bits", "key_bits_per_model", "sim_time_s"),
    *("starved", "waits", "waited_s", "repicked", "degraded", "skipped", "sealed_failures"),
    *("relayed", "exposed_nodes", "compromised", "eve"),
]
"""Those about keys and seals, in the order they are shown."""

ACCURACY_KEYS = [key for key in QUANTITIES if "accuracy" in key]
COST_KEYS = ["models_sent", "bytes_sent", "key_bits", "key_bits_per_model", "sim_time_s"]
TROUBLES = ["starved", "waited_s", "repicked", "degraded", "skipped", "sealed_failures"]
CLOSING = [
    *("strategy", "dataset", "suite", "evaluated_on", "validation_split", "final_evaluations"),
    *(*ACCURACY_KEYS, "best_round", "consensus_distance", *COST_KEYS, *TROUBLES, "wall_s"),
]
UNLESS: dict[str, object] = {"final_evaluations": 1, "key_bits_per_model": 0}
UNLESS |= dict.fromkeys(TROUBLES, 0)
"""Quantities that the closing table leaves out where all runs have this value."""


def written(key: str, values: Mapping[str, object]) -> str:
    """Return one quantity as it is shown; the global accuracy with its spread over clients."""
    text = QUANTITIES[key][1](values.get(key))
    spread = percent(values.get("global_accuracy_std"))
    return f"{text} ± {spread}" if key == "global_accuracy" and spread != NOTHING else text


def final_table(summary: Mapping[str, object], *references: Mapping[str, object]) -> "Table":
    """Return the table that closes a run in the terminal.

    Args:
        summary: The run's summary, as written to ``summary.json``.
        references: Summaries of other runs to set beside it, a column each; up to two fit 80
            columns without wrapping.
    """
    from rich.markup import escape
    from rich.table import Table

    runs = [summary, *references]
    table = Table(show_header=False, highlight=False)
    table.add_column("quantity")
    for place in range(len(runs)):
        table.add_column(justify="right", style="" if place else "bold", overflow="fold")
    for key in CLOSING:
        cells = [written(key, values) for values in runs]
        unsaid = {NOTHING, written(key, {key: UNLESS[key]})} if key in UNLESS else {NOTHING}
        if not unsaid.issuperset(cells):
            table.add_row(QUANTITIES[key][0], *map(escape, cells))
    return table
