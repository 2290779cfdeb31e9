"""A network of three KMEs that all quick tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kme.running import FILLED_ONCE, Pki, Site, running

#: kme-a and kme-c have no link: a key between them goes over kme-b.
LINKS = [("kme-a", "kme-b"), ("kme-b", "kme-c")]
SAES = {"kme-a": ["alice", "amy"], "kme-b": ["bob", "ben"], "kme-c": ["carol"]}


@pytest.fixture(scope="package")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    limits = {"requests-per-second": 1000, "body-s": 1.0, "idle-s": 2.0, "handshake-s": 2.0}
    folder = tmp_path_factory.mktemp("kmes")
    with running(folder, LINKS, SAES, limits=limits, **FILLED_ONCE) as placed:
        yield placed


@pytest.fixture(scope="package")
def a(sites: dict[str, Site]) -> Site:
    return sites["kme-a"]


@pytest.fixture(scope="package")
def b(sites: dict[str, Site]) -> Site:
    return sites["kme-b"]


@pytest.fixture(scope="package")
def c(sites: dict[str, Site]) -> Site:
    return sites["kme-c"]


@pytest.fixture(scope="package")
def pki(a: Site) -> Pki:
    return a.pki


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Another authority that nobody here trusts."""
    return Pki(tmp_path_factory.mktemp("foreign") / "pki")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
