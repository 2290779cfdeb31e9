"""`deffd sweep`: a grid of federations on Ray."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console

from deffd_flower.commands.request import read_request
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.results.writer import DRAWING
from deffd_flower.sweep.cluster import (
    check_address,
    import_ray,
    ray_cluster,
    ray_log,
    take_terminate_for_interrupt,
)
from deffd_flower.sweep.directory import SweepDirectory
from deffd_flower.sweep.load import load_sweep
from deffd_flower.sweep.plan import Sweep
from deffd_flower.sweep.rows import Row
from deffd_flower.sweep.tables import cell_table
from deffd_flower.sweep.trial import FAILED

_COMPARISON = "deffd_flower.results.comparison"


@dataclass(frozen=True)
class SweepOptions:
    """The options of the command, as typed.

    Attributes:
        out: The directory; ``None``: ``sweeps/NAME``, by the file's name.
        resume: Go on with the sweep in it.
        address: Of a Ray cluster; empty: none.
        workers: Trials at a time; 0: one for each CPU.
        gpus: GPUs of a trial with ``device=cuda``.
        retries: How often a trial is tried again whose process has died.
        figures: Draw the report of each run.
        dry_run: Check, and list the cells; nothing more.
    """

    out: Path | None
    resume: bool
    address: str
    workers: int
    gpus: float
    retries: int
    figures: bool
    dry_run: bool


def sweep_command(file: Path, words: Sequence[str], options: SweepOptions) -> None:
    """Check every trial, run what is left to run, and compare the results.

    Raises:
        RequestError: Something is wrong with the file or the directory; nothing has been written.
        DeffdError: Ray Tune is not installed, and nothing has been written; or a trial failed.
    """
    from deffd_flower.sweep.check import check_peers

    # Whatever is printed from here on is Ray's, and goes to its log.
    console = Console(file=sys.stdout)
    sweep = load_sweep(file, _keys(words))
    directory = SweepDirectory(options.out or Path("sweeps") / file.stem, sweep)
    directory.check(options.resume)
    check_address(options.address)
    check_peers(sweep, elsewhere=bool(options.address))
    if options.dry_run:
        console.print(cell_table(sweep))
        return
    import_ray()
    again = _again(file, words, options)
    try:
        rows = _run(sweep, directory, options, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with: {again}", soft_wrap=True, highlight=False)
        raise
    except DeffdError:
        raise
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise DeffdError(f"{reason}. To go on: {again}") from problem
    _show(directory.root, console)
    console.print(f"table: {directory.root / 'sweep.csv'}", soft_wrap=True, highlight=False)
    _compare(directory.root, console)
    failed = sum(each["status"] == FAILED for each in rows)
    if failed:
        told = f"{failed} of {len(rows)} trials failed; their logs are in {directory.root}/failed"
        raise DeffdError(f"{told}. To try them again: {again}")


def _keys(words: Sequence[str]) -> dict[str, object]:
    for word in words:
        if "=" not in word:
            raise RequestError(word, None, "only key=value may follow the file")
    return read_request(words)


def _again(file: Path, words: Sequence[str], options: SweepOptions) -> str:
    """Return the command that goes on with the sweep."""
    given = {
        "--out": options.out or "",
        "--address": options.address,
        "--workers": options.workers or "",
        "--gpus": options.gpus if options.gpus != 1 else "",
    }
    own = [str(word) for name, value in given.items() if value for word in (name, value)]
    figures = ["--figures"] if options.figures else []
    return shlex.join(["deffd", "sweep", str(file), *words, "--resume", *own, *figures])


def _run(
    sweep: Sweep, directory: SweepDirectory, options: SweepOptions, console: Console
) -> list[Row]:
    take_terminate_for_interrupt()
    with directory.opened() as remember, ray_log(directory.root / "ray.log"):
        from deffd_flower.sweep.run import Settings, run_sweep

        cluster = ray_cluster(options.address, options.workers, remember)
        at_a_time = options.workers if options.address else 0
        settings = Settings(at_a_time, options.retries, options.gpus, options.figures)
        return run_sweep(sweep, directory, cluster, settings, console)


def _show(directory: Path, console: Console) -> None:
    """Print means and paired differences, as `table.md` has them."""
    from deffd_flower.results.cell_tables import print_tables
    from deffd_flower.results.cells import read_comparison

    print_tables(read_comparison([directory]), console)


def _compare(directory: Path, console: Console) -> None:
    """Draw the figures and the report of the whole sweep."""
    try:
        report = import_module(_COMPARISON).write_comparison(directory)
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in DRAWING and missing.name != _COMPARISON:
            raise
        return
    console.print(f"report: {report}", soft_wrap=True, highlight=False)
