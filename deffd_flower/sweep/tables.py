"""The trials of a sweep in the terminal, before they run."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from deffd_flower.sweep.naming import varying, written
from deffd_flower.sweep.plan import Keys, Sweep


def trial_table(sweep: Sweep) -> Table:
    """Return all trials with the keys in which their cells differ."""
    keys = varying(sweep.cells)
    table = Table(title=f"{sweep.title}: {len(sweep.trials)} trials", highlight=False)
    for name in ("trial", *keys, "seed"):
        table.add_column(name, overflow="fold")
    for trial in sweep.trials:
        own = _written(sweep.cells[trial.cell], keys)
        table.add_row(trial.name, *own, str(trial.config.seed))
    return table


def _written(cell: Keys, keys: Sequence[str]) -> list[str]:
    return [escape(written(cell[key])) if key in cell else "" for key in keys]
