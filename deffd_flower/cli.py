"""The `deffd` command."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import click
import typer

from deffd_flower.errors import DeffdError, RequestError

app = typer.Typer(
    help="Decentralised federated learning by feature-map distillation, over QKD-keyed transport.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def deffd() -> None:
    """Keep `run` a sub-command even while it is the only one."""


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
) -> None:
    """Draw the figures and the report of finished or interrupted runs again."""
    from deffd_flower.results.report import render

    for directory in directories:
        typer.echo(render(directory))


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
