"""Key managers as processes of ``deffd kme serve``, and what SAEs need to find them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from deffd_flower.sae.settings import SaeSettings, of_file
from tests.kme.running import Site, described, sites, until

DEFFD = Path(sys.executable).parent / "deffd"
LINK = [("kme-a", "kme-b")]


def sae(partition: int) -> str:
    """Return the SAE id of a client here."""
    return f"sae-{partition}"


class KmeProcesses:
    """kme-a with the clients of even partition ids, kme-b with the others, and a link between.

    Args:
        folder: Where certificates, stores, logs and the SAE file go.
        clients: How many SAEs there are.
        **keys: Further keys of both key managers' files, with underscores.
    """

    def __init__(self, folder: Path, clients: int, **keys: Any) -> None:
        self.folder = folder
        self.clients = clients
        own = {"kme-a": range(0, clients, 2), "kme-b": range(1, clients, 2)}
        saes = {kme: list(map(sae, partitions)) for kme, partitions in own.items()}
        files = described(folder, LINK, saes, **keys)
        self.sites: dict[str, Site] = sites(folder, files)
        for kme, file in files.items():
            (folder / f"{kme}.yaml").write_text(yaml.safe_dump(file))
        self.sae_file = write_sae_file(folder, clients, self.urls)
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._logs = ExitStack()

    @property
    def urls(self) -> dict[str, str]:
        """Where SAEs find the key managers."""
        return {kme: f"https://127.0.0.1:{site.port}" for kme, site in self.sites.items()}

    def __enter__(self) -> "KmeProcesses":
        try:
            for kme in self.sites:
                self.start(kme)
            for one, other in (("kme-a", "kme-b"), ("kme-b", "kme-a")):
                self.wait_for_key(one, other)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.communicate(timeout=30)
        self._running.clear()
        self._logs.close()

    def start(self, kme: str) -> None:
        """Start a key manager, and wait until it says that it is ready."""
        log = self._logs.enter_context((self.folder / f"{kme}.log").open("a"))
        process = self._running[kme] = subprocess.Popen(
            [str(DEFFD), "kme", "serve", str(self.folder / f"{kme}.yaml")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        assert "is ready" in process.stdout.readline(), (self.folder / f"{kme}.log").read_text()

    def kill(self, kme: str) -> None:
        """Kill a key manager without warning."""
        process = self._running.pop(kme)
        process.kill()
        process.communicate(timeout=30)

    def wait_for_key(self, one: str, other: str) -> None:
        """Wait until a key manager has key for the SAEs of another."""
        site, elsewhere = self.sites[one], self.sites[other]
        peer = elsewhere.config.saes[0]
        until(lambda: site.status(site.config.saes[0], peer)["stored_key_count"] > 0)

    def settings(self, partition: int) -> SaeSettings:
        return of_file(self.sae_file, partition, self.clients)


def write_sae_file(folder: Path, clients: int, urls: Mapping[str, str]) -> Path:
    """Write the SAE file of such a network; certificates are in ``pki`` beside it."""
    names: Sequence[str] = list(urls)
    entries = [
        {
            "sae-id": sae(partition),
            "kme-url": urls[names[partition % 2]],
            "kme-id": names[partition % 2],
            "sae-certificate": f"pki/{sae(partition)}.crt",
            "sae-key": f"pki/{sae(partition)}.key",
            "kme-ca": "pki/ca.crt",
        }
        for partition in range(clients)
    ]
    path = folder / "saes.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path
