"""Where a client's SAE settings come from, and what is said of wrong ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deffd_flower.errors import RequestError
from deffd_flower.sae.settings import SaeSettings, has_settings, sae_settings

Entries = list[dict[str, Any]]
NODE = {
    "partition-id": 1,
    "sae-ids": "alice, bob,carol",
    "kme-url": "https://kme-1:8443/",
    "sae-certificate": "own.crt",
    "sae-key": "own.key",
    "kme-ca": "ca.crt",
}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("own.crt", "own.key", "ca.crt"):
        (tmp_path / name).touch()


def entry(sae_id: str = "alice", **changes: object) -> dict[str, Any]:
    changed = {key.replace("_", "-"): value for key, value in changes.items()}
    own = {key: NODE[key] for key in ("kme-url", "sae-certificate", "sae-key", "kme-ca")}
    return {"sae-id": sae_id, **own, **changed}


def three() -> Entries:
    return [entry("alice"), entry("bob"), entry("carol")]


def file_of(entries: object, folder: Path) -> Path:
    path = folder / "saes.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path


def test_a_node_config_holds_all_of_it(tmp_path: Path) -> None:
    settings = sae_settings({**NODE, "kme-id": "kme-1", "kme-timeout-s": 3}, 1, 3, {})
    assert settings == SaeSettings(
        partition=1,
        sae_ids=("alice", "bob", "carol"),
        kme_url="https://kme-1:8443",
        certificate=tmp_path / "own.crt",
        key=tmp_path / "own.key",
        ca=tmp_path / "ca.crt",
        kme_id="kme-1",
        timeout_s=3.0,
    )
    assert settings.sae_id == "bob"


def test_a_file_says_the_same_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("own.crt", "own.key", "ca.crt"):
        (folder / name).touch()
    path = file_of([{**entry("alice"), "sae-key": "not here"}, entry("bob")], folder)
    from_node = sae_settings({"sae-file": str(path)}, 1, 2, {})
    from_environment = sae_settings({}, 1, 2, {"DEFFD_SAE_FILE": str(path)})
    assert from_node == from_environment
    assert from_node.sae_ids == ("alice", "bob")
    assert from_node.key == folder / "own.key"
    with pytest.raises(RequestError, match=r"sae-key=.*not here: there is no such file"):
        sae_settings({"sae-file": str(path)}, 0, 2, {})


def test_a_node_config_goes_before_a_file() -> None:
    named = {**NODE, "sae-file": "/nowhere.yaml"}
    assert sae_settings(named, 1, 3, {"DEFFD_SAE_FILE": "/nowhere.yaml"}).sae_id == "bob"


def test_a_node_says_whether_it_is_set_up() -> None:
    assert has_settings(NODE)
    assert has_settings({"sae-file": "saes.yaml"})
    assert not has_settings({"partition-id": 0, "num-partitions": 3})


def test_without_settings_the_message_says_where_they_go() -> None:
    with pytest.raises(RequestError, match=r"--node-config, or in a file that DEFFD_SAE_FILE"):
        sae_settings({"partition-id": 0}, 0, 2, {})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sae-ids": "alice,bob"}, "sae-ids=alice,bob: must name the SAE of each of 3 clients"),
        ({"sae-ids": "alice,,carol"}, "must name the SAE of each of 3 clients"),
        ({"sae-ids": ""}, "must name the SAE of each of 3 clients"),
        ({"sae-ids": "alice,bob,alice"}, "names one SAE twice"),
        ({"sae-id": "alice"}, "sae-id=alice: is not number 1 of sae-ids, which is bob"),
        ({"kme-url": "http://kme-1"}, "kme-url=http://kme-1: must be such as https://kme-1:8443"),
        ({"kme-url": "https://"}, "must be such as https://kme-1:8443"),
        ({"kme-url": "https://kme?x=1"}, "must be such as https://kme-1:8443"),
        ({"sae-key": 7}, r"sae-key=7: must be text \(--node-config\)"),
        ({"sae-key": "none"}, "sae-key=.*none: there is no such file"),
        ({"kme-timeout-s": 0}, "kme-timeout-s=0: must be a number above 0"),
    ],
)
def test_a_wrong_node_config_is_told_the_key_the_value_and_what_to_do(
    changes: dict[str, object], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        sae_settings({**NODE, **changes}, 1, 3, {})


def test_a_missing_key_is_named() -> None:
    rest = {key: value for key, value in NODE.items() if key != "kme-ca"}
    with pytest.raises(RequestError, match=r"^kme-ca: is missing \(--node-config\)"):
        sae_settings(rest, 1, 3, {})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda entries: entries[:2], "must be a list with an SAE for each of 3 clients; it has 2"),
        (lambda entries: {"saes": entries}, "must be a list"),
        (lambda entries: [*entries[:2], "carol"], "saes.yaml, client 2"),
        (lambda entries: [*entries[:2], entry("alice")], "names one SAE twice"),
        (lambda entries: [*entries[:2], entry("")], "sae-id=: must be text"),
        (lambda entries: [*entries[:2], entry("carol", kme="x")], "kme=x: is not one of sae-id"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(
    spoil: Callable[[Entries], object], told: str, tmp_path: Path
) -> None:
    path = file_of(spoil(three()), tmp_path)
    with pytest.raises(RequestError, match=told):
        sae_settings({"sae-file": str(path)}, 0, 3, {})


def test_a_file_that_is_none_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"sae-file=.*cannot be read"):
        sae_settings({"sae-file": str(tmp_path / "none.yaml")}, 0, 3, {})
    (tmp_path / "bad.yaml").write_text("- [")
    with pytest.raises(RequestError, match=r"bad.yaml: is no YAML file") as caught:
        sae_settings({"sae-file": str(tmp_path / "bad.yaml")}, 0, 3, {})
    assert "\n" not in str(caught.value)
