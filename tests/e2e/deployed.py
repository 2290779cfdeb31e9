"""A federation on SuperLink and SuperNodes, started as the compose file says."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.compose_processes import DOCKER, ComposeProcesses, composed, in_order
from tests.e2e.conftest import BIN, ROOT, Finished

#: For machines that have much else to do; on a quiet one, a tenth will do.
PATIENCE_S = 400.0
#: Small enough that messages, not training, take the time.
QUICK: dict[str, object] = {
    "dataset": "digits",
    "clients": 3,
    "rounds": 2,
    "local-epochs": 1,
    "samples-per-client": 120,
    "test-samples": 100,
}


@dataclass
class Deployment:
    """Running services, and how to run a federation on them."""

    processes: ComposeProcesses
    home: Path
    superlink: str

    def flwr(self, *words: str) -> Finished:
        done = subprocess.run(
            [str(BIN / "flwr"), *words],
            cwd=self.home,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def running(self, name: str, **keys: object) -> Iterator["Federation"]:
        """Begin a federation; wait for its end when the ``with`` block is over."""
        given = {**QUICK, **{key.replace("_", "-"): value for key, value in keys.items()}}
        directory = self.processes.folder / "runs" / name
        config = {**given, "out-dir": str(directory)}
        text = " ".join(f"{key}={value!r}" for key, value in config.items())
        command = [str(BIN / "flwr"), "run", str(ROOT), self.superlink, "--stream", "-c", text]
        log = self.home / f"{name}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self._environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            federation = Federation(directory, log, process)
            try:
                yield federation
                process.wait(timeout=PATIENCE_S)
            finally:
                process.kill()
                process.wait()

    def _environment(self) -> dict[str, str]:
        flower = {"FLWR_HOME": str(self.home), "FLWR_DISABLE_UPDATE_CHECK": "1"}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **flower, "FLWR_TELEMETRY_ENABLED": "0", "PATH": path}


@dataclass
class Federation:
    """A federation on its way."""

    directory: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def summary(self) -> dict[str, Any]:
        path = self.directory / "summary.json"
        assert path.exists(), self.log.read_text()
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def wait_for_round(self, number: int, patience_s: float = PATIENCE_S) -> None:
        """Wait until a round begins."""
        log, deadline = self.directory / "run.log", time.monotonic() + patience_s
        while not log.exists() or f"[ROUND {number}/" not in log.read_text():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"no round {number} in\n{self.log.read_text()}")
            time.sleep(0.05)


@contextmanager
def deployment(
    folder: Path,
    *files: str,
    environment: Mapping[str, str] | None = None,
    before: Callable[[ComposeProcesses], None] = lambda _: None,
) -> Iterator[Deployment]:
    """Prepare and start what compose files say; register SuperNodes where they have keys.

    Args:
        folder: Where everything goes.
        files: Compose files in ``docker``.
        environment: For all services.
        before: Called before anything is started.
    """
    copy = folder / "docker"
    shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns("secrets", "state", "runs"))
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([str(copy / "prepare.sh")], check=True, env={**os.environ, "PATH": path})
    document = composed(*files)
    tls = any("--ssl-certfile" in word for word in document["services"]["superlink"]["command"])
    with ComposeProcesses(copy, document, environment or {}) as processes:
        before(processes)
        home = folder / "flwr-home"
        home.mkdir()
        port = processes.port("superlink", 8000)
        trust = f'root-certificates = "{copy}/secrets/flower/ca.crt"' if tls else "insecure = true"
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "here"\n[superlink.here]\n'
            f'address = "127.0.0.1:{port}"\n{trust}\n'
        )
        deployed = Deployment(processes, home, "here")
        first, *others = in_order(processes.services)
        processes.start(*first)
        if tls:
            for node in range(3):
                key = copy / "secrets" / "flower" / f"supernode-{node}.pub"
                done = deployed.flwr("supernode", "register", str(key), "here")
                assert done.code == 0, done.out + done.err
        for group in others:
            processes.start(*group)
        yield deployed
