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
def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR ...")],
) -> None:
    """Draw the figures and the report of finished or interrupted runs again."""
    from deffd_flower.results.report import render

    for directory in directories:
        typer.echo(render(directory))


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
