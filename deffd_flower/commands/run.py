"""`deffd run`: one federation in this process."""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from deffd_flower.ahead import trains_together
from deffd_flower.commands.request import read_request, typed_keys
from deffd_flower.config import RunConfig
from deffd_flower.data.client import device_of
from deffd_flower.data.datasets import resolve_auto
from deffd_flower.engine.selection import in_process, worker_count
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.federation import federate
from deffd_flower.progress import LiveProgress
from deffd_flower.rehearsal import check_clients
from deffd_flower.request import resolve
from deffd_flower.results.directory import run_directory
from deffd_flower.results.table import final_table
from deffd_flower.sae.settings import check_saes


def run_command(words: Sequence[str]) -> None:
    """Check the request to the last detail, run it, show table and report.

    Raises:
        RequestError: The request is wrong; nothing has been written.
        DeffdError: The run failed.
    """
    console = Console()
    config = resolve(_with_dataset(read_request(words), console), typed_keys(words))
    directory = run_directory(config, Path.cwd() / "runs")
    if config.key_source == "etsi014":
        check_saes(config.clients)
    _check_learning(config)
    summary = _run(config, directory, console)
    console.print(final_table(summary))
    console.print(f"report: {directory / 'report.html'}", soft_wrap=True)


def _check_learning(config: RunConfig) -> None:
    """Have some clients look up all that clients will need, before there are any workers."""
    device_of(config.device)
    if worker_count(config) > 1:
        # CUDA does not survive a fork, so what is forked must not have touched it.
        config = config.replace(device="cpu")
    check_clients(config)
    if config.clients_at_once > 1 and not trains_together(config):
        advice = f"{config.model} can only be trained on its own; leave it out"
        raise RequestError("batched-clients", config.batched_clients, advice)


def _with_dataset(request: dict[str, object], console: Console) -> dict[str, object]:
    """Settle ``dataset=auto``, saying loudly which data set it became."""
    if request.get("dataset") != "auto":
        return request
    name = resolve_auto(str(request.get("data-dir", "")))
    if name == "digits":
        console.print(
            "Fashion-MNIST cannot be had on this machine: using scikit-learn's 8x8 DIGITS instead."
            " Its accuracies say nothing about the paper.",
            style="bold yellow",
        )
    return {**request, "dataset": name}


def _run(config: RunConfig, directory: Path, console: Console) -> dict[str, object]:
    for handler in logging.getLogger("flwr").handlers:
        handler.setLevel(logging.ERROR)
    try:
        # Workers before the progress bar, whose thread a fork would not take along.
        with in_process(config) as grid, LiveProgress(console) as progress:
            return federate(grid, config, directory, progress)
    except KeyboardInterrupt:
        if directory.exists():
            console.print(f"interrupted; what was finished is in {directory}", soft_wrap=True)
        raise
    except RequestError:
        raise
    except DeffdError as problem:
        raise DeffdError(f"{problem}{_where_logged(directory)}") from problem
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise DeffdError(f"{reason}{_where_logged(directory)}") from problem


def _where_logged(directory: Path) -> str:
    log = directory / "run.log"
    return f". The log is {log}" if log.exists() else ""
