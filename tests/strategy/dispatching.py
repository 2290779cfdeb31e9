"""A dispatcher with a real network behind it, and clients that seal what it grants."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deffd_flower.qkd.embedded import EmbeddedKeySource
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.request import resolve
from deffd_flower.strategy.dispatch import Consignment, Dispatcher
from deffd_flower.strategy.plans import RoundPlan, Transfer
from deffd_flower.strategy.topology import topology
from deffd_flower.transport import Direction, Route, generate_kem_keypair, seal, suites

Keys = dict[str, Any]

#: Bytes of a model here.
SIZE = 1000
KEM_PUBLIC = generate_kem_keypair(bytes(range(64))).public
SECRET = bytes(range(32))


def dispatcher(
    ledger: Path | None = None,
    sizes: Mapping[int, int] | None = None,
    after_s: float = 0.0,
    **keys: Any,
) -> Dispatcher:
    """Return a dispatcher over links of 2 kbit/s which have worked, or suffered, for some time."""
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    slow = {"dataset": "digits", "clients": 4, "link": "idq-class", "head-start-s": 0.0}
    config = resolve({**slow, **given})
    sizes = sizes or dict.fromkeys(range(config.clients), SIZE)
    controller = controller_of(config, ledger)
    controller.advance(after_s)
    return Dispatcher(config, topology(config), controller, sizes)


def plan(*pairs: tuple[int, int]) -> RoundPlan:
    """Return a round in which the first of each pair sends to the second."""
    return RoundPlan(sorted(sender for sender, _ in pairs), [Transfer(*pair) for pair in pairs])


def blob_of(consignment: Consignment, size: int = SIZE) -> bytes:
    """Return a model sealed as a client would seal it."""
    suite, transfer = suites.get(consignment.suite)(), consignment.transfer
    sender, receiver = f"client-{transfer.sender}", f"client-{transfer.receiver}"
    bits = suite.key_bits(size)
    source = EmbeddedKeySource(sender, 1, SECRET)
    key = source.for_sending(receiver, bits, consignment.references) if bits else None
    route = Route(1, sender, receiver, Direction.MODEL, 1, 0)
    return seal(suite, route, os.urandom(size), key, KEM_PUBLIC)


def pairs_of(consigned: Sequence[Consignment]) -> list[tuple[int, int]]:
    return [(each.transfer.sender, each.transfer.receiver) for each in consigned]


def rows_of(ledger: Path, *events: str) -> list[dict[str, str]]:
    """Return the rows of a ``keys.csv`` with one of these events."""
    with ledger.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["event"] in events]
