"""Which in-process engine a run gets."""

from contextlib import AbstractContextManager, nullcontext

from deffd_flower.client_app import app as client_app
from deffd_flower.config import RunConfig
from deffd_flower.engine.batched_grid import BatchedGrid
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid, usable_cores


def in_process(config: RunConfig) -> AbstractContextManager[LocalGrid]:
    """Return the engine of `deffd run`: worker processes, or this one where one has to do."""
    workers = worker_count(config)
    if workers == 1:
        return nullcontext(in_this_process(config))
    return ProcessGrid(client_app, config.clients, config.values(), workers)


def in_this_process(config: RunConfig) -> LocalGrid:
    """Return the engine that starts no other process."""
    if config.clients_at_once > 1:
        return BatchedGrid(client_app, config.clients, config.values(), config.clients_at_once)
    return LocalGrid(client_app, config.clients, config.values())


def worker_count(config: RunConfig) -> int:
    """Return the number of processes that clients run in.

    Without a word from the user one for each core, but a single one for a GPU, and for clients
    that train together.
    """
    alone = config.device != "cpu" or config.clients_at_once > 1
    return min(config.workers or (1 if alone else usable_cores()), config.clients)
