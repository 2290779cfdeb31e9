"""The `deffd` command."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import click
import typer

from deffd_flower import __version__
from deffd_flower.errors import DeffdError, RequestError

app = typer.Typer(
    help="Decentralised federated learning by feature-map distillation, over QKD-keyed transport.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deffd-flower {__version__}")
        raise typer.Exit


@app.callback()
def deffd(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version, and exit."
        ),
    ] = False,
) -> None:
    """Take the options that belong to no sub-command."""


@app.command()
def run(
    request: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE.yaml] [KEY=VALUE ...]", help="Keys override the file's."),
    ] = None,
) -> None:
    """Run one federation in this process, and write its report."""
    from deffd_flower.commands.run import run_command

    run_command(request or [])


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="What varies; docs/sweeps.md.")],
    request: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE ...]", help="Keys override the file's base."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Run what has not finished.")] = False,
    out: Annotated[Path | None, typer.Option(help="Directory; otherwise sweeps/FILE.")] = None,
    address: Annotated[
        str, typer.Option(envvar="RAY_ADDRESS", help="Of a running Ray cluster; otherwise none.")
    ] = "",
    workers: Annotated[int, typer.Option(min=0, help="Trials at a time; 0: one per CPU.")] = 0,
    gpus: Annotated[float, typer.Option(min=0.001, help="GPUs of a trial on CUDA.")] = 1.0,
    retries: Annotated[int, typer.Option(min=0, help="After the death of its process.")] = 3,
    figures: Annotated[bool, typer.Option("--figures", help="Report of each run, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check and list it.")] = False,
) -> None:
    """Run a grid of federations on Ray, and compare them."""
    from deffd_flower.commands.sweep import SweepOptions, sweep_command

    options = SweepOptions(out, resume, address, workers, gpus, retries, figures, dry_run)
    sweep_command(file, request or [], options)


@app.command()
def plan(
    request: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE.yaml] [KEY=VALUE ...]", help="As for deffd run."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether the QKD links can feed this federation; runs nothing."""
    from deffd_flower.commands.plan import plan_command

    plan_command(request or [], as_json)


@app.command()
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR ...")],
    out: Annotated[Path | None, typer.Option(help="Where a comparison goes.")] = None,
) -> None:
    """Draw the report of a run or a sweep again, or compare several."""
    from deffd_flower.commands.report import report_command

    typer.echo(report_command(directories, out))


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="One benchmark; all without.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    runs: Annotated[int, typer.Option(min=1, help="Turns of each comparison.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="Also what takes long.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, only to try it.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Write benchmarks/results/.")] = False,
) -> None:
    """Measure this checkout: every number is a ratio to a reference of the same run."""
    from deffd_flower.commands.bench import bench_command

    bench_command(name, runs, as_json=as_json, full=full, quick=quick, save=save)


kme_app = typer.Typer(help="A key manager (KME) by ETSI GS QKD 014.", no_args_is_help=True)
app.add_typer(kme_app, name="kme")


@kme_app.command()
def serve(file: Annotated[Path, typer.Argument(metavar="FILE.yaml")]) -> None:
    """Run a key manager until it is told to stop (SIGTERM, SIGINT)."""
    from deffd_flower.commands.kme import serve_command

    serve_command(file)


@kme_app.command()
def certs(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    role: Annotated[str, typer.Option(help="What for: sae, kme, or any of both.")] = "any",
    days: Annotated[int, typer.Option(min=1, help="How long they are valid.")] = 365,
    renew: Annotated[bool, typer.Option("--renew", help="Also those that are valid.")] = False,
) -> None:
    """Make certificates of a private authority, to try key managers out."""
    from deffd_flower.commands.kme import certs_command

    certs_command(folder, names, role, days, renew)


def main() -> None:
    """Run the command line: exit code 0 done, 1 failed, 2 wrong request, 130 interrupted."""
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def guarded(command: Callable[[], object]) -> int:
    """Run a command and turn what goes wrong into one line on stderr and an exit code."""
    try:
        ended = command()
    except RequestError as problem:
        typer.echo(f"deffd: {problem}", err=True)
        return 2
    except DeffdError as problem:
        typer.echo(f"deffd: {problem}", err=True)
        return 1
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    # Without its standalone mode, typer returns the exit code of an interrupted command.
    return ended if isinstance(ended, int) else 0


if __name__ == "__main__":
    main()
