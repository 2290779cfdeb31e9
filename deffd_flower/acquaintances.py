"""Which classes a client's peers have samples of, as their sealed models say."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from deffd_flower.errors import DeffdError
from deffd_flower.fusion.package import Package
from deffd_flower.strategy.complement import preference


class Acquaintances:
    """What one client knows of its peers' classes, and whom it therefore prefers to meet.

    Args:
        own: Which classes the client has samples of itself, bool [C].
        known: What it knew of each peer before, by partition id: a byte of 1 or 0 for each class.

    Attributes:
        known: The same of now.
        changed: Whether it has heard of peers since.
    """

    def __init__(self, own: Tensor, known: Mapping[int, bytes]) -> None:
        self.known = dict(known)
        self.changed = False
        self._own = _as_bytes(own)

    def meet(self, senders: Sequence[int], received: Sequence[Package]) -> None:
        """Remember what peers say of themselves.

        Args:
            senders: Partition ids of the peers.
            received: What each of them has sent.

        Raises:
            DeffdError: One does not say which classes it has.
        """
        for sender, package in zip(senders, received, strict=True):
            if package.held is None or package.held.shape != (len(self._own),):
                raise DeffdError("a received model does not say which classes its sender holds")
            self.known[sender] = _as_bytes(package.held)
            self.changed = True

    def preference(self, generator: np.random.Generator) -> list[int]:
        """Return the peers, those first whose classes complement the own ones most."""
        return preference(self._own, self.known, generator)


def _as_bytes(held: Tensor) -> bytes:
    return bytes(map(bool, held.tolist()))
