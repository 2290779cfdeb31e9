"""What each client gains on the same client of the reference, drawn cell by cell."""

from typing import TYPE_CHECKING, Any

import numpy as np

from deffd_flower.results.cell_names import reference_name
from deffd_flower.results.cells import Comparison
from deffd_flower.results.chart import BLUE, INK, LOOKS
from deffd_flower.results.courses import Courses
from deffd_flower.results.gains import gains
from deffd_flower.results.intervals import draw_means, name_all, row_axes
from deffd_flower.results.metrics import difference_heading, plain_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CELLS = 12
"""Of more cells there are only tables."""

THIN: dict[str, Any] = {"markersize": 3, "linewidth": 1, "capsize": 0}

FEW = 40
"""Up to so many clients each has an interval of its own; more are dots."""

ROWS_FOR_ALL = 2.4
"""The height of a cell's clients, in rows of a name's height."""


def client_gains(comparison: Comparison, courses: Courses, metric: str) -> "Figure | None":
    """Return each client's mean gain over seeds with its interval, a row of them for each cell."""
    found = gains(comparison, courses, metric)
    if not 0 < len(found) <= MOST_CELLS:
        return None
    cells = [comparison.cells[number] for number in found]
    figure, axes, places = row_axes(comparison, cells, least=ROWS_FOR_ALL)
    axes.axvline(0, color=INK, linewidth=1)
    everybody = [gain for of_cell in found.values() for gain in of_cell]
    models = list(dict.fromkeys(gain.model for gain in everybody))
    looks = dict(zip(models, LOOKS, strict=False))
    many = max(map(len, found.values())) > FEW
    for model in models:
        colour, marker = looks.get(model, (BLUE, "o"))
        own = [
            (place + shift, gain.summary)
            for place, of_cell in zip(places, found.values(), strict=True)
            for shift, gain in zip(_shifts(len(of_cell)), of_cell, strict=True)
            if gain.model == model
        ]
        heights, summaries = [height for height, _ in own], [summary for _, summary in own]
        label = f"Client with {model}" if model else "Client"
        if many:
            means = [100 * summary.mean for summary in summaries]
            axes.plot(means, heights, marker, color=colour, ms=2.5, mew=0, alpha=0.7, label=label)
        else:
            label += ", mean with 95 % interval"
            look: dict[str, Any] = {"color": colour, "marker": marker, "label": label, **THIN}
            draw_means(axes, heights, summaries, 100.0, **look)
    unit = difference_heading(metric).removeprefix("difference")
    axes.set_xlabel(f"{plain_name(metric)}: gain on\n{reference_name(comparison)}{unit}")
    name_all(figure)
    return figure


def _shifts(clients: int) -> list[float]:
    """Return where the clients of a cell stand, the first on top."""
    reach = 0.4 * ROWS_FOR_ALL
    return list(np.linspace(-reach, reach, clients)) if clients > 1 else [0.0]
