"""The cells of a sweep in the terminal, before they run."""

from rich.markup import escape
from rich.table import Table

from deffd_flower.sweep.naming import label, varying
from deffd_flower.sweep.plan import Sweep


def cell_table(sweep: Sweep) -> Table:
    """Return a row for each cell, with the keys in which cells differ, and its seeds.

    A column for each key would be a letter wide where many vary.
    """
    keys = varying(sweep.cells)
    table = Table(title=f"{sweep.title}: {len(sweep.trials)} trials", highlight=False)
    table.add_column("cell", overflow="fold")
    table.add_column("seeds", no_wrap=len(sweep.seeds) < 10)
    seeds = ", ".join(map(str, sweep.seeds))
    for cell in sweep.cells:
        table.add_row(escape(label(cell, keys)), seeds)
    return table
