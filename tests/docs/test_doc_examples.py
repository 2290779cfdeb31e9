"""Every example of the documentation is run, and every command run or checked."""

import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
from flwr.common import constant
from flwr.common.config import parse_config_args

from deffd_flower.cli import app, guarded
from deffd_flower.commands.request import read_request
from deffd_flower.data.datasets import load_dataset
from deffd_flower.request import resolve
from tests.docs import deployment_commands
from tests.docs.deployment_commands import (
    at_free_ports,
    check_deployed_run,
    start_key_manager,
    stop_servers,
)
from tests.docs.pages import PAGES, ROOT, fences
from tests.docs.sweep_commands import check_ray, check_sweep

Settings = dict[str, str]
SETTING = re.compile(r"[A-Z_]+=")


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Load once what every fork needs."""
    ours = ("deffd_flower.commands.run", "deffd_flower.results.report")
    for module in (*ours, "matplotlib.figure", "torch._dynamo"):
        import_module(module)
    load_dataset("digits")


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_and_commands_of_a_page_work(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [(language, at_free_ports(body)) for language, body in fences(page)]
    for _, body in (block for block in blocks if block[0] in {"python", "yaml"}):
        name = re.match(r"# ([\w.-]+)\n", body)
        assert name, "the first line of an example is its file name"
        (tmp_path / name[1]).write_text(body)
    try:
        for line in "".join(body for language, body in blocks if language == "sh").splitlines():
            check_command(line, tmp_path)
    finally:
        stop_servers()


@pytest.mark.parametrize("page", PAGES)
def test_no_block_of_a_page_goes_unchecked(page: str) -> None:
    assert {language for language, _ in fences(page)} <= {"python", "sh", "yaml"}


def check_command(line: str, folder: Path) -> None:
    words = shlex.split(line)
    settings = dict(word.split("=", 1) for word in takewhile(SETTING.match, words))
    words = words[len(settings) :]
    CHECKS[words[0]](words, settings, folder)


def check_deffd(words: list[str], settings: Settings, folder: Path) -> None:
    """Run what is quick; check the request of what would train for long."""
    if words[1:3] == ["kme", "serve"]:
        start_key_manager(words, folder)
    elif words[1] == "sweep" and "--dry-run" not in words:
        check_sweep(words, folder)
    elif words[1] != "run" or any(word.startswith("rounds=") for word in words):
        # In a fork, the modules of one page are registered for that page alone.
        child = multiprocessing.get_context("fork").Process(
            target=deffd, args=(words[1:], settings)
        )
        child.start()
        child.join()
        assert child.exitcode == 0, words
    else:
        assert resolve(read_request(words[2:]))


def deffd(words: list[str], settings: Settings) -> None:
    if "PYTHONPATH" in settings:
        sys.path.insert(0, settings["PYTHONPATH"])
    os.environ.update(settings)
    sys.exit(guarded(lambda: app(words, standalone_mode=False)))


def check_python(words: list[str], settings: Settings, folder: Path) -> None:
    subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True)


def check_curl(words: list[str], settings: Settings, folder: Path) -> None:
    """Ask a server that an earlier command of the page has started, where there is curl."""
    if shutil.which("curl") is None:
        return
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert done.stdout


def check_make(words: list[str], settings: Settings, folder: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def check_flwr_run(words: list[str], settings: Settings, folder: Path) -> None:
    options = dict(pairwise(words))
    if "--federation-config" not in options:
        check_deployed_run(words)
        return
    federation = parse_config_args([options["--federation-config"]])
    needed = {"num-supernodes", "client-resources-num-cpus"}
    assert needed <= set(federation) <= needed | {"client-resources-num-gpus"}
    given = parse_config_args([options["-c"]])
    assert all(isinstance(value, int | float | str) for value in given.values())
    own = {"strategy", "plugins"} if given.get("plugins") else set()
    config = resolve({key: value for key, value in given.items() if key not in own})
    assert config.clients == federation["num-supernodes"]


def check_export(words: list[str], settings: Settings, folder: Path) -> None:
    variable, _, value = words[1].partition("=")
    assert (getattr(constant, variable), value) == (variable, "1")


def check_pip(words: list[str], settings: Settings, folder: Path) -> None:
    assert words in (
        ["pip", "install", "-e", f".[{extra}]"] for extra in ("sim", "deploy", "sweep", "kme")
    )


CHECKS: dict[str, Callable[[list[str], Settings, Path], None]] = {
    **deployment_commands.CHECKS,
    "curl": check_curl,
    "deffd": check_deffd,
    "export": check_export,
    "flwr": check_flwr_run,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "ray": check_ray,
}
