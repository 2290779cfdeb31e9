"""`deffd kme serve` as a process: how it starts, how it stops, what it says."""

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deffd_flower.kme.certificates import Role
from tests.e2e.conftest import BIN
from tests.kme.running import PATIENCE_S, Pki, Site, described, sites, until, wait_for_key

PAIR = {"kme-a": ["alice"], "kme-b": ["bob"]}
LINK = [("kme-a", "kme-b")]


class Process:
    """A KME in a process of its own."""

    def __init__(self, folder: Path, file: Mapping[str, Any]) -> None:
        self.path = folder / f"{file['kme-id']}.yaml"
        self.path.write_text(yaml.safe_dump(dict(file)))
        self.log = self.path.with_suffix(".log")
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [str(BIN / "deffd"), "kme", "serve", str(self.path)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_until_ready(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert " is ready: " in line, self.log.read_text()
        return line

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        if self.process.stdout:
            self.process.stdout.close()
        return code


@contextmanager
def processes(
    folder: Path, files: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[dict[str, Process], dict[str, Site]]]:
    placed = sites(folder, files)
    started = {kme: Process(folder, file) for kme, file in files.items()}
    try:
        for process in started.values():
            process.wait_until_ready()
        yield started, placed
    finally:
        for process in started.values():
            if process.process.poll() is None:
                process.end()


@pytest.mark.slow
def test_two_kmes_serve_stop_and_serve_again(folder: Path) -> None:
    files = described(folder, LINK, PAIR)
    with processes(folder, files) as (started, placed):
        wait_for_key(placed)
        a, b = placed.values()
        keys = a.enc("alice", "bob", number=3).keys
        assert started["kme-a"].end(signal.SIGTERM) == 0
        assert started["kme-b"].end(signal.SIGINT) == 0
        for process in started.values():
            assert not list(folder.glob("*.sqlite-*"))
            process.start()
        for process in started.values():
            process.wait_until_ready()
        until(lambda: b.dec("bob", "alice", list(keys)).keys == keys)
        until(lambda: a.enc("alice", "bob").status == 200)
        second = Process(folder, {**files["kme-a"], "port": 0, "peer-port": 0})
        assert second.process.wait(PATIENCE_S) == 1
        assert second.process.stdout
        assert second.process.stdout.read() == ""
        assert second.log.read_text().splitlines()[-1] == (
            f"deffd: key store {folder}/kme-a.sqlite: database is locked; another process uses it"
        )
        second.process.stdout.close()
    logs = "".join(process.log.read_text() for process in started.values())
    assert "alice POST enc_keys 200" in logs
    assert "kme-a stops" in logs
    assert "Traceback" not in logs


@pytest.mark.slow
def test_a_port_in_use_is_one_line(folder: Path) -> None:
    files = described(folder, [], {"kme-x": ["alice"], "kme-y": ["bob"]})
    second_file = files.pop("kme-y")
    Pki(folder / "pki").issue("kme-y", Role.KME)
    with processes(folder, files):
        second = Process(folder, {**second_file, "port": files["kme-x"]["port"]})
        assert second.process.wait(PATIENCE_S) == 1
        port = files["kme-x"]["port"]
        assert second.log.read_text() == (
            f"deffd: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        )


def test_without_the_extra_one_line_says_so(folder: Path) -> None:
    program = (
        "import sys; sys.modules['aiohttp'] = None;"
        "from deffd_flower.cli import main; sys.argv = ['deffd', 'kme', 'serve', 'x.yaml']; main()"
    )
    python = str(BIN / "python")
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "deffd: kme serve: needs further packages: pip install 'deffd-flower[kme]'\n"
    )
