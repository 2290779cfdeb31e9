"""The steps of making and carrying keys, each a transaction of the key store."""

import sqlite3
import time
from collections.abc import Sequence

from deffd_flower.kme.link_keys import LinkKeys
from deffd_flower.kme.messages import Delivery, PeerError
from deffd_flower.kme.neighbour import Neighbour, epoch_of
from deffd_flower.kme.streams import Range, Taken
from deffd_flower.kme.waiting_keys import NamedKey, WaitingKeys
from deffd_flower.transport.refusal import KeyUnavailable

_MILLISECOND_NS = 10**6


def reserve(
    db: sqlite3.Connection, peers: Sequence[str], length: int, max_age_ms: int | None
) -> tuple[list[Taken], dict[str, int]]:
    """Take as many bytes of the link to each of the peers, from all or from none.

    Returns:
        What was taken, and how many bytes are left to each peer.

    Raises:
        KeyUnavailable: A link has too few that are young enough.
    """
    born_after = 0 if max_age_ms is None else time.time_ns() - max_age_ms * _MILLISECOND_NS
    taken = [LinkKeys(db, peer).reserve(length, born_after) for peer in peers]
    return taken, {peer: LinkKeys(db, peer).outward.stored for peer in peers}


def settle(db: sqlite3.Connection, peers: Sequence[str], length: int, use: str) -> None:
    """Say what has become of bytes that were reserved."""
    for peer in peers:
        LinkKeys(db, peer).settle(length, use)


def keep(db: sqlite3.Connection, sender: Neighbour, delivery: Delivery, most_bytes: int) -> None:
    """Let delivered keys wait for their slaves.

    Raises:
        PeerError: The link key they are made of is not there, or the epoch is over.
        StoreFullError: Too many keys wait.
        DeffdError: A key_ID is taken.
    """
    WaitingKeys(db).add(
        split(_receive(db, sender, delivery), delivery),
        delivery.master,
        delivery.slaves,
        most_bytes,
    )


def swap(
    db: sqlite3.Connection, sender: Neighbour, delivery: Delivery, receiver: str
) -> tuple[bytes, Taken]:
    """Take what a neighbour delivered, and link key to encrypt it with for the next.

    Returns:
        The keys, and the reserved link key.

    Raises:
        PeerError: The link key they came with is not there, or there is too little to go on.
    """
    material = _receive(db, sender, delivery)
    try:
        (pad,), _ = reserve(db, [receiver], len(material), delivery.max_age_ms)
    except KeyUnavailable as problem:
        raise PeerError("exhausted", f"link to {receiver}: {problem}") from None
    return material, pad


def split(material: bytes, delivery: Delivery) -> list[NamedKey]:
    """Cut what was delivered into keys of equal length."""
    length = len(material) // len(delivery.key_ids)
    return [
        NamedKey(key_id, material[index * length : (index + 1) * length])
        for index, key_id in enumerate(delivery.key_ids)
    ]


def xor(one: bytes, other: bytes) -> bytes:
    """Return the bytes' exclusive or: a one-time pad.

    Raises:
        ValueError: They are not equally long.
    """
    if len(one) != len(other):
        raise ValueError("a pad is as long as what it encrypts")
    both = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return both.to_bytes(len(one), "big")


def _receive(db: sqlite3.Connection, sender: Neighbour, delivery: Delivery) -> bytes:
    link = LinkKeys(db, sender.kme_id)
    if epoch_of(link.state(), sender.is_ours_to_make) != delivery.epoch:
        raise PeerError("epoch", "the epoch of this link is over")
    try:
        ranges = [Range(*each) for each in delivery.ranges]
        pad = link.accept(ranges, "relayed" if delivery.relayed else "delivered")
        material = pad if delivery.ciphertext is None else xor(delivery.ciphertext, pad)
    except (KeyUnavailable, ValueError) as problem:
        raise PeerError("refused", str(problem)) from None
    if len(material) % len(delivery.key_ids):
        raise PeerError("refused", "these are no keys of equal length")
    return material
