"""Keys from a key manager, for the transport: as many as a message takes, and each for one."""

import math
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from uuid import UUID

from deffd_flower.sae.delivery import (
    DeliveredKey,
    KeyDelivery,
    KeyManagerError,
    KeyNotFound,
    LinkStatus,
    wipe_all,
)
from deffd_flower.sae.etsi014 import Etsi014
from deffd_flower.sae.settings import SaeSettings
from deffd_flower.transport.envelope import MAX_REFERENCES
from deffd_flower.transport.keys import KeyMaterial
from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.refusal import KeyUnavailable, NoKeyNow
from deffd_flower.transport.spent_keys import SpentKeys

#: How often a key is asked for that its sender has named: it may not have come this far yet.
LOOKS, LONGEST_PAUSE_S = 3, 1.0


class KeyManagerSource:
    """A client's key supply: its key manager hands over fresh keys, and those a peer has named.

    Args:
        delivery: The connection to the key manager.
        sae_ids: SAE id of every client, by its name in envelopes.
        spent: The key that has sealed before; added to.
    """

    def __init__(self, delivery: KeyDelivery, sae_ids: Mapping[str, str], spent: SpentKeys) -> None:
        self._delivery = delivery
        self._sae_ids = sae_ids
        self._spent = spent

    def check(self, peer: str) -> None:
        """Ask for the status of the keys with a peer, and for nothing else.

        Raises:
            KeyUnavailable: The key manager does not answer, or not as it should.
        """
        self._delivery.status(self._sae_ids[peer])

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        """Return fresh key, from as few requests as the key manager allows.

        A second request can lose what the first has brought, by finding the store empty, or with a
        server that drops keys nobody has fetched yet. So where one will not do, nothing is asked
        for unless there is enough. Key that was fetched and not used is wiped, and lost.

        Raises:
            NoKeyNow: There is too little, or no answer.
            KeyUnavailable: The key manager refuses, or its keys are too small for so large a pad;
                or key was granted, which is not for the server to do here.
        """
        if grant:
            raise KeyUnavailable("key was granted, but key managers choose their own")
        sae = self._sae_ids[peer]
        status = self._delivery.status(sae)
        _check_size(bits, status)
        keys: list[DeliveredKey] = []
        try:
            while (missing := bits - _bits_in(keys)) > 0:
                fresh = self._delivery.fresh_keys(sae, *next_request(missing, status))
                keys += fresh
                _check_keys(fresh, keys)
            references = _first_bits(keys, bits)
            self._spent.spend(references)
            return _material(references, keys)
        finally:
            wipe_all(keys)

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        """Return the key that ``peer`` named in a message; nobody gets it again.

        Raises:
            NoKeyNow: It has not arrived at the key manager, or that does not answer.
            KeyUnavailable: The key manager refuses, or the key is shorter than was said.
        """
        sae = self._sae_ids[peer]
        key_ids = list(dict.fromkeys(reference.key_id for reference in references))
        several = len(key_ids) > 1
        size = self._delivery.status(sae).keys_per_request if several else 1
        keys: list[DeliveredKey] = []
        try:
            for start in range(0, len(key_ids), size):
                keys += self._named(sae, key_ids[start : start + size])
            return _material(references, keys)
        finally:
            wipe_all(keys)

    def _named(self, sae: str, key_ids: Sequence[UUID]) -> list[DeliveredKey]:
        for look in range(LOOKS):
            if look:
                time.sleep(random.uniform(0, LONGEST_PAUSE_S))
            try:
                return self._delivery.keys_named(sae, key_ids)
            except KeyNotFound:
                continue
        raise NoKeyNow("the key manager has no such key")


def key_manager_source(
    settings: SaeSettings, names: Sequence[str], spent: SpentKeys
) -> KeyManagerSource:
    """Return a client's key supply over the connection that its process has to its key manager.

    Args:
        settings: The client's.
        names: Every client's name in envelopes, by partition id.
        spent: The key that has sealed before.

    Raises:
        KeyManagerError: The client's certificate cannot be used.
    """
    sae_ids = dict(zip(names, settings.sae_ids, strict=False))
    return KeyManagerSource(_connection(settings, os.getpid()), sae_ids, spent)


@lru_cache(maxsize=256)
def _connection(settings: SaeSettings, process: int) -> Etsi014:
    """Return a connection that no other process has: a fork must not go on with its parent's."""
    return Etsi014(settings)


def next_request(bits: int, status: LinkStatus) -> tuple[int, int]:
    """Return number and size in bits of the keys to ask for next: little more than is needed.

    Args:
        bits: What is still missing.
        status: What the key manager allows.
    """
    largest = _largest(status)
    number = min(math.ceil(bits / largest), status.keys_per_request)
    size = min(_whole_bytes(math.ceil(bits / number)), largest)
    return number, min(max(size, _whole_bytes(status.min_key_size)), largest)


def _largest(status: LinkStatus) -> int:
    return max(8, status.max_key_size // 8 * 8)


def _whole_bytes(bits: int) -> int:
    return math.ceil(bits / 8) * 8


def _check_size(bits: int, status: LinkStatus) -> None:
    number = math.ceil(bits / _largest(status))
    if number > MAX_REFERENCES:
        raise KeyUnavailable(
            f"{number} of the key manager's keys would be needed, and a message names at most"
            f" {MAX_REFERENCES}: it needs a larger max_key_size, or suite=aes"
        )
    if number > status.keys_per_request and bits > status.stored_keys * status.key_size:
        raise NoKeyNow("the key manager has too little key")


def _check_keys(fresh: Sequence[DeliveredKey], keys: Sequence[DeliveredKey]) -> None:
    if not all(key.secret for key in fresh) or len({key.key_id for key in keys}) < len(keys):
        raise KeyManagerError("the key manager delivers empty keys, or one twice")
    if len(keys) > MAX_REFERENCES:
        raise KeyManagerError("the key manager delivers smaller keys than it says")
    if not fresh:
        raise NoKeyNow("the key manager has too little key")


def _bits_in(keys: Sequence[DeliveredKey]) -> int:
    return 8 * sum(len(key.secret) for key in keys)


def _first_bits(keys: Sequence[DeliveredKey], bits: int) -> list[KeyReference]:
    references = []
    for key in keys:
        taken = min(bits, 8 * len(key.secret))
        if taken:
            references.append(KeyReference(key.key_id, 0, taken))
        bits -= taken
    return references


def _material(references: Sequence[KeyReference], keys: Sequence[DeliveredKey]) -> KeyMaterial:
    secrets = {key.key_id: key.secret for key in keys}
    joined = bytearray().join(_pieces(references, secrets))
    return KeyMaterial(references, joined)


def _pieces(
    references: Sequence[KeyReference], secrets: Mapping[UUID, bytearray]
) -> Iterator[memoryview]:
    for reference in references:
        secret = secrets.get(reference.key_id)
        if secret is None or 8 * len(secret) < reference.end:
            raise KeyUnavailable("the key manager's key is not the one that was named")
        yield memoryview(secret)[reference.offset // 8 : reference.end // 8]
