"""Real processes, each test session with a Flower home, ports and folders of its own."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_S = 60


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture
def deffd(tmp_path: Path) -> Command:
    """Runs `deffd` as a user would, in an empty folder."""

    def run(*words: str) -> Finished:
        return command([str(BIN / "deffd"), *words], tmp_path, dict(os.environ))

    return run


@pytest.fixture(scope="session")
def flwr_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs `flwr run` on a private SuperLink with Ray."""
    home = tmp_path_factory.mktemp("flwr-home")
    port, control = free_port(), free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n[superlink.test]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": str(Path(__file__).parent),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    arguments = ["--insecure", "--simulation", "--isolation", "subprocess"]
    arguments += ["--control-api-address", f"127.0.0.1:{control}"]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    with (home / "superlink.log").open("w") as log:
        superlink = subprocess.Popen(
            [str(BIN / "flower-superlink"), *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(port)

        def run(nodes: int, *words: str) -> Finished:
            federation = f"num-supernodes={nodes} client-resources-num-cpus=1"
            flwr = [str(BIN / "flwr"), "run", str(ROOT), "test", "--stream"]
            flwr += ["--federation-config", federation]
            return command([*flwr, "-c", " ".join(words)], home, environment)

        yield run
    finally:
        os.killpg(superlink.pid, signal.SIGTERM)
        superlink.wait(timeout=30)


def command(words: list[str], folder: Path, environment: dict[str, str]) -> Finished:
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def heed_interrupts() -> None:
    """Undo what a shell does to its background jobs: to have them ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    """Return a port that nobody listens at, and that nobody is given but by asking for it.

    Below the ports that the kernel gives to outgoing connections, which would take one that it
    has just named as free, and above those that Ray keeps for its workers (10002 to 19999); in an
    order of this process's own, as tests run in several.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError


def _ports() -> Iterator[int]:
    first, count = 20_000, 12_000
    return (first + (os.getpid() * 97 + step) % count for step in itertools.count())


_PORTS = _ports()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nothing listens on port {port}")
