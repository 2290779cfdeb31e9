"""Finds pieces of secrets in heaps of bytes, wherever they begin."""

from collections.abc import Iterable

import numpy as np

SIZE = 16
#: A window of fewer distinct bytes, such as zeros, is found everywhere and tells nothing.
DISTINCT = 8


class Windows:
    """Pieces of 16 bytes; a copied stretch of 31 bytes or more holds at least one of them.

    Args:
        secrets: What to cut into windows, from the first byte of each on.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._windows = {
            window
            for secret in secrets
            for start in range(0, len(secret) - SIZE + 1, SIZE)
            if len(set(window := secret[start : start + SIZE])) >= DISTINCT
        }
        heads = np.frombuffer(b"".join(window[:8] for window in self._windows), np.uint64)
        self._heads = np.sort(heads)

    def __len__(self) -> int:
        return len(self._windows)

    def found_in(self, heap: bytes) -> set[bytes]:
        """Return the windows that occur in a heap of bytes."""
        found: set[bytes] = set()
        for shift in range(8):
            words = np.frombuffer(heap, np.uint64, (len(heap) - shift) // 8, shift)
            near = np.searchsorted(self._heads, words).clip(max=len(self._heads) - 1)
            for word in np.flatnonzero(self._heads[near] == words):
                place = shift + 8 * int(word)
                found.add(heap[place : place + SIZE])
        return found & self._windows
