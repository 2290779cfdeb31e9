"""`scale`: how the speed of `deffd run` and its memory grow with the number of clients.

Each size runs in a process tree of its own with the default number of workers: Def-FD, 60 samples
per client, one local epoch, so that there is little arithmetic for the rest to hide behind. A
client-round is one client through one round. The clock runs from the first message of round 2 to
the first message of round 5; memory is looked at from start to end.
"""

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.federation import steady
from benchmarks.harness import Options, Result, in_turn, ratio
from benchmarks.processes import run_module

KEYS = ("rounds=5", "local-epochs=1", "eval-every=1000000", "test-samples=100")
FASHION, FIVE_TIMES = "fashion-mnist", "benchmarks.datasets:fashion_mnist_x5"
SIZES, BASE, LARGE, HUGE = (10, 100, 1000), 100, 1000, 5000
QUICK_SIZES = (4, 8, 16)


def measure(options: Options) -> Iterator[Result]:
    """Yield client-rounds per second with the largest number of clients / with the middle one."""
    if options.quick:
        arms = {n: partial(run, n, 20, "benchmarks.datasets:patterns") for n in QUICK_SIZES}
    else:
        arms = {n: partial(run, n, 60, FASHION) for n in SIZES}
    measured = in_turn({f"{n} clients": arm for n, arm in arms.items()}, options)
    detail: dict[str, object] = {name: _summary(each) for name, each in measured.items()}
    if options.full and not options.quick:
        options.tell(f"once: {HUGE} clients")
        detail[f"{HUGE} clients"] = _summary([run(HUGE, 60, FIVE_TIMES)])
    base, large = sorted(arms)[1:]
    yield ratio(
        "scale",
        [each["client_rounds_per_s"] for each in measured[f"{large} clients"]],
        [each["client_rounds_per_s"] for each in measured[f"{base} clients"]],
        of=f"{large} clients / {base} clients, client-rounds per second",
        config=KEYS,
        **detail,
    )


def run(clients: int, samples: int, dataset: str) -> dict[str, float]:
    """Run a federation; return its client-rounds per second and the peak of its memory."""
    given = (f"clients={clients}", f"samples-per-client={samples}", f"dataset={dataset}")
    told = run_module("benchmarks.federation", *KEYS, *given)
    rounds, seconds = steady(told)
    speed = clients * rounds / seconds
    numbers = {name: float(str(told[name])) for name in ("peak_mb", "failures")}
    return {"client_rounds_per_s": speed, **numbers}


def _summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each number."""
    return {name: round(median(each[name] for each in runs), 2) for name in runs[0]}
