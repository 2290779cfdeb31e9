"""The container files: linted, valid, and as closed as the documentation says."""

import os
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from flwr.common.config import parse_config_args
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from deffd_flower.kme.config_file import parse
from tests.e2e.compose_processes import DOCKER, Service, composed
from tests.e2e.conftest import BIN, ROOT

COMPOSE = ["compose.yaml", "with-tls.yaml"]
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
BASE, TLS = composed("compose.yaml"), composed(*COMPOSE)
SERVICES: dict[str, Service] = TLS["services"]
CLIENTS = range(3)
KMES = {0: "kme-a", 1: "kme-b", 2: "kme-a"}


def run(*words: object, **about: Any) -> "subprocess.CompletedProcess[str]":
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **about)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_linter_has_nothing_to_say(file: Path) -> None:
    done = run(BIN / "hadolint", file)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_follow_the_compose_specification(name: str) -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    done = run(BIN / "check-jsonschema", *schema, DOCKER / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_pinned_to_the_versions_of_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    flower = project["tool"]["flwr"]["app"]["flwr-version-target"]
    own = project["project"]["version"]
    images = {service["image"] for service in SERVICES.values()}
    assert images == {
        f"flwr/superlink:{flower}",
        f"flwr/supernode:{flower}",
        f"deffd-flower/superexec:{own}",
        f"deffd-flower/kme:{own}",
    }
    bases = {
        line for file in DOCKERFILES for line in file.read_text().splitlines() if "FROM" in line
    }
    assert bases == {f"FROM flwr/superexec:{flower}", "FROM python:3.12.11-slim-bookworm"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].startswith("${DEFFD_USER:?")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "privileged" not in service


def networks(name: str) -> set[str]:
    mode = str(SERVICES[name].get("network_mode", ""))
    return networks(mode.removeprefix("service:")) if mode else set(SERVICES[name]["networks"])


def reachable(name: str) -> set[str]:
    """Return the services that share a network with one, but not its network interface."""
    shares = str(SERVICES[name].get("network_mode", "")).removeprefix("service:")
    together = {
        name,
        shares,
        *(n for n, s in SERVICES.items() if s.get("network_mode") == f"service:{name}"),
    }
    return {other for other in SERVICES if networks(other) & networks(name)} - together


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_reaches_the_superlink_and_its_own_key_manager_and_nobody_else(
    client: int,
) -> None:
    for name in (f"supernode-{client}", f"superexec-{client}"):
        assert reachable(name) == {"superlink", KMES[client]}
    host = SERVICES[f"supernode-{client}"]["command"]
    assert host[host.index("--host") + 1] == "127.0.0.1", "its API is for its SuperExec alone"


def test_the_server_reaches_no_key_manager_and_nothing_but_it_has_a_way_out() -> None:
    for name in ("superlink", "superexec-server"):
        assert not reachable(name) & set(KMES.values())
    inside = {name for name, about in TLS["networks"].items() if about.get("internal")}
    assert {name for name in SERVICES if networks(name) - inside} == {"superlink"}
    assert SERVICES["superlink"]["ports"] == ["127.0.0.1:8000:8000"]


def secrets(name: str) -> set[str]:
    given = SERVICES[name].get("secrets", [])
    return {each if isinstance(each, str) else each["source"] for each in given}


def test_every_secret_is_where_it_is_needed_and_nowhere_else() -> None:
    for client in CLIENTS:
        own = {f"sae-{client}.crt", f"sae-{client}.key", "qkd-ca.crt"}
        assert secrets(f"superexec-{client}") == own
        assert secrets(f"supernode-{client}") == {"flower-ca.crt", f"supernode-{client}"}
    for kme in set(KMES.values()):
        assert secrets(kme) == {f"{kme}.crt", f"{kme}.key", "qkd-ca.crt"}
    assert secrets("superexec-server") == {"flower-ca.crt", "superexec-secret"}
    assert secrets("superlink") == secrets("superexec-server") | {"superlink.crt", "superlink.key"}


@pytest.mark.parametrize("document", [BASE, TLS], ids=["plain", "tls"])
def test_flower_understands_every_command(document: dict[str, Any]) -> None:
    for name, service in document["services"].items():
        if name == "superlink":
            _parse_args_run_superlink().parse_args(service["command"])
        if name.startswith("supernode"):
            given = _parse_args_run_supernode().parse_args(service["command"])
            node_config = parse_config_args([given.node_config])
            assert name == f"supernode-{node_config['partition-id']}"
            kme = KMES[int(str(node_config["partition-id"]))]
            assert node_config["kme-id"] == kme
            assert node_config["kme-url"] == f"https://{kme}:8443"


def test_tls_changes_nothing_of_what_a_client_is() -> None:
    for client in CLIENTS:
        name = f"supernode-{client}"
        plain, secured = (each["services"][name]["command"] for each in (BASE, TLS))
        assert plain[1:] == secured[4:], "but for --insecure, and who is trusted and known"
        assert secured[0::2][:2] == ["--root-certificates", "--auth-supernode-private-key"]


@pytest.mark.parametrize("kme", sorted(set(KMES.values())))
def test_the_key_managers_files_fit_together(kme: str) -> None:
    config = parse(yaml.safe_load((DOCKER / f"{kme}.yaml").read_text()), DOCKER)
    assert config.kme_id == kme
    assert config.saes == [f"sae-{client}" for client in CLIENTS if KMES[client] == kme]
    (peer,) = config.peers
    assert peer.kme_id in set(KMES.values()) - {kme}
    assert peer.url == f"https://{peer.kme_id}:{config.peer_port}"


def test_preparing_makes_all_that_is_mounted_for_its_owner_alone_and_keeps_it(
    tmp_path: Path,
) -> None:
    copy = shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    assert run(copy / "prepare.sh", env=environment).returncode == 0
    files = [copy / about["file"] for about in TLS["secrets"].values()]
    files.append(copy / ".env")
    before = {path: path.read_bytes() for path in files}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    for service in SERVICES.values():
        assert all((copy / each.split(":")[0]).is_dir() for each in service.get("volumes", []))
    assert run(copy / "prepare.sh", env=environment).returncode == 0
    assert {path: path.read_bytes() for path in files} == before
    user = (copy / ".env").read_text().strip().partition("=")[2]
    assert user.split(":")[0] != "0"
    assert {path.stat().st_uid for path in files[:-1]} == {int(user.split(":")[0])}
