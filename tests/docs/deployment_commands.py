"""Checks of the commands that start servers: key managers are started, Flower's are parsed."""

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from itertools import pairwise
from pathlib import Path

from flwr.cli.supernode.register import register
from flwr.common.config import parse_config_args
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from deffd_flower.node import OWN
from deffd_flower.request import resolve
from deffd_flower.sae.settings import OWN_KEYS, SAE_IDS
from deffd_flower.transport.memory import STATE_DIR
from tests.docs.pages import ROOT
from tests.e2e.conftest import free_port

Settings = dict[str, str]
NODE_KEYS = {"partition-id", "num-partitions", "min-suite", STATE_DIR, SAE_IDS, "sae-file"}
NODE_KEYS |= {*OWN, *OWN_KEYS} - {"sae-id"}
"""What a node config may hold."""

_SERVERS: list["subprocess.Popen[str]"] = []
_PORTS: dict[str, str] = {}


def at_free_ports(body: str) -> str:
    """Return an example with other ports than those that may be taken on this machine."""

    def other(found: re.Match[str]) -> str:
        return _PORTS.setdefault(found[0], str(free_port()))

    return re.sub(r"(?<=port: )\d{4}\b|(?<=127\.0\.0\.1:)\d{4}\b", other, body)


def start_key_manager(words: list[str], folder: Path) -> None:
    """Start it for as long as the commands of its page go on."""
    command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    with (folder / "kme.log").open("a") as log:
        server = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
    _SERVERS.append(server)
    assert server.stdout is not None
    assert "is ready" in server.stdout.readline(), (folder / "kme.log").read_text()


def stop_servers() -> None:
    for server in _SERVERS:
        server.terminate()
        server.communicate(timeout=30)
    _SERVERS.clear()


def check_superlink(words: list[str], settings: Settings, folder: Path) -> None:
    parsed(_parse_args_run_superlink(), words)


def check_supernode(words: list[str], settings: Settings, folder: Path) -> None:
    node_config = parse_config_args([parsed(_parse_args_run_supernode(), words)["node_config"]])
    assert set(node_config) <= NODE_KEYS
    assert len(str(node_config[SAE_IDS]).split(",")) == node_config["num-partitions"]


def parsed(parser: ArgumentParser, words: list[str]) -> dict[str, str]:
    values, unknown = parser.parse_known_args(words[1:])
    assert unknown == []
    return vars(values)


def check_deployed_run(words: list[str]) -> None:
    """Check `flwr run . NAME`, or the registration of a SuperNode."""
    if words[1] == "supernode":
        assert words[2] == register.__name__
        assert words[3].endswith(".pub")
        return
    options = dict(pairwise(words))
    given = parse_config_args([options["-c"]])
    assert words[2:4] == [".", "here"]
    assert resolve(given).key_source == "etsi014"


def check_docker(words: list[str], settings: Settings, folder: Path) -> None:
    assert words[1] == "compose"
    files = [file for option, file in pairwise(words) if option == "--file"]
    assert files
    assert all((ROOT / file).is_file() for file in files)


def check_prepare(words: list[str], settings: Settings, folder: Path) -> None:
    assert os.access(ROOT / words[0], os.X_OK)


def check_ssh_keygen(words: list[str], settings: Settings, folder: Path) -> None:
    subprocess.run(words, cwd=folder, check=True)
    assert (folder / f"{words[-1]}.pub").exists()


CHECKS = {
    "docker": check_docker,
    "docker/prepare.sh": check_prepare,
    "flower-superlink": check_superlink,
    "flower-supernode": check_supernode,
    "ssh-keygen": check_ssh_keygen,
}
