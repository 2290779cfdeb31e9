"""Run directories with made-up but plausible numbers."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib import style

from deffd_flower.results import chart
from deffd_flower.results.cells import Comparison, read_comparison
from deffd_flower.results.courses import Courses
from deffd_flower.results.reader import read_course
from deffd_flower.results.writer import RunWriter
from tests.results.drawn import Read
from tests.results.made_courses import make_sweep
from tests.results.sealed_runs import DEGRADED, INTERCEPTED, write_sealed_run

CONFIG: dict[str, object] = {
    "strategy": "def-fd",
    "dataset": "fashion-mnist",
    "model": "cnn",
    "clients": 10,
    "rounds": 4,
    "lr": 0.012345,
    "out-dir": "results/ten",
    "seed": 1,
}


def client_rows(server_round: int, clients: int) -> list[dict[str, float | int | str | None]]:
    """Return a row per client; client 0 is the worst, client 1 holds every class."""
    rows: list[dict[str, float | int | str | None]] = []
    for client in range(clients):
        accuracy = 0.5 + 0.05 * server_round + 0.1 * client / clients
        rows.append(
            {
                "round": server_round,
                "client": client,
                "global_accuracy": accuracy,
                "local_accuracy": accuracy + 0.1,
                "local_accuracy_prior": accuracy + 0.15,
                "held_accuracy": accuracy + 0.05,
                "absent_accuracy": math.nan if client == 1 else accuracy - 0.2,
                "train_samples": 480,
                "test_samples": 120,
            }
        )
    return rows


def round_row(server_round: int) -> dict[str, float | int | None]:
    """Return the row of one evaluated round."""
    accuracy = 0.5123 + 0.05 * server_round
    return {
        "round": server_round,
        "global_accuracy": accuracy,
        "global_accuracy_std": 0.0312,
        "local_accuracy": accuracy + 0.1111,
        "local_accuracy_prior": accuracy + 0.1555,
        "held_accuracy": accuracy + 0.05,
        "absent_accuracy": accuracy - 0.2,
        "worst10_accuracy": accuracy - 0.0777,
        "models_sent": 5 * server_round,
        "bytes_sent": 581_820 * server_round,
        "key_bits": 1280 * server_round,
        "failures": 0,
        "loss_ce": 1.5 / server_round,
        "loss_kl": 0.4 / server_round,
        "loss_feature": None,
        "wall_s": 1.9 * server_round,
        "compute_s": 3.6 * server_round,
    }


def write_run(
    directory: Path, *, clients: int = 10, rounds: int = 4, finish: bool = True, **changes: object
) -> Path:
    """Write a run directory; ``changes`` go into its config and its summary."""
    writer = RunWriter(directory, {**CONFIG, "clients": clients, **changes})
    held = [[(client * label) % 7 * 20 for label in range(10)] for client in range(clients)]
    writer.partition(held)
    for server_round in range(1, rounds + 1):
        writer.client_rows(client_rows(server_round, clients))
        writer.round_row(round_row(server_round))
    if finish:
        identity = {key: value for key, value in CONFIG.items() if key != "out-dir"}
        versions = {"flwr": "1.41.0", "torch": "2.9.0"}
        summary = {**identity, "clients": clients, **round_row(rounds), "versions": versions}
        writer.finish({**summary, "sealed_failures": 0, "engine": "in-process", **changes})
    return directory


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run directory and returns it."""

    def make(name: str = "run", **parts: Any) -> Path:
        return write_run(tmp_path / name, **parts)

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a finished run, for tests that only read it."""
    return write_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a finished run with real key, for tests that only read it."""
    return write_sealed_run(tmp_path_factory.mktemp("sealed") / "run", INTERCEPTED)


@pytest.fixture(scope="session")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a finished run with trusted nodes and three suites."""
    return write_sealed_run(tmp_path_factory.mktemp("degraded") / "run", DEGRADED)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return a function that returns the comparison of a shape, and how its runs went."""
    known: dict[str, tuple[Comparison, Courses]] = {}

    def of_shape(shape: str) -> tuple[Comparison, Courses]:
        if shape not in known:
            directory = make_sweep(tmp_path_factory.mktemp(shape) / "sweep", shape)
            comparison = read_comparison([directory])
            runs = [[read_course(t.directory) for t in c.trials] for c in comparison.cells]
            known[shape] = comparison, runs
        return known[shape]

    return of_shape


@pytest.fixture
def house_style() -> Iterator[None]:
    with style.context(["default", chart.STYLE]):
        yield
