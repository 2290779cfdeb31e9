"""Which cell each cell is compared with."""

from collections.abc import Sequence

from deffd_flower.sweep.plan import Keys


def partners(cells: Sequence[Keys], reference: Keys) -> list[int | None]:
    """Return for each cell the number of its reference; ``None`` for references themselves.

    Where several cells fit the reference, they differ in some keys. A cell is compared with the
    one that has its own values of those keys; ``None`` if there is none: so ``strategy: def-kt``
    is the reference of each strategy at the same number of classes.

    Args:
        cells: All keys of each cell, resolved.
        reference: Values of some keys.
    """
    chosen = [
        number
        for number, cell in enumerate(cells)
        if reference and all(cell.get(key) == value for key, value in reference.items())
    ]
    apart = [key for key in cells[0] if len({cells[number][key] for number in chosen}) > 1]
    by_values = {_values(cells[number], apart): number for number in chosen}
    return [
        None if number in chosen else by_values.get(_values(cell, apart))
        for number, cell in enumerate(cells)
    ]


def _values(cell: Keys, keys: Sequence[str]) -> tuple[object, ...]:
    return tuple(cell[key] for key in keys)
