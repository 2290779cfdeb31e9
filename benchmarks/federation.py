"""One federation in this process tree, with the moments at which its rounds began.

``python -m benchmarks.federation key=value ...`` runs what ``deffd run key=value ...`` runs and
prints the moments as JSON.
"""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from deffd_flower.client_app import app as client_app
from deffd_flower.commands.request import read_request
from deffd_flower.config import RunConfig
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid, usable_cores
from deffd_flower.federation import federate
from deffd_flower.request import resolve


@dataclass(frozen=True)
class Moment:
    """A point in time.

    Attributes:
        wall: Seconds of a clock on the wall.
        cpu: Seconds this process has computed, all its threads together.
    """

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        """Return the present."""
        return cls(time.perf_counter(), time.process_time())


class Marks:
    """A `Progress` that shows nothing and notes when each round began.

    A round begins when its first message is about to be sent. What lies between the first
    moments of two rounds is everything the rounds take: planning, key, messages, sealing, fusing,
    training, evaluating where it is due, bookkeeping. What comes before the first round and after
    the last, such as reading the data and drawing the report, is not in it.

    Args:
        at_end: Called once the last round has been evaluated.
    """

    def __init__(self, at_end: Callable[[], None] = lambda: None) -> None:
        self.rounds: dict[int, Moment] = {}
        self._at_end = at_end
        self._last = 0

    def begin(self, config: RunConfig) -> None:
        """Note which round is the last."""
        self._last = config.rounds

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """Note the moment."""
        if name == "train":
            self.rounds[server_round] = Moment.now()

    def advance(self) -> None:
        """Nothing to note."""

    def evaluated(self, row: Mapping[str, float]) -> None:
        """Say that it was the last."""
        if row["round"] == self._last:
            self._at_end()


def run_marked(config: RunConfig, grid: LocalGrid, marks: Marks) -> dict[str, object]:
    """Run a federation on a grid, in a folder that is gone afterwards; return its summary."""
    for handler in logging.getLogger("flwr").handlers:
        handler.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="deffd-bench-") as folder:
        return federate(grid, config, Path(folder) / "run", marks)


def steady(told: Mapping[str, object], skipped: int = 1) -> tuple[int, float]:
    """Return how many rounds count, and their seconds.

    The first rounds warm the workers up, the very first has no mail to fuse, and the last is
    followed by what ends a run: none of these counts.

    Args:
        told: What ``python -m benchmarks.federation`` printed.
        skipped: Rounds that do not count at the start.

    Raises:
        ValueError: There were too few rounds.
    """
    begun = told["begun"]
    if not isinstance(begun, list) or len(begun) < skipped + 2:
        raise ValueError(f"one steady round takes {skipped + 2} rounds")
    return len(begun) - skipped - 1, begun[-1] - begun[skipped]


def main(words: list[str]) -> None:
    """Run one federation as `deffd run` does, and print its moments."""
    # Read before forking, so that the workers share it.
    from deffd_flower.data.client import client_data
    from deffd_flower.peer import Peer

    config = resolve(read_request(words))
    Peer(0, client_data(config, 0), config).check()
    workers = min(config.workers or usable_cores(), config.clients)
    arguments = client_app, config.clients, config.values()
    marks = Marks()
    with (
        ProcessGrid(*arguments, workers)
        if workers > 1
        else nullcontext(LocalGrid(*arguments)) as grid
    ):
        summary = run_marked(config, grid, marks)
    begun = [marks.rounds[number].wall for number in sorted(marks.rounds)]
    told = {key: summary[key] for key in ("failures", "global_accuracy", "models_sent")}
    print(json.dumps({"begun": begun, "workers": workers, **told}))


if __name__ == "__main__":
    main(sys.argv[1:])
