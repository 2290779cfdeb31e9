"""Checks of a sweep that need PyTorch and the data."""

from deffd_flower.config import RunConfig
from deffd_flower.errors import RequestError
from deffd_flower.rehearsal import check_clients
from deffd_flower.sweep.plan import Sweep, located


def check_peers(sweep: Sweep, elsewhere: bool) -> None:
    """Build a client with each model of each cell, as `deffd run` does before it begins.

    Args:
        sweep: The sweep.
        elsewhere: Trials may run on other machines, which may have GPUs that this one has not.

    Raises:
        RequestError: The model, its layers or the partition cannot be had as asked for.
        DeffdError: A data set cannot be had.
    """
    firsts = {trial.cell: trial for trial in reversed(sweep.trials)}
    for trial in reversed(firsts.values()):
        try:
            _check(trial.config, elsewhere)
        except RequestError as problem:
            raise located(problem, trial.places, trial.name) from None


def _check(config: RunConfig, elsewhere: bool) -> None:
    if config.device not in ("cpu", "cuda"):
        raise RequestError("device", config.device, "say cpu or cuda; Ray deals out the GPUs")
    check_clients(config.replace(device="cpu") if elsewhere else config)
