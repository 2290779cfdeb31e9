"""`cores`: how much faster two worker processes are than one, on the paper's protocol."""

from collections.abc import Iterator
from functools import partial

from benchmarks.federation import steady
from benchmarks.harness import Options, Result, UnavailableError, in_turn, ratio_of
from benchmarks.processes import run_module
from deffd_flower.engine.process_grid import usable_cores

PAPER = ("clients=20", "pairs=10", "samples-per-client=600", "rounds=6")
QUICK = ("clients=4", "samples-per-client=100", "rounds=3", "dataset=benchmarks.datasets:patterns")


def measure(options: Options) -> Iterator[Result]:
    """Yield the seconds per round with one worker / with two."""
    if usable_cores() < 2:
        raise UnavailableError("two workers need two cores")
    keys = (*(QUICK if options.quick else PAPER), "eval-every=1000000", "test-samples=100")
    arms = {f"{n} workers": partial(seconds_per_round, *keys, f"workers={n}") for n in (1, 2)}
    measured = in_turn(arms, options)
    yield ratio_of("cores", measured, "1 workers", "2 workers", config=keys)


def seconds_per_round(*keys: str) -> float:
    """Run a federation in a process of its own; return the mean over its steady rounds."""
    rounds, seconds = steady(run_module("benchmarks.federation", *keys))
    return seconds / rounds
