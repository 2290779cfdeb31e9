"""The figures of a comparison."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from deffd_flower.results import cell_figures, row_figures
from deffd_flower.results.accuracy import ACCURACIES
from deffd_flower.results.cell_names import reference_name
from deffd_flower.results.cells import Comparison
from deffd_flower.results.course_figures import BYTES, KEY, ROUND, curves
from deffd_flower.results.courses import Courses
from deffd_flower.results.gain_figures import client_gains
from deffd_flower.results.metrics import plain_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONSENSUS = "consensus_distance"


class Drawing(NamedTuple):
    """One figure to be drawn.

    Attributes:
        draw: Returns it, or None where there is nothing to draw.
        title: What it shows.
        caption: What one must know to read it.
    """

    draw: Callable[[], "Figure | None"]
    title: str
    caption: str


def drawings(comparison: Comparison, courses: Courses) -> dict[str, Drawing]:
    """Return all figures of a comparison by the name of their files."""
    values, differences = _of_values(comparison), _of_differences(comparison)
    # Side by side on a wide screen: what a metric is, and how it differs.
    pairs = chain.from_iterable(zip(values.items(), differences.items(), strict=True))
    return {**dict(pairs), **_of_courses(comparison, courses), **_of_clients(comparison, courses)}


def _of_values(comparison: Comparison) -> dict[str, Drawing]:
    caption = (
        "Mean over seeds with Student's 95 % interval; small dots are single seeds. "
        "One seed alone has no interval."
    )
    return {
        f"cells-{_file_name(metric)}": Drawing(
            partial(cell_figures.values, comparison, metric), plain_name(metric), caption
        )
        for metric in comparison.metrics
    }


def _of_differences(comparison: Comparison) -> dict[str, Drawing]:
    reference = reference_name(comparison)
    caption = (
        f"Each seed's value minus that of {reference} with the same seed, with the 95 % bootstrap "
        "interval of their mean. On the right the p-value of the sign-flip permutation test after "
        "Holm's correction."
    )
    return {
        f"differences-{_file_name(metric)}": Drawing(
            partial(row_figures.differences, comparison, metric),
            f"{plain_name(metric)} against {reference}",
            caption,
        )
        for metric in comparison.metrics
    }


def _of_courses(comparison: Comparison, courses: Courses) -> dict[str, Drawing]:
    metric = _course_metric(comparison)
    band = "Mean over seeds; the band is Student's 95 % interval"
    against = {
        "by-round": (ROUND, "by round", f"{band}."),
        "by-traffic": (BYTES, "by traffic", f"{band}, at their mean traffic, where there is any."),
        "by-key": (KEY, "by key", f"{band}, at their mean use of key, where there is any."),
    }
    found = {
        f"{_file_name(metric)}-{name}": Drawing(
            partial(curves, comparison, courses, metric, key),
            f"{plain_name(metric)} {words}",
            caption,
        )
        for name, (key, words, caption) in against.items()
    }
    found["consensus"] = Drawing(
        partial(curves, comparison, courses, CONSENSUS, ROUND),
        "How far the models are apart",
        f"Root mean square distance of the clients' weights to their mean, estimated from random "
        f"projections. {band}.",
    )
    return found


def _of_clients(comparison: Comparison, courses: Courses) -> dict[str, Drawing]:
    return {
        "clients": Drawing(
            partial(row_figures.clients, comparison, courses),
            "Accuracy of the clients",
            "Clients of all seeds, each with the mean of its last evaluations, the worst tenth of "
            "each run marked. The thin line reaches from the worst to the best client.",
        ),
        **_of_gains(comparison, courses),
        "held-absent": Drawing(
            partial(row_figures.held_and_absent, comparison),
            "Held against absent classes",
            "Global accuracy on the classes of which a client has training samples, and on the "
            "others: mean over clients, then over seeds.",
        ),
    }


def _of_gains(comparison: Comparison, courses: Courses) -> dict[str, Drawing]:
    reference = reference_name(comparison)
    return {
        f"gains-{_file_name(metric)}": Drawing(
            partial(client_gains, comparison, courses, metric),
            f"{plain_name(metric)} that clients gain on {reference}",
            f"Each client's value minus that of the same client with the same seed under "
            f"{reference}: mean over seeds, Student's 95 % interval. Clients stand in the order of "
            "their numbers, the first on top.",
        )
        for metric in comparison.metrics
        if metric in ACCURACIES
    }


def _course_metric(comparison: Comparison) -> str:
    """Return the most important metric that every evaluated round has."""
    every_round = [m for m in comparison.metrics if m.endswith("accuracy") or "accuracy_" in m]
    fitting = [m for m in every_round if not m.startswith(("best_", "accuracy_per_"))]
    return fitting[0] if fitting else "global_accuracy"


def _file_name(metric: str) -> str:
    return metric.replace("_", "-")
