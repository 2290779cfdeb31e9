"""Where a client's keys come from and what vouches for its public key: its ``key-source``."""

import time
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from flwr.app import Context

from deffd_flower.config import RunConfig
from deffd_flower.errors import DeffdError
from deffd_flower.qkd.embedded import EmbeddedKeySource, load_secret, secret_file
from deffd_flower.sae.settings import has_settings, sae_settings
from deffd_flower.strategy.topology import topology
from deffd_flower.transport.identity import Identity, SharedSecretIdentity
from deffd_flower.transport.keys import KeySource
from deffd_flower.transport.memory import DiskMemory, Memory, StateMemory, state_folder
from deffd_flower.transport.spent_keys import SpentKeys

if TYPE_CHECKING:
    from deffd_flower.sae.key_source import KeyManagerSource

_NAME = "client-"


def sae_id(partition: int) -> str:
    """Return the name under which a client seals and opens, in every run and key source."""
    return f"{_NAME}{partition}"


def partition_of(name: str) -> int:
    """Return the partition id of the client with this name."""
    return int(name.removeprefix(_NAME))


class Supply(Protocol):
    """Keys, proof of identity and memory of one client, for one message."""

    @property
    def memory(self) -> Memory:
        """Where the client's desk keeps what it must not forget."""

    @property
    def identity(self) -> Identity:
        """What vouches for ML-KEM public keys."""

    def keys(self, spent: SpentKeys) -> KeySource:
        """Return the source of QKD keys.

        Args:
            spent: What has sealed before.
        """

    def now(self, clock: float) -> float:
        """Return the seconds by which keys grow old, given the server's simulated clock."""

    def check(self) -> None:
        """See that keys can be had.

        Raises:
            DeffdError: They cannot.
        """


class EmbeddedSupply:
    """Simulated keys from a secret that all clients share.

    Args:
        context: Flower's context of the client.
        name: The client's name.
    """

    def __init__(self, context: Context, name: str) -> None:
        if has_settings(context.node_config):
            raise DeffdError("this client takes keys from its key manager: key-source=etsi014")
        self.memory: Memory = StateMemory(context)
        self._name = name
        self._run = context.run_id

    @cached_property
    def _secret(self) -> bytes:
        return load_secret(secret_file())

    @cached_property
    def identity(self) -> Identity:
        """Proofs by the shared secret."""
        return SharedSecretIdentity(self._secret, self._run)

    def keys(self, spent: SpentKeys) -> KeySource:
        """Return keys of the shared secret; the desk itself checks what is granted."""
        return EmbeddedKeySource(self._name, self._run, self._secret)

    def now(self, clock: float) -> float:
        """Return simulated time."""
        return clock

    def check(self) -> None:
        """See that the secret can be read."""
        self.identity  # noqa: B018 - to read the secret


class KeyManagerSupply:
    """Keys from a key manager, to which the client is known by its SAE's certificate.

    Args:
        context: Flower's context of the client.
        config: The run's keys.
        partition: The client's partition id.

    Raises:
        RequestError: The client's SAE is not set up.
    """

    def __init__(self, context: Context, config: RunConfig, partition: int) -> None:
        self._settings = sae_settings(context.node_config, partition, config.clients)
        self._names = [sae_id(each) for each in range(config.clients)]
        self._partition = partition
        self._config = config
        self._run = context.run_id
        self.memory: Memory = DiskMemory(context, state_folder(context.node_config), partition)

    @cached_property
    def identity(self) -> Identity:
        """Proofs by certificate."""
        from deffd_flower.sae.identity import CertificateIdentity

        sae_ids = dict(zip(self._names, self._settings.sae_ids, strict=False))
        return CertificateIdentity(self._settings, sae_ids, self._run)

    def keys(self, spent: SpentKeys) -> KeySource:
        """Return the key manager's keys."""
        return self._source(spent)

    def now(self, clock: float) -> float:
        """Return the client's own time, which the server cannot hold up."""
        return time.time()

    def check(self) -> None:
        """See that the key manager knows this client and one whom it may write to."""
        graph = topology(self._config)
        others = [peer for peer in range(len(self._names)) if peer != self._partition]
        for peer in others:
            if graph is None or graph.has_edge(self._partition, peer):
                self._source(SpentKeys()).check(self._names[peer])
                return

    def _source(self, spent: SpentKeys) -> "KeyManagerSource":
        from deffd_flower.sae.key_source import key_manager_source

        return key_manager_source(self._settings, self._names, spent)


def supply_of(context: Context, config: RunConfig, partition: int) -> Supply:
    """Return the supply that the run's ``key-source`` names.

    Raises:
        DeffdError: This client is not set up for it.
    """
    if config.key_source == "etsi014":
        return KeyManagerSupply(context, config, partition)
    return EmbeddedSupply(context, sae_id(partition))
