"""`deffd report`: figures and a page from what is on disk."""

from collections.abc import Sequence
from pathlib import Path

from deffd_flower.errors import RequestError
from deffd_flower.results.trials import is_sweep


def report_command(directories: Sequence[Path], out: Path | None) -> Path:
    """Draw one run again, or compare a sweep's trials or several runs; return the page.

    Args:
        directories: A run's, a sweep's, or several of either.
        out: Where a comparison goes; None: a sweep's own directory, or a new one below ``runs/``.

    Raises:
        RequestError: A directory is neither a run's nor a sweep's.
    """
    if len(directories) == 1 and not is_sweep(directories[0]):
        if out is not None:
            advice = "a run's report goes into its own directory; leave it out"
            raise RequestError("--out", out, advice)
        from deffd_flower.results.report import render

        return render(directories[0])
    from deffd_flower.results.comparison import compare_runs, comparison_directory

    if len(directories) == 1:
        return compare_runs(directories, out or directories[0])
    return compare_runs(directories, out or comparison_directory(Path.cwd() / "runs"))
