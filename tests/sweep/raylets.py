"""A Ray cluster of several raylets on this machine, each started and ended by its process id."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.conftest import free_port

BIN = Path(sys.executable).parent
START_S, STOP_S = 300, 60


class Node:
    """One ``ray start --block``, with a single CPU.

    Args:
        log: Where its output goes.
        words: What makes it the head, or lets it join one.
        hidden: Folders that it finds empty, as if it were another machine.
    """

    def __init__(self, log: Path, *words: str, hidden: Sequence[Path] = ()) -> None:
        common = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
        start = [str(BIN / "ray"), "start", "--block", *common, *words]
        if hidden:
            mounts = [f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder in hidden]
            here = ["cd /", *mounts, f"exec {shlex.join(start)}"]
            start = ["unshare", "--mount", "sh", "-c", " && ".join(here)]
        own = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        with log.open("w") as output:
            self.process = subprocess.Popen(
                start, env=own, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        wait(lambda: "Ray runtime started" in log.read_text() or self._died(log), START_S)
        started = children(self.process.pid)
        self.raylet = next(pid for pid in started if "raylet/raylet" in title(pid))

    def _died(self, log: Path) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(log.read_text())
        return False

    def hosts(self, actor: str) -> bool:
        """Say whether one of its workers is at something, by the name that Ray gives it."""
        return any(actor in title(pid) for pid in children(self.raylet))

    def kill(self) -> None:
        """Kill the raylet, as a power cut would."""
        os.kill(self.raylet, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it, with all that it has started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@dataclass(frozen=True)
class Cluster:
    """Two nodes.

    Attributes:
        address: Of the head.
        nodes: The head, and the other one.
        scratch: A folder for temporary files that the second node does not see.
    """

    address: str
    nodes: list[Node]
    scratch: Path


@contextmanager
def cluster(hidden: Path) -> Iterator[Cluster]:
    """Start a head and another node, which finds a folder empty where the system permits that."""
    port, client = free_port(), free_port()
    # Ray's sockets lie deep, and their paths must be short.
    with TemporaryDirectory(prefix="rt-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder, address = Path(name), f"127.0.0.1:{port}"
        scratch = folder / "s"
        scratch.mkdir()
        head = ["--head", f"--port={port}", f"--ray-client-server-port={client}"]
        head += ["--include-dashboard=false", f"--temp-dir={folder / 't'}"]
        apart = [hidden, scratch] if can_hide() else []
        nodes: list[Node] = []
        try:
            nodes.append(Node(folder / "head.log", *head))
            nodes.append(Node(folder / "node.log", f"--address={address}", hidden=apart))
            yield Cluster(address, nodes, scratch)
        finally:
            for node in reversed(nodes):
                node.stop()


def can_hide() -> bool:
    """Say whether this system lets a process have mounts of its own."""
    try:
        done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def children(parent: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [pid for pid in _pids() if _stat(pid, 1) == str(parent)]


def title(pid: int) -> str:
    """Return what a process calls itself; nothing if it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _stat(pid: int, field: int) -> str:
    """Return a field of ``/proc/PID/stat`` after the name: the state is 0, the parent 1."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[field]
    except OSError:
        return ""


def wait(until: Callable[[], bool], seconds: float) -> None:
    """Wait until a function says so."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
