"""Checks of commands about sweeps, without the hours that they may take."""

import re
import subprocess
import sys
from pathlib import Path

import typer

from deffd_flower.cli import app
from deffd_flower.commands.request import read_request
from deffd_flower.sweep.load import load_sweep
from tests.docs.pages import ROOT


def check_sweep(words: list[str], folder: Path) -> None:
    """Check the options, and every trial of the file."""
    group = typer.main.get_command(app)
    with typer.Context(group) as context:
        command = group.get_command(context, "sweep")  # type: ignore[attr-defined]
        given = command.make_context("sweep", words[2:]).params
    # A page's own file, or one of the checkout.
    file = next(path for root in (folder, ROOT) if (path := root / given["file"]).exists())
    sweep = load_sweep(file, read_request(given["request"] or []))
    assert sweep.trials


def check_ray(words: list[str], settings: dict[str, str], folder: Path) -> None:
    """Check that there are such options."""
    ray = Path(sys.executable).with_name("ray")
    done = subprocess.run([ray, words[1], "--help"], capture_output=True, text=True, check=True)
    options = [word.partition("=")[0] for word in words[2:]]
    assert set(options) <= set(re.findall(r"--[a-z-]+", done.stdout))
