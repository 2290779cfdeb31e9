"""An independent client of the standard, etsi-qkd-014-client (LIP6), against our KME."""

from typing import Any, cast

import etsi_qkd_014_client
import pytest

from tests.kme.running import Site


def client(site: Site, sae: str) -> Any:
    site.pki.issue(sae)
    folder = site.pki.folder
    files = (str(folder / f"{sae}.crt"), str(folder / f"{sae}.key"), str(folder / "ca.crt"))
    return etsi_qkd_014_client.QKD014Client(f"127.0.0.1:{site.port}", *files)


def test_status(a: Site) -> None:
    code, status = client(a, "alice").get_status("bob")
    assert code == 200
    assert (status.source_kme_id, status.target_kme_id) == ("kme-a", "kme-b")
    assert (status.master_sae_id, status.slave_sae_id) == ("alice", "bob")
    assert (status.key_size, status.max_key_per_request) == (256, 128)
    assert 0 < status.stored_key_count <= status.max_key_count


@pytest.mark.parametrize("wanted", [{}, {"number": 3, "size": 512}])
def test_keys_make_their_way(a: Site, b: Site, wanted: dict[str, int]) -> None:
    code, made = client(a, "alice").get_key("bob", **wanted)
    assert code == 200
    assert len(made.keys) == wanted.get("number", 1)
    ids = [key.key_id for key in made.keys]
    code, fetched = client(b, "bob").get_key_with_key_IDs("alice", ids)
    assert code == 200
    assert pairs(fetched) == pairs(made)
    code, error = client(b, "bob").get_key_with_key_IDs("alice", ids)
    assert (code, error.message) == (400, "one or more keys specified are not found on KME")


def test_errors_are_understood(a: Site, b: Site) -> None:
    code, error = client(a, "alice").get_key("bob", size=100)
    assert (code, error.message) == (400, "size shall be a multiple of 8")
    code, error = client(a, "stranger").get_status("bob")
    assert code == 401
    assert "no SAE of this KME" in error.message
    _, made = client(a, "alice").get_key("bob")
    code, error = client(b, "ben").get_key_with_key_IDs("alice", [made.keys[0].key_id])
    assert code == 401


def pairs(container: Any) -> list[tuple[str, str]]:
    return [(cast("str", key.key_id), cast("str", key.key)) for key in container.keys]
