"""What cells and metrics are called in figures."""

from collections.abc import Mapping, Sequence

from deffd_flower.config import Value
from deffd_flower.results.cells import Cell, Comparison
from deffd_flower.results.metrics import heading
from deffd_flower.results.table import NAMES
from deffd_flower.sweep.naming import written

SPEAKING = frozenset(
    {"strategy", "dataset", "model", "feature-loss", "suite", "link", "topology", "on-starved"}
)
"""Keys whose values say by themselves what they are values of."""

NOT_SPEAKING = {"", "auto", "none"}
"""Texts that say nothing without their key."""

SEPARATOR = " · "
"""Stands between the parts of a name."""

UNITS = {
    "sim_time_s": ("Simulated time (s)", 1.0),
    "waited_s": ("Waited for key, in all (s)", 1.0),
    "wall_s": ("Time (s)", 1.0),
    "compute_s": ("Compute time (s)", 1.0),
    "bytes_sent": ("Sent (MB)", 1e-6),
    "key_bits": ("Key used (kbit)", 1e-3),
    "consensus_distance": ("Consensus distance (units of the weights)", 1.0),
    "accuracy_per_key_bit": ("Global accuracy per key (% / Mbit)", 1e8),
    "accuracy_per_simulated_hour": ("Global accuracy per simulated hour (% / h)", 1e2),
}
"""Name with unit, and what a value is multiplied by, where `heading` does not tell."""


def axis(metric: str) -> tuple[str, float]:
    """Return a metric's name with its unit, and what its values are multiplied by."""
    name = heading(metric)
    return UNITS.get(metric, (name, 100.0 if name.endswith(("(%)", "(points)")) else 1.0))


def cell_name(cell: Cell, without: Sequence[str] = ()) -> str:
    """Return what makes a cell differ from the others, in a few words.

    Args:
        cell: The cell.
        without: Keys that are told elsewhere in the figure.
    """
    parts = [value_name(key, value) for key, value in cell.keys.items() if key not in without]
    return SEPARATOR.join(parts) or "all runs"


def value_name(key: str, value: Value) -> str:
    """Return a value with its key, unless it speaks for itself."""
    if key in SPEAKING and isinstance(value, str) and value not in NOT_SPEAKING:
        return NAMES.get(value, value) if key in ("strategy", "dataset") else value
    return f"{key} {written(value)}" if value != "" else f"no {key}"


def reference_name(comparison: Comparison) -> str:
    """Return what the others are compared with, in a few words."""
    partners = {cell.partner for cell in comparison.cells} - {None}
    if len(partners) == 1:
        return cell_name(comparison.cells[partners.pop() or 0])
    return SEPARATOR.join(value_name(key, value) for key, value in comparison.reference.items())


def common_keys(comparison: Comparison) -> Mapping[str, Value]:
    """Return the keys whose value all trials share, but for seeds and paths."""
    configs = [trial.config.values() for cell in comparison.cells for trial in cell.trials]
    first = configs[0] if configs else {}
    shared = set(first.items()).intersection(*(config.items() for config in configs))
    return {key: value for key, value in first.items() if (key, value) in shared}
