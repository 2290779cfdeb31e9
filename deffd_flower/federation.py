"""One federation from its first greeting to its report, on any engine."""

import logging
from collections.abc import Sequence
from pathlib import Path

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from deffd_flower.config import RunConfig
from deffd_flower.engine.windowed_grid import WindowedGrid
from deffd_flower.progress import Progress
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.randomness import derived_seed
from deffd_flower.results.logfile import log_file
from deffd_flower.results.recorder import Recorder
from deffd_flower.results.writer import RunWriter
from deffd_flower.strategy.central import CentralAverage
from deffd_flower.strategy.consignment import BaseDispatcher
from deffd_flower.strategy.dispatch import Dispatcher
from deffd_flower.strategy.gossip import Gossip
from deffd_flower.strategy.key_managers import KeyManagerDispatcher
from deffd_flower.strategy.observer import Observer
from deffd_flower.strategy.presets import strategies
from deffd_flower.strategy.roster import Roster, gather
from deffd_flower.strategy.topology import topology

log = logging.getLogger("deffd")

ENGINES = {
    "LocalGrid": "in-process",
    "BatchedGrid": "in-process",
    "ProcessGrid": "in-process",
    "InMemoryGrid": "ray",
    "HttpGrid": "superlink",
}


def federate(
    grid: Grid, config: RunConfig, directory: Path, progress: Progress, figures: bool = True
) -> dict[str, object]:
    """Run one federation and write its directory; return the summary.

    Args:
        grid: Flower's connection to the clients.
        config: A resolved config.
        directory: The run directory, absolute; made once all clients have agreed to take part.
        progress: Shows how far the run is.
        figures: Draw the figures and the report; `deffd report` can still do it later.

    Raises:
        DeffdError: The clients are too few or refuse, or all of them fail.
    """
    windowed = WindowedGrid(grid)
    roster = gather(windowed, config.clients, config.message_timeout)
    writer = RunWriter(directory, config.values(), figures)
    engine = ENGINES.get(type(grid).__name__, type(grid).__name__)
    with log_file(writer.directory / "run.log"):
        dispatcher = _dispatcher(config, roster, writer.directory / "keys.csv")
        _announce_validation(config, roster)
        recorder = Recorder(writer, config, roster, dispatcher, progress, engine)
        strategy, start = _strategy(config, roster, dispatcher, recorder)
        try:
            strategy.start(windowed, start, config.rounds, config.message_timeout)
            digests = _digests(windowed, roster, config.message_timeout)
        finally:
            dispatcher.close()
        return recorder.finish(digests)


def _announce_validation(config: RunConfig, roster: Roster) -> None:
    """Say so where clients hold other samples than they would without a validation split."""
    if config.evaluate_on == "validation" and config.samples_per_client == 0:
        images = roster.members[0].evaluation_samples
        text = "%d training images were set aside for validation; clients share the others"
        log.warning(text, images)


def _dispatcher(config: RunConfig, roster: Roster, ledger: Path) -> BaseDispatcher:
    if config.key_source == "etsi014":
        return KeyManagerDispatcher(config, topology(config), ledger)
    sizes = {member.partition: member.package_bytes for member in roster}
    return Dispatcher(config, topology(config), controller_of(config, ledger), sizes)


def _strategy(
    config: RunConfig, roster: Roster, dispatcher: BaseDispatcher, observer: Observer
) -> tuple[Strategy, ArrayRecord]:
    """Return the strategy and what it starts from: nothing, or a central model's weights."""
    if strategies.get(config.strategy)().plan:
        return Gossip(config, roster, dispatcher, observer), ArrayRecord()
    return CentralAverage(config, roster, dispatcher, observer), _initial_arrays(config)


def _initial_arrays(config: RunConfig) -> ArrayRecord:
    from deffd_flower.data.datasets import datasets
    from deffd_flower.models import build_model

    spec = datasets.get(config.dataset)
    seed = derived_seed(config.seed_of("init"), "initial-weights")
    (name,) = config.cast.names
    state = build_model(name, spec.shape, spec.classes, seed).state_dict()
    return ArrayRecord({name: value.contiguous() for name, value in state.items()})


def _digests(grid: Grid, roster: Roster, timeout: float) -> Sequence[str]:
    """Ask every client for the digest of its final weights, which also ends its run.

    A client that does not tell has an empty digest: the run's results stand without it.
    """
    farewells = [Message(RecordDict(), member.node_id, "query.finish") for member in roster]
    digests = dict.fromkeys(range(len(roster)), "")
    for reply in grid.send_and_receive(farewells, timeout=timeout):
        if reply.has_content():
            digests[roster.sender(reply)] = str(reply.content.config_records["digest"]["sha256"])
    return list(digests.values())
