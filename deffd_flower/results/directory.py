"""Where a run's results go."""

from datetime import datetime
from pathlib import Path

from deffd_flower.config import RunConfig
from deffd_flower.errors import RequestError


def run_directory(config: RunConfig, parent: Path) -> Path:
    """Return the run directory: ``out-dir``, or a new one below ``parent``.

    Raises:
        RequestError: ``out-dir`` is not empty, so that results would mix.
    """
    if not config.out_dir:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        return parent / f"{config.strategy}-{config.dataset}-{stamp}"
    directory = Path(config.out_dir).expanduser()
    if directory.is_dir() and any(directory.iterdir()):
        raise RequestError("out-dir", config.out_dir, "is not empty; choose a new directory")
    return directory
