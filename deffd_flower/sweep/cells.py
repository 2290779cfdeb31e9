"""From a grid to its cells."""

from itertools import product
from typing import NamedTuple

from deffd_flower.config import Value
from deffd_flower.errors import RequestError
from deffd_flower.sweep.document import Axis, Block, values_of
from deffd_flower.sweep.source import Location, Source


class Setting(NamedTuple):
    """A key's value in one cell, and where the file says so."""

    value: Value
    place: str


Cell = dict[str, Setting]
"""What a cell sets, by key; cells need not set the same keys."""


def expand(block: Block, source: Source, location: Location = ("grid",)) -> list[Cell]:
    """Return every combination of a block's keys, of its groups' members and of its sub-blocks.

    The first key varies slowest; groups come after keys, and sub-blocks after groups.

    Raises:
        RequestError: A combination would set a key twice.
    """
    axes = [
        [{key: setting} for setting in _settings(axis, source, (*location, key))]
        for key, axis in block.axes.items()
    ]
    for index, group in enumerate(block.zipped):
        axes.append(_together(group, source, (*location, "zip", index)))
    if block.cells:
        blocks = enumerate(block.cells)
        axes.append([c for i, b in blocks for c in expand(b, source, (*location, "cells", i))])
    return [_merged(parts) for parts in product(*axes)]


def _settings(axis: Axis, source: Source, location: Location) -> list[Setting]:
    # A value of a range has no place of its own: the file has no such index, and it is left out.
    return [
        Setting(value, source.place((*location, index)))
        for index, value in enumerate(values_of(axis))
    ]


def _together(group: dict[str, Axis], source: Source, location: Location) -> list[Cell]:
    columns = [_settings(axis, source, (*location, key)) for key, axis in group.items()]
    return [dict(zip(group, row, strict=True)) for row in zip(*columns, strict=True)]


def _merged(parts: tuple[Cell, ...]) -> Cell:
    cell: Cell = {}
    for part in parts:
        for key, setting in part.items():
            if key in cell:
                raise RequestError(setting.place, None, f"{key} varies at {cell[key].place}, too")
            cell[key] = setting
    return cell
