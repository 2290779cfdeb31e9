"""The federation's accuracies: of one evaluation, and what the run has reached in all."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from deffd_flower.strategy.observer import Metrics

ACCURACIES = (
    "global_accuracy",
    "local_accuracy",
    "local_accuracy_prior",
    "held_accuracy",
    "absent_accuracy",
)
SPREADS = ("global_accuracy_std", "consensus_distance")
"""Quantities whose squares are averaged."""


def accuracies(clients: Sequence[Metrics]) -> dict[str, float]:
    """Return the federation's accuracies from its clients': plain means, each client alike.

    ``global_accuracy_std`` is the standard deviation over the clients, ``worst10_accuracy`` the
    mean global accuracy of the worst tenth of them (at least one). A client that has no value,
    such as an absent-class accuracy when it holds every class, does not count.
    """
    overall = sorted(client["global_accuracy"] for client in clients)
    means = {name: mean([client[name] for client in clients]) for name in ACCURACIES}
    return {
        "global_accuracy": means.pop("global_accuracy"),
        "global_accuracy_std": pstdev(overall),
        **means,
        "worst10_accuracy": fmean(overall[: math.ceil(len(overall) / 10)]),
    }


class Reached:
    """What a run has reached: the mean of its last evaluations, and its best one apart.

    The best evaluation of many is better than what the run can be expected to do again, so it is
    no final value.

    Args:
        last: Evaluations to average; fewer while there are fewer.
    """

    def __init__(self, last: int) -> None:
        self._last: deque[Mapping[str, float]] = deque(maxlen=last)
        self._best: dict[str, float] = {}

    def add(self, server_round: int, values: Mapping[str, float]) -> None:
        """Count one evaluation; the first of equally good ones remains the best."""
        self._last.append(values)
        if not self._best or values["global_accuracy"] > self._best["best_global_accuracy"]:
            self._best = {
                "best_global_accuracy": values["global_accuracy"],
                "best_round": server_round,
            }

    def values(self) -> dict[str, float]:
        """Return the final values, and the best global accuracy with its round.

        `SPREADS` are root mean squares: the standard deviation over clients within an evaluation,
        not that over evaluations.
        """
        columns = {name: [values[name] for values in self._last] for name in self._last[-1]}
        final = {
            name: root_mean_square(column) if name in SPREADS else mean(column)
            for name, column in columns.items()
        }
        return {**final, **self._best}


def mean(values: Sequence[float]) -> float:
    """Return the mean of those that are numbers; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def root_mean_square(values: Sequence[float]) -> float:
    """Return the root of the mean square."""
    return math.hypot(*values) / math.sqrt(len(values))
