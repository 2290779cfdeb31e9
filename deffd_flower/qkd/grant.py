"""What the network's controller hands out, and what it can say of itself."""

from dataclasses import dataclass
from typing import NamedTuple

from deffd_flower.qkd.pool import Lease
from deffd_flower.transport.references import KeyReference


@dataclass(frozen=True, slots=True)
class Grant:
    """Key set aside for one message.

    Attributes:
        sender: Partition id.
        receiver: Partition id.
        suite: How the message will be sealed.
        bits: Number of key bits.
        references: What both ends call them; empty when there are none.
        exposed: Trusted nodes on the way, which see the key.
        compromised: Whether Eve reads one of the nodes that have the key, the two ends included.
        wait_s: How long the message had to wait for its key.
        age_s: Age of the oldest bit on any hop.
        leases: The hops' names, and what was leased from each.
    """

    sender: int
    receiver: int
    suite: str
    bits: int
    references: tuple[KeyReference, ...] = ()
    exposed: frozenset[str] = frozenset()
    compromised: bool = False
    wait_s: float = 0.0
    age_s: float = 0.0
    leases: tuple[tuple[str, Lease], ...] = ()


class Level(NamedTuple):
    """One link at one moment.

    Attributes:
        stored: Bits in the store, those in reserve or under an open grant included.
        available: Bits that can be granted.
        qber: Error rate of the last complete block; of the undisturbed link before the first.
        aborted: Blocks that gave no key, so far.
    """

    stored: int
    available: int
    qber: float
    aborted: int


@dataclass(slots=True)
class Tally:
    """What the network has done for the federation so far.

    Attributes:
        messages: Messages that were sealed with granted key.
        key_bits: Key bits that sealed them.
        link_bits: Bits that the links gave up for that: more, where keys are relayed.
        relayed: Messages whose key trusted nodes have seen.
        compromised: Messages whose key Eve has read at a node.
        starved: Requests that found too little key.
        abandoned: Grants that sealed nothing.
        waited_s: Seconds that all messages together waited for their keys.
    """

    messages: int = 0
    key_bits: int = 0
    link_bits: int = 0
    relayed: int = 0
    compromised: int = 0
    starved: int = 0
    abandoned: int = 0
    waited_s: float = 0.0
