"""The services of a compose file as processes of this machine, with the very same commands.

What containers would bring is translated: a mounted file or folder becomes its path here, another
service's name and port become 127.0.0.1 and a free port.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.conftest import BIN, ROOT, free_port

DOCKER = ROOT / "docker"
START_S = 180.0
Service = Mapping[str, Any]
#: The commands that Flower's images run; those of our own say so in their Dockerfiles.
FLOWERS = {"flwr/superlink": ["flower-superlink"], "flwr/supernode": ["flower-supernode"]}


def composed(*names: str) -> dict[str, Any]:
    """Return compose files as one: later ones replace commands, and add secrets."""
    documents = [yaml.safe_load((DOCKER / name).read_text()) for name in names]
    merged: dict[str, Any] = documents[0]
    for document in documents[1:]:
        for name, changes in document["services"].items():
            service = merged["services"][name]
            secrets = [*service.get("secrets", []), *changes.pop("secrets", [])]
            service.update(changes)
            service["secrets"] = secrets
        merged["secrets"] |= document["secrets"]
    return merged


class ComposeProcesses:
    """Starts, watches and stops the services.

    Args:
        folder: A copy of ``docker``, in which ``prepare.sh`` has been run.
        document: What `composed` returned.
        environment: Added to each process's environment.
    """

    def __init__(
        self, folder: Path, document: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.services: dict[str, Service] = document["services"]
        self.pids: dict[str, int] = {}
        self._document = document
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._files = ExitStack()
        self._ports: dict[tuple[str, int], int] = {}
        self.stand_in: dict[tuple[str, int], int] = {}

    def __exit__(self, *problem: object) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for name in list(self._processes):
            self.stop(name, signal.SIGTERM)
        self._files.close()

    def __enter__(self) -> "ComposeProcesses":
        return self

    def port(self, service: str, port: int) -> int:
        """Return where a service listens on this machine."""
        return self._ports.setdefault((_namespace(self.services, service), port), free_port())

    def start(self, *names: str) -> None:
        """Start services, and wait until their health checks pass."""
        for name in names:
            log = self._files.enter_context(self.log(name).open("ab"))
            process = self._processes[name] = subprocess.Popen(
                self.command(name),
                env=self._environment_of(name),
                cwd=self._home(name),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.pids[name] = process.pid
        for name in names:
            self._wait_until_healthy(name)

    def stop(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a service and all that it has started."""
        process = self._processes.pop(name)
        for target in (how, signal.SIGKILL):
            try:
                os.killpg(process.pid, target)
                process.wait(timeout=15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def command(self, name: str) -> list[str]:
        """Return a service's command, translated."""
        words = [*self._entrypoint(name), *self.services[name]["command"]]
        options = [words[place - 1] for place in range(len(words))]
        translated = []
        for option, word in zip(options, words, strict=True):
            if option == "--host":
                translated.append("127.0.0.1")
            elif option == "--port":
                translated.append(str(self.port(name, int(word))))
            else:
                translated.append(self._translated(name, word))
        return [str(BIN / translated[0]), *translated[1:]]

    def _entrypoint(self, name: str) -> list[str]:
        service = self.services[name]
        if "build" not in service:
            return FLOWERS[service["image"].partition(":")[0]]
        dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
        (entry,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
        words: list[str] = json.loads(entry)
        return words

    def _translated(self, name: str, text: str) -> str:
        """Return a text with paths and addresses as they are on this machine."""
        for inside, outside in self._mounts(name).items():
            text = re.sub(rf"{re.escape(inside)}(?![\w.-])", str(outside), text)

        def address(found: re.Match[str]) -> str:
            host, port = found[1], int(found[2])
            target = name if host == "127.0.0.1" else host
            if name != target and (target, port) in self.stand_in:
                return f"127.0.0.1:{self.stand_in[target, port]}"
            return f"127.0.0.1:{self.port(target, port)}"

        hosts = "|".join(map(re.escape, [*self.services, "127.0.0.1"]))
        return re.sub(rf"(?<![\w.-])({hosts}):(\d+)", address, text)

    def _mounts(self, name: str) -> dict[str, Path]:
        service = self.services[name]
        found: dict[str, Path] = {}
        for each in service.get("secrets", []):
            short = isinstance(each, str)
            source, target = (each, each) if short else (each["source"], each["target"])
            file = self._document["secrets"][source]["file"]
            found[f"/run/secrets/{target}"] = self.folder / file
        for each in service.get("volumes", []):
            outside, inside = each.split(":")[:2]
            found[inside] = self.folder / outside
        for each in service.get("configs", []):
            file = self._document["configs"][each["source"]]["file"]
            found[each["target"]] = self._configured(name, self.folder / file, found)
        # A SuperNode only hands on to the app what the app's own container mounts.
        for other, about in self.services.items():
            if about.get("network_mode") == f"service:{name}":
                found |= self._mounts(other)
        return found

    def _configured(self, name: str, file: Path, mounts: Mapping[str, Path]) -> Path:
        """Write a key manager's file with paths and ports as they are on this machine."""
        text = file.read_text()
        for inside, outside in mounts.items():
            text = re.sub(rf"{re.escape(inside)}(?![\w.-])", str(outside), text)
        content = yaml.safe_load(text)
        for key in ("port", "peer-port", "metrics-port"):
            content[key] = self.port(name, content[key])
        content["host"] = "127.0.0.1"
        for peer in content["peers"]:
            host, port = re.findall(r"https://(.*):(\d+)", peer["url"])[0]
            peer["url"] = f"https://127.0.0.1:{self.port(host, int(port))}"
        path = self._home(name) / "config.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def _home(self, name: str) -> Path:
        home = self.folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _environment_of(self, name: str) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("LANG", "TMPDIR") if key in os.environ}
        own = {**self.services[name]["environment"], "HOME": str(self._home(name))}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", **own, **self._environment}

    def _wait_until_healthy(self, name: str) -> None:
        test = self.services[name]["healthcheck"]["test"]
        command = [str(BIN / test[1]), *(self._translated(name, word) for word in test[2:])]
        deadline = time.monotonic() + START_S
        while subprocess.run(command, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > deadline or self._processes[name].poll() is not None:
                raise TimeoutError(f"{name} does not get healthy:\n{self.log(name).read_text()}")
            time.sleep(0.1)


def in_order(services: Mapping[str, Service]) -> list[list[str]]:
    """Return the services in groups, each after those that it depends on."""
    left, groups = dict(services), []
    while left:
        ready = [name for name, about in left.items() if not _needs(about) & left.keys()]
        groups.append(ready)
        for name in ready:
            del left[name]
    return groups


def _needs(service: Service) -> set[str]:
    needed: Iterable[str] = service.get("depends_on", {})
    return set(needed)


def _namespace(services: Mapping[str, Service], name: str) -> str:
    """Return the service whose network interface a service uses."""
    mode = str(services[name].get("network_mode", ""))
    return mode.removeprefix("service:") or name
