"""Ray: a private one for the time of a sweep, or a cluster that is running."""

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from deffd_flower.engine.process_grid import usable_cores
from deffd_flower.errors import DeffdError, RequestError

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # What Ray will do by default, and warns of until then.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Tune's own tables, logs and copies of results: we keep ours.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Only reports of evaluated rounds have the metric by which trials are stopped.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # An interrupt is ours to handle.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}

SCRATCH = "deffd-ray-"
"""What the names of folders that go with a sweep begin with."""

_KNOCK_S = 10.0
_OBJECT_STORE_BYTES = 200_000_000
_LONGEST_FOLDER = 30
"""Ray's sockets lie 70 characters below its folder, and have names of at most 107."""


def check_address(address: str) -> None:
    """See whether anybody answers at a cluster's address: Ray itself would try for minutes.

    Raises:
        RequestError: It is none, or nobody does.
    """
    if address in ("", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not port.isdecimal():
        advice = "give host:port of the cluster's head, or auto, on a machine of the cluster"
        raise RequestError("--address", address, advice)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as problem:
        advice = f"no Ray cluster answers ({problem.strerror or problem})"
        raise RequestError("--address", address, advice) from problem


def import_ray() -> None:
    """Import Ray Tune, with the settings that it reads then.

    Raises:
        DeffdError: It is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import_module("ray.tune")
    except ImportError as problem:
        advice = "a sweep needs Ray Tune: pip install 'deffd-flower[sweep]'"
        raise DeffdError(f"{advice} ({problem})") from problem


def take_terminate_for_interrupt() -> None:
    """On SIGTERM, end as after Ctrl-C, so that a private Ray ends with this process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def ray_cluster(address: str, workers: int, remember: Callable[[Path], None]) -> Iterator[Path]:
    """Connect to Ray, and yield a folder that goes when the sweep ends.

    Args:
        address: Of a running cluster, or ``auto``; empty: start one for this sweep alone.
        workers: CPUs of a private Ray; 0: all of this machine.
        remember: Takes the folder, so that it also goes if this process is killed.

    Raises:
        DeffdError: The cluster cannot be joined.
    """
    import ray

    with TemporaryDirectory(prefix=SCRATCH, dir=_short(), ignore_cleanup_errors=True) as name:
        remember(Path(name))
        try:
            try:
                if address:
                    _join(address)
                else:
                    _start(name, workers or usable_cores())
            except SystemExit as problem:
                # While Ray starts, SIGTERM is its own to handle; afterwards it is ours again.
                raise KeyboardInterrupt from problem
            take_terminate_for_interrupt()
            yield Path(name)
        finally:
            ray.shutdown()


@contextmanager
def ray_log(path: Path) -> Iterator[None]:
    """Send what Ray prints and logs in this process to a file, so that it spoils no table."""
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file):
        ours = logging.StreamHandler(file)
        before = {logger: logger.handlers for logger in _ray_loggers()}
        for logger in before:
            logger.handlers = [ours]
        try:
            yield
        finally:
            for logger, handlers in before.items():
                logger.handlers = handlers


def _ray_loggers() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "ray"]
    return [logger for logger in map(logging.getLogger, names) if logger.handlers]


def _start(folder: str, cores: int) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=cores,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
    )


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as problem:
        reason = str(problem).strip().partition("\n")[0]
        raise DeffdError(f"the Ray cluster at {address} cannot be joined ({reason})") from problem


def _short() -> str | None:
    """Return where Ray's folder goes: the usual place for temporary files, if its path is short."""
    return None if len(tempfile.gettempdir()) <= _LONGEST_FOLDER else "/tmp"
