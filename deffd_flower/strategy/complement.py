"""How far two clients' classes complement each other, and whom a client therefore prefers."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.bool_]
"""Which classes somebody has samples of, bool [C], or [N, C] for several."""


def complement(own: Classes, others: Classes) -> NDArray[np.intp]:
    """Return how many classes one has and the other lacks, both ways, for each of the others.

    The sender's model brings the receiver what it lacks, and its fusion there teaches that model
    what the sender lacks. The measure is ours.

    Args:
        own: bool [C].
        others: bool [N, C].

    Returns:
        [N], each from 0 to C.
    """
    differ: NDArray[np.intp] = (own != others).sum(axis=-1)
    return differ


def preference(
    own: Sequence[int], others: Mapping[int, Sequence[int]], generator: np.random.Generator
) -> list[int]:
    """Return peers in the order in which they complement a client's classes, the best first.

    Args:
        own: 1 for each class that the client has samples of, else 0.
        others: The same of each peer, by partition id.
        generator: Decides among peers that are equally good, so that no partition id is favoured.
    """
    peers: list[int] = generator.permutation(sorted(others)).tolist()
    known = np.array([list(others[peer]) for peer in peers], dtype=bool)
    ranks = complement(np.array(list(own), dtype=bool), known)
    return [peers[place] for place in np.argsort(-ranks, kind="stable")]
