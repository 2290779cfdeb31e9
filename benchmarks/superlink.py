"""`flwr run` on a SuperLink of its own: private home, ports and processes, gone afterwards."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from deffd_flower.errors import DeffdError

BIN = Path(sys.executable).parent
START_S, RUN_S = 60, 600


class SuperLink:
    """A SuperLink with Flower's simulation engine, for as long as the ``with`` block lasts.

    Args:
        variables: Environment variables it starts with, beside those of this process.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="deffd-bench-flwr-")
        self.home = Path(self._folder.name)
        self._environment = {
            **os.environ,
            "FLWR_HOME": str(self.home),
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **(variables or {}),
        }

    def __enter__(self) -> "SuperLink":
        port = _free_port()
        address = f'address = "127.0.0.1:{port}"\ninsecure = true\n'
        text = f'[superlink]\ndefault = "bench"\n[superlink.bench]\n{address}'
        (self.home / "config.toml").write_text(text)
        words = ["--insecure", "--simulation", "--isolation", "subprocess", "--host", "127.0.0.1"]
        words += ["--port", str(port)]
        with (self.home / "superlink.log").open("w") as log:
            self._process = subprocess.Popen(
                [str(BIN / "flower-superlink"), *words],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_for(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._folder.cleanup()

    def run(self, app: Path, nodes: int, run_config: str) -> str:
        """Run an app on ``nodes`` simulated nodes, one core each; return what was streamed.

        Raises:
            DeffdError: `flwr run` failed.
        """
        federation = f"num-supernodes={nodes} client-resources-num-cpus=1"
        words = [str(BIN / "flwr"), "run", str(app), "bench", "--stream"]
        words += ["--federation-config", federation, "-c", run_config]
        done = subprocess.run(
            words,
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        if done.returncode:
            said = " ".join(re.findall(r"[^\s─│╭╮╯╰]+", done.stdout + done.stderr)[-60:])
            raise DeffdError(f"flwr run ended with {done.returncode}; it said: {said}")
        return done.stdout

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.2)
        said = (self.home / "superlink.log").read_text().strip().splitlines() or ["nothing"]
        raise DeffdError(f"the SuperLink did not start; it said: {said[-1]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
