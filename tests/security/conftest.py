"""Whole federations of four clients, in this process, over grids that do what they should not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
import torch

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.results import report
from tests.e2e.conftest import flwr_run
from tests.security.relay import Relay

__all__ = ["flwr_run"]

#: Mail of rounds 1 and 3 is delivered by train messages, that of 2 and 4 by evaluate messages. With
#: this seed those who get it have got and sent mail before, so that there is something to replay.
QUICK: dict[str, object] = {
    "dataset": "digits",
    "clients": 4,
    "rounds": 4,
    "seed": 31,
    "eval-every": 2,
    "local-epochs": 1,
    "samples-per-client": 80,
    "test-samples": 100,
}

R = TypeVar("R", bound=Relay)
Federation = Callable[..., "Outcome[Any]"]
Honest = Callable[[str], "Outcome[Relay]"]


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """A finished federation."""

    summary: dict[str, Any]
    relay: R
    directory: Path

    @property
    def state(self) -> object:
        """The hash over all clients' final weights."""
        return self.summary["state_sha256"]


@pytest.fixture(scope="session")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the QKD secret of all federations is: not the user's."""
    return tmp_path_factory.mktemp("secret") / "qkd-secret"


@pytest.fixture(scope="package", autouse=True)
def _own_secret_and_no_drawing(secret: Path) -> Iterator[None]:
    """All federations share one QKD secret; reports have their own tests, and take longer than the
    runs. For this package alone: its tests may run between others'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFFD_QKD_SECRET_FILE", str(secret))
        patch.setattr(report, "render", lambda directory: directory / "report.html")
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Runs a federation over a relay of one's choice."""

    def run(relay: Callable[[LocalGrid], R], isolate: bool = False, **keys: object) -> Outcome[R]:
        given = {key.replace("_", "-"): value for key, value in keys.items()}
        config = resolve({**QUICK, **given})
        grid = relay(LocalGrid(client_app, config.clients, config.values(), isolate))
        directory = tmp_path_factory.mktemp("federation") / "run"
        return Outcome(federate(grid, config, directory, LineProgress()), grid, directory)

    return run


@pytest.fixture(scope="session")
def honest(federation: Federation) -> Honest:
    """Returns the run of a suite in which nobody cheats."""
    done: dict[str, Outcome[Relay]] = {}

    def run(suite: str) -> Outcome[Relay]:
        if suite not in done:
            done[suite] = federation(Relay, suite=suite)
        return done[suite]

    return run
