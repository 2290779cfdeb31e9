"""`peers`: the same work in turn on this project, on a bare loop and on other simulators.

See `workload` for the work. Ours is ``strategy=full-avg``, sealed with ``suite=aes``, on two
workers: two of its rounds are ten client epochs and ten exchanges. The simulators run with one
thread and with one per core, and the faster counts, turn by turn; the bare loop has one. Each runs
in a process, the simulators in an environment of their own with our PyTorch's version. Once without
evaluation, once with ten evaluations on 2,000 images for every ten client epochs.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.environments import packages_of, python_with
from benchmarks.federation import steady
from benchmarks.harness import Options, Result, UnavailableError, in_turn, ratio_of
from benchmarks.plain import cnn, nchw
from benchmarks.processes import run_module
from benchmarks.workload import (
    BATCH,
    CLIENTS,
    IMAGES,
    LR,
    TEST_IMAGES,
    TIMED,
    TIMED_WITH_EVALUATION,
    WARM_UP,
)
from deffd_flower.data.client import client_data
from deffd_flower.data.datasets import normalise
from deffd_flower.engine.process_grid import usable_cores
from deffd_flower.errors import DeffdError
from deffd_flower.peer import Peer
from deffd_flower.request import resolve
from deffd_flower.training import Samples

SIMULATORS = {
    "gossipy": ("gossipy-dfl==0.0.1", "torchvision"),
    "fluke": ("fluke-fl==0.8.1",),
}
HELD_OUT = 10
KEYS: dict[str, object] = {
    "strategy": "full-avg",
    "suite": "aes",
    "partition": "iid",
    "clients": CLIENTS,
    "samples-per-client": IMAGES + HELD_OUT,
    "local-test-fraction": HELD_OUT / (IMAGES + HELD_OUT),
    "local-epochs": 1,
    "batch-size": BATCH,
    "lr": LR,
    "momentum": 0.0,
    "test-samples": TEST_IMAGES,
}
"""Ours must hold something out; ten images per client make little difference."""

Told = dict[str, object]


def measure(options: Options) -> Iterator[Result]:
    """Yield our seconds per ten client epochs / the bare loop's, and / the best simulator's."""
    if not options.full:
        raise UnavailableError("it installs 12 GB; ask for it by name or with --full")
    pythons, missing = _environments(options)
    with tempfile.TemporaryDirectory(prefix="deffd-bench-") as folder:
        file = str(Path(folder) / "work.pt")
        export(file)
        for evaluate in (False, True):
            yield from _results(file, evaluate, pythons, missing, options)


def _environments(options: Options) -> tuple[dict[str, str], dict[str, str]]:
    """Return the simulators' interpreters, and why others have none."""
    pythons, missing = {}, {}
    for name, requirements in SIMULATORS.items():
        options.tell(f"environment with {requirements[0]}: minutes, the first time")
        try:
            pythons[name] = python_with(name, requirements)
        except UnavailableError as problem:
            missing[name] = str(problem)
            options.tell(str(problem))
    return pythons, missing


def export(file: str) -> None:
    """Write what our clients train on, and start from, for the others.

    Raises:
        DeffdError: Our clients do not have the number of images they should.
    """
    config = resolve(KEYS)
    data = [client_data(config, client) for client in range(CLIENTS)]
    if {len(each.train) for each in data} != {IMAGES}:
        raise DeffdError(f"the clients' images are not {IMAGES}")
    initial = Peer(0, data[0], config).model.state_dict().values()
    train = [_floats(each.train) for each in data]
    test = data[0].test
    tensors = {
        "images": torch.stack(train),
        "labels": torch.stack([each.train.labels for each in data]),
        "test_images": _floats(test)[:TEST_IMAGES],
        "test_labels": test.labels[:TEST_IMAGES],
        "initial": dict(zip(cnn().state_dict(), initial, strict=True)),
    }
    torch.save(tensors, file)


def _floats(samples: Samples) -> torch.Tensor:
    return nchw(normalise(samples.images, samples.spec))


def _results(
    file: str,
    evaluate: bool,
    pythons: dict[str, str],
    missing: dict[str, str],
    options: Options,
) -> Iterator[Result]:
    timed = TIMED_WITH_EVALUATION if evaluate else TIMED
    rounds = 1 if options.quick else timed
    turns = in_turn(_arms(file, rounds, evaluate, pythons), options)
    detail: dict[str, object] = {
        "config": KEYS,
        "missing": missing,
        "all seconds": {arm: [round(each, 4) for each in _seconds(turns[arm])] for arm in turns},
        "last turn": {arm: each[-1] for arm, each in turns.items()},
        "packages": {name: packages_of(python) for name, python in pythons.items()},
    }
    seconds = {"ours": _seconds(turns["ours"]), "bare": _seconds(turns["bare"])}
    seconds |= {name: _best(turns, f"{name} ") for name in pythons}
    if pythons:
        seconds["best simulator"] = _best(turns, *(f"{name} " for name in pythons))
    case = "with-evaluation" if evaluate else "training"
    for name in list(seconds)[1:]:
        title = f"peers:{case}:{name.replace(' ', '-')}"
        yield ratio_of(title, seconds, "ours", name, **detail)


def _arms(
    file: str, rounds: int, evaluate: bool, pythons: dict[str, str]
) -> dict[str, Callable[[], Told]]:
    flags = ["--evaluate"] if evaluate else []
    arms: dict[str, Callable[[], Told]] = {
        "ours": partial(ours, rounds, evaluate),
        "bare": partial(run_module, "benchmarks.drivers.bare", file, str(rounds), "1", *flags),
    }
    for name, python in pythons.items():
        for threads in sorted({1, usable_cores()}):
            words = (f"benchmarks.drivers.{name}", file, str(rounds), str(threads), *flags)
            arms[f"{name} {threads} threads"] = partial(run_module, *words, python=python)
    return arms


def _seconds(turns: Sequence[Told]) -> list[float]:
    return [float(str(told["seconds"])) for told in turns]


def _best(turns: Mapping[str, Sequence[Told]], *starts: str) -> list[float]:
    """Return the fewest seconds, turn by turn, of the arms whose name begins so."""
    chosen = [_seconds(each) for arm, each in turns.items() if arm.startswith(starts)]
    return [min(turn) for turn in zip(*chosen, strict=True)]


def ours(rounds: int, evaluate: bool) -> Told:
    """Run a federation; return the seconds of ten client epochs in its steady state."""
    every = 2 if evaluate else 10**6
    extra = {"workers": 2, "eval-every": every, "rounds": 2 * (WARM_UP + rounds) + 1}
    words = [f"{key}={value}" for key, value in {**KEYS, **extra}.items()]
    told = run_module("benchmarks.federation", *words)
    counted, seconds = steady(told, skipped=2 * WARM_UP)
    return {"seconds": 2 * seconds / counted, **told}
