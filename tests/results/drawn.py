"""What a figure shows, read back from it."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from deffd_flower.results.cells import Comparison
from deffd_flower.results.courses import Courses

Read = Callable[[str], tuple[Comparison, Courses]]


def axes_of(figure: Figure | None) -> Axes:
    assert figure is not None
    return figure.axes[0]


def whiskers(axes: Axes) -> list[tuple[str, list[tuple[float, ...]]]]:
    """Return label, and place, mean and both ends of each interval, of what is drawn."""
    found = []
    for bars in axes.containers:
        assert isinstance(bars, ErrorbarContainer)
        dots, _, (lines,) = bars.lines
        ends = [np.asarray(segment) for segment in lines.get_segments()]
        places = np.asarray(dots.get_xydata()).tolist()
        spans = [(*place, *end.ravel().tolist()) for place, end in zip(places, ends, strict=True)]
        found.append((str(bars.get_label()), spans))
    return found


def legend(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for each in figure.legends for text in each.get_texts()]
