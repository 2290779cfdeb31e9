"""The log of a run, beside its results."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOGGERS = ("deffd", "flwr")


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write what this project and Flower log to a file, and the traceback of what ends the run."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    except Exception:
        loggers[0].exception("the run has failed")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
