"""Two key managers that all quick tests share, in a thread of this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deffd_flower.sae.etsi014 import Etsi014
from deffd_flower.sae.key_source import KeyManagerSource
from deffd_flower.sae.settings import SaeSettings, of_file
from deffd_flower.transport.spent_keys import SpentKeys
from tests.kme.running import FILLED_ONCE, Site, running
from tests.sae.kme_processes import LINK, sae, write_sae_file

CLIENTS = 4
NAMES = [f"client-{partition}" for partition in range(CLIENTS)]


@dataclass(frozen=True)
class Saes:
    """SAEs whose key managers run."""

    file: Path
    sites: dict[str, Site]

    def settings(self, partition: int) -> SaeSettings:
        return of_file(self.file, partition, CLIENTS)

    def source(self, partition: int) -> KeyManagerSource:
        """Return the key supply of a client that has just started."""
        sae_ids = {name: sae(place) for place, name in enumerate(NAMES)}
        return KeyManagerSource(Etsi014(self.settings(partition)), sae_ids, SpentKeys())


@pytest.fixture(scope="package")
def saes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saes]:
    folder = tmp_path_factory.mktemp("saes")
    own = {"kme-a": [sae(0), sae(2)], "kme-b": [sae(1), sae(3)]}
    limits = {"requests-per-second": 1000, "idle-s": 1.0}
    keys = {"max-size": 2**16, "max-per-request": 16}
    with running(folder, LINK, own, limits=limits, keys=keys, **FILLED_ONCE) as sites:
        urls = {kme: f"https://127.0.0.1:{site.port}" for kme, site in sites.items()}
        yield Saes(write_sae_file(folder, CLIENTS, urls), sites)
