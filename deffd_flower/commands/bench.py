"""`deffd bench`: the benchmarks of a checkout."""

import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import deffd_flower
from deffd_flower.errors import DeffdError, RequestError, did_you_mean

if TYPE_CHECKING:
    from benchmarks.harness import Options, Result

ROOT = Path(deffd_flower.__file__).parents[1]


def bench_command(
    name: str | None, runs: int, *, as_json: bool, full: bool, quick: bool, save: bool
) -> None:
    """Measure one benchmark, or all, and print a line for each ratio as soon as it is known.

    Args:
        name: Which; ``None`` for all.
        runs: Turns that each arm of a comparison gets.
        as_json: Print JSON lines; otherwise, text.
        full: Also what takes long, as when a benchmark is asked for by name.
        quick: Tiny sizes, whose numbers mean nothing.
        save: Write ``benchmarks/results/NAME.json``, and the table of the README.

    Raises:
        RequestError: There is no such benchmark, or no checkout.
        DeffdError: A benchmark failed; those after it were not measured.
    """
    if quick and save:
        raise RequestError("--save", None, "numbers of --quick mean nothing; leave one out")
    suite = _suite()
    names = list(suite.BENCHMARKS)
    if name is not None and name not in names:
        advice = f"must be one of {', '.join(names)}.{did_you_mean(name, names)}"
        raise RequestError("bench", name, advice)
    harness = import_module("benchmarks.harness")
    # A benchmark that is told to end ends the programs it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = harness.Options(runs, full or name is not None, quick, _tell)
    if harness.busy():
        _tell("this machine is busy with something else: the numbers will be off")
    for each in [name] if name else names:
        try:
            _measure(each, options, as_json, save)
        except harness.UnavailableError as problem:
            if name:
                raise
            _tell(f"left out: {problem}")


def _suite() -> Any:
    """Import the package ``benchmarks``, which lies beside this one in a checkout only."""
    if not (ROOT / "benchmarks" / "__init__.py").exists():
        advice = "needs a checkout: clone the repository, pip install -e '.[sim]', try again"
        raise RequestError("bench", None, advice)
    # Our folder first: others may have installed something of that name.
    sys.path.insert(0, str(ROOT))
    return import_module("benchmarks")


def _measure(name: str, options: "Options", as_json: bool, save: bool) -> None:
    """Measure one benchmark; the errors of its arms name it."""
    lines = []
    try:
        for result in import_module(f"benchmarks.{name.replace('-', '_')}").measure(options):
            lines.append(result.as_json())
            typer.echo(lines[-1] if as_json else _line(result))
    except DeffdError as problem:
        problem.args = (f"{name}: {problem}",)
        raise
    if save:
        import_module("benchmarks.table").save(name, lines)


def _line(result: "Result") -> str:
    low, high = result.spread
    spread = f"{low:.3g} to {high:.3g}, {result.runs} turns"
    return f"{result.name:38} {result.ratio:7.3f}  ({spread})  {result.detail['of']}"


def _tell(text: str) -> None:
    typer.echo(text, err=True)
