"""Numbers of a run that are compared across runs: how they are called and written."""

import math
from collections.abc import Mapping

from deffd_flower.results.table import NOTHING, QUANTITIES, number, percent, plain

RATIOS: dict[str, tuple[str, str, float]] = {
    "accuracy_per_key_bit": ("global_accuracy", "key_bits", 1.0),
    "accuracy_per_simulated_hour": ("global_accuracy", "sim_time_s", 3600.0),
}
"""Metrics made of two others: numerator, denominator, and how many of the latter are one unit."""


def with_ratios(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return a run's numbers with those `RATIOS` that have both parts, and no zero below."""
    ratios = {
        name: numbers[above] / numbers[below] * unit
        for name, (above, below, unit) in RATIOS.items()
        if above in numbers and numbers.get(below)
    }
    return {**numbers, **ratios}


def heading(metric: str) -> str:
    """Return what a metric is called, with its unit."""
    return _SHOWN[metric][0] if metric in _SHOWN else metric.replace("_", " ").capitalize()


def plain_name(metric: str) -> str:
    """Return what a metric is called, without its unit."""
    return heading(metric).partition(" (")[0]


def amount(metric: str, value: float) -> str:
    """Return a metric's value without its unit; accuracies are in percent."""
    if not math.isfinite(value):
        return NOTHING
    return (_SHOWN[metric][1] if metric in _SHOWN else plain)(value)


def difference_heading(metric: str) -> str:
    """Return what a column of differences is called, with its unit; percent differ by points."""
    return difference_in(heading(metric))


def difference_in(name: str) -> str:
    """Return what a difference is called, by the name with its unit of what differs."""
    unit = name.partition(" (")[2].removesuffix(")")
    return f"difference ({unit.replace('%', 'points')})" if unit else "difference"


def signed(metric: str, value: float) -> str:
    """Return a difference with its sign; none if it is shown as zero."""
    text = amount(metric, abs(value))
    if text in (NOTHING, amount(metric, 0.0)):
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def _percent_per_megabit(value: object) -> str:
    rate = 1e8 * number(value)
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


_SHOWN = {
    **QUANTITIES,
    "global_accuracy_std": ("Spread over clients (points)", percent),
    "accuracy_per_key_bit": ("Global accuracy per key (% / Mbit)", _percent_per_megabit),
    "accuracy_per_simulated_hour": ("Global accuracy per simulated hour (% / h)", percent),
}
