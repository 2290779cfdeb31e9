"""A client's place in a QKD network: its SAE id, its key manager, its certificate, its peers.

All of this is the client's own. It comes from the SuperNode's ``--node-config``, or from a file
that is named there or by the environment; never from the run config, which the server writes.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deffd_flower.errors import RequestError

SAE_FILE_VARIABLE = "DEFFD_SAE_FILE"
SAE_FILE = "sae-file"
SAE_IDS = "sae-ids"
ADVICE = (
    "needs each client's SAE: in its SuperNode's --node-config, or in a file that"
    f" {SAE_FILE_VARIABLE} names"
)

Text = Annotated[str, Field(min_length=1)]


class SaeEntry(BaseModel):
    """One client's settings as users write them, in an SAE file or in a node config."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )

    sae_id: Text
    kme_url: Annotated[str, Field(pattern=r"^https://[^/?#]+(/[^?#]*)?$")]
    sae_certificate: Text
    sae_key: Text
    kme_ca: Text
    kme_id: str = ""
    kme_timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0


OWN_KEYS = tuple(field.alias or name for name, field in SaeEntry.model_fields.items())


@dataclass(frozen=True)
class SaeSettings:
    """What one client needs to get keys.

    Attributes:
        partition: The client's partition id.
        sae_ids: SAE id of every client, by partition id.
        kme_url: Where its key manager is, such as ``https://kme-1:8443``.
        certificate: PEM file of its certificate, intermediate ones behind it.
        key: PEM file of the certificate's private key.
        ca: PEM file of the authorities that sign key managers' and peers' certificates.
        kme_id: Name that has to be in the key manager's certificate; empty for the URL's host.
        timeout_s: Seconds until an answer is given up.
    """

    partition: int
    sae_ids: tuple[str, ...]
    kme_url: str
    certificate: Path
    key: Path
    ca: Path
    kme_id: str = ""
    timeout_s: float = 10.0

    @property
    def sae_id(self) -> str:
        """The client's own SAE id."""
        return self.sae_ids[self.partition]


def sae_settings(
    node_config: Mapping[str, object],
    partition: int,
    clients: int,
    environment: Mapping[str, str] = os.environ,
) -> SaeSettings:
    """Return a client's settings.

    Args:
        node_config: Flower's node config of the client.
        partition: Its partition id.
        clients: How many clients the run has.
        environment: Where ``DEFFD_SAE_FILE`` may be.

    Raises:
        RequestError: There are none, or the first thing that is wrong with them.
    """
    if "kme-url" in node_config:
        return _of_node(node_config, partition, clients)
    named = str(node_config.get(SAE_FILE, "")) or environment.get(SAE_FILE_VARIABLE, "")
    if not named:
        raise RequestError("key-source", "etsi014", ADVICE)
    return of_file(Path(named).expanduser(), partition, clients)


def check_saes(clients: int) -> None:
    """See that every client of a run on this machine is set up.

    Raises:
        RequestError: The first thing that is wrong.
    """
    for partition in range(clients):
        sae_settings({}, partition, clients)


def has_settings(node_config: Mapping[str, object]) -> bool:
    """Say whether a node is set up for a key manager, so that no other source will do."""
    return "kme-url" in node_config or SAE_FILE in node_config


def of_file(path: Path, partition: int, clients: int) -> SaeSettings:
    """Return a client's settings in an SAE file: a YAML list with an entry for each partition id.

    Paths in it are relative to the file. Those of other clients need not be there.

    Raises:
        RequestError: The file cannot be read, or the first thing that is wrong with it.
    """
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except OSError as problem:
        raise RequestError(SAE_FILE, path, f"cannot be read ({problem.strerror})") from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        reason = " ".join(str(problem).split())
        raise RequestError(SAE_FILE, path, f"is no YAML file ({reason})") from problem
    if not isinstance(entries, list) or len(entries) < clients:
        found = len(entries) if isinstance(entries, list) else 0
        advice = f"must be a list with an SAE for each of {clients} clients; it has {found}"
        raise RequestError(SAE_FILE, path, advice)
    checked = [_entry(entry, f"{path}, client {number}") for number, entry in enumerate(entries)]
    sae_ids = [entry.sae_id for entry in checked]
    _check_ids(sae_ids, clients)
    return _settings(checked[partition], partition, sae_ids, path.parent)


def _of_node(node_config: Mapping[str, object], partition: int, clients: int) -> SaeSettings:
    sae_ids = [name.strip() for name in str(node_config.get(SAE_IDS, "")).split(",")]
    _check_ids(sae_ids, clients)
    own = {key: value for key, value in node_config.items() if key in OWN_KEYS}
    entry = _entry({"sae-id": sae_ids[partition], **own}, "--node-config")
    if entry.sae_id != sae_ids[partition]:
        advice = f"is not number {partition} of {SAE_IDS}, which is {sae_ids[partition]}"
        raise RequestError("sae-id", entry.sae_id, advice)
    return _settings(entry, partition, sae_ids, Path.cwd())


def _entry(given: object, where: str) -> SaeEntry:
    try:
        return SaeEntry.model_validate(given)
    except ValidationError as problem:
        first = problem.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else SAE_FILE
        shown = first["input"] if first["type"] not in ("missing", "model_type") else None
        raise RequestError(key, shown, f"{_advice(key, first['type'])} ({where})") from None


def _advice(key: str, kind: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"is not one of {', '.join(OWN_KEYS)}"
    if key == "kme-url":
        return "must be such as https://kme-1:8443"
    return "must be a number above 0" if key == "kme-timeout-s" else "must be text"


def _check_ids(sae_ids: Sequence[str], clients: int) -> None:
    shown = ",".join(sae_ids)
    if len(sae_ids) < clients or not all(sae_ids):
        advice = f"must name the SAE of each of {clients} clients, by partition id, with commas"
        raise RequestError(SAE_IDS, shown, advice)
    if len(set(sae_ids)) < len(sae_ids):
        raise RequestError(SAE_IDS, shown, "names one SAE twice")


def _settings(entry: SaeEntry, partition: int, sae_ids: Sequence[str], folder: Path) -> SaeSettings:
    def file(key: str, name: str) -> Path:
        path = folder / Path(name).expanduser()
        if not path.is_file():
            raise RequestError(key, path, "there is no such file")
        return path

    return SaeSettings(
        partition=partition,
        sae_ids=tuple(sae_ids),
        kme_url=urlsplit(entry.kme_url).geturl().rstrip("/"),
        certificate=file("sae-certificate", entry.sae_certificate),
        key=file("sae-key", entry.sae_key),
        ca=file("kme-ca", entry.kme_ca),
        kme_id=entry.kme_id,
        timeout_s=entry.kme_timeout_s,
    )
