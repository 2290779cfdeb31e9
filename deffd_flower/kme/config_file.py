"""Reading the file of a KME: paths in place, and errors that name the key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from deffd_flower.errors import RequestError, did_you_mean
from deffd_flower.kme.config import (
    KeyConfig,
    KmeConfig,
    LimitConfig,
    LinkConfig,
    PeerConfig,
    PoolConfig,
    Section,
)

_SECTIONS: dict[str, type[Section]] = {
    "link": LinkConfig,
    "peers": PeerConfig,
    "keys": KeyConfig,
    "pool": PoolConfig,
    "limits": LimitConfig,
}


def load(path: Path) -> KmeConfig:
    """Read and check a KME's YAML file; paths in it are relative to its folder.

    Raises:
        RequestError: The first thing that is wrong with it.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise RequestError("FILE.yaml", path, f"cannot be read ({problem.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        said = " ".join(str(problem).split())
        raise RequestError("FILE.yaml", path, f"is no YAML ({said})") from None
    return parse(given, path.absolute().parent)


def parse(given: object, folder: Path) -> KmeConfig:
    """Check what a file holds.

    Args:
        given: Nested kebab-case keys.
        folder: What relative paths are relative to.

    Raises:
        RequestError: The first thing that is wrong.
    """
    if not isinstance(given, dict):
        raise RequestError("FILE.yaml", None, "must hold keys such as kme-id: kme-a")
    try:
        config = KmeConfig.model_validate(given)
    except ValidationError as problem:
        raise _as_request_error(problem.errors()[0]) from None
    config = _below(config, folder)
    _check(config)
    return config


def _below(config: KmeConfig, folder: Path) -> KmeConfig:
    def placed(path: Path) -> Path:
        return folder / path.expanduser()

    peers = [peer.model_copy(update={"channel": placed(peer.channel)}) for peer in config.peers]
    paths = {
        name: placed(getattr(config, name))
        for name in ("certificate", "private_key", "ca", "store")
    }
    return config.model_copy(update={**paths, "peers": peers})


def _check(config: KmeConfig) -> None:
    keys = config.keys
    for name in ("size", "min_size", "max_size"):
        if getattr(keys, name) % 8:
            key = f"keys.{name.replace('_', '-')}"
            raise RequestError(key, getattr(keys, name), "must be a multiple of 8 bits")
    if not keys.min_size <= keys.size <= keys.max_size:
        raise RequestError("keys.size", keys.size, "must lie between min-size and max-size")
    if keys.max_size > config.pool.capacity:
        advice = f"does not fit into pool.capacity={config.pool.capacity}"
        raise RequestError("keys.max-size", keys.max_size, advice)
    # A certificate's CN says who somebody is, so that nobody may be both.
    kmes = [config.kme_id, *(peer.kme_id for peer in config.peers)]
    _check_names("peers", kmes)
    _check_names("saes", [*config.saes, *kmes])
    if config.peers and config.peer_port is None:
        raise RequestError("peer-port", None, "is missing; the peers reach this KME there")
    if config.peer_port is not None and not config.peers:
        raise RequestError("peer-port", config.peer_port, "there are no peers; leave it out")
    for index, peer in enumerate(config.peers):
        _check_url(f"peers[{index}].url", peer.url)
        config.quantum_link(peer)
        config.eve(peer)


def _check_names(key: str, names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RequestError(key, twice[0], "is there twice; ids are unique in the network")


def _check_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        fits = (
            parts.scheme == "https" and parts.hostname and parts.port and not parts.path.strip("/")
        )
    except ValueError:
        fits = False
    if not fits:
        raise RequestError(key, url, "must be https://HOST:PORT, the peer-port of that KME")


def _as_request_error(error: Any) -> RequestError:
    key = ""
    for part in error["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    if error["type"] == "missing":
        return RequestError(key, None, "is missing")
    if error["type"] == "extra_forbidden":
        known = _keys_beside(error["loc"])
        advice = did_you_mean(str(error["loc"][-1]), known) or f" Keys: {', '.join(known)}."
        return RequestError(key, None, f"there is no such key.{advice}")
    message = error["msg"].replace("Input should", "must").replace("Value should", "must")
    return RequestError(key, error["input"], message)


def _keys_beside(location: Sequence[int | str]) -> list[str]:
    above = [part for part in location[:-1] if part in _SECTIONS]
    section = _SECTIONS[str(above[-1])] if above else KmeConfig
    return [field.alias or name for name, field in section.model_fields.items()]
