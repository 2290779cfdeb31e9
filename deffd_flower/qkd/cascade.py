"""Error correction: the Cascade of TNO's ``qkd_key_rate``, with fewer bits given away.

TNO's classes hold the messages, run the passes and bisect. Three things differ here. Alice answers
a question once, so a parity Bob knows costs nothing when he comes back to it. Bob goes back to
every block an error sits in, not only to those of passes before the one it was found in. And the
block sizes are the published best ones.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deffd_flower.errors import RequestError

Bits = NDArray[np.uint8]

FRAME_BITS = 10_000
PASSES = 14


@dataclass(frozen=True)
class Reconciliation:
    """What error correction did.

    Args:
        corrected: Bob's bits afterwards, (n,); equal to Alice's unless errors stayed hidden.
        leak: Parity bits of Alice's that became public.
        errors: Bits that Bob flipped.
    """

    corrected: Bits
    leak: int
    errors: int


def block_sizes(bits: int, error_rate: float) -> list[int]:
    """Return the block size of each pass over a frame.

    With a = log2(1/Q) - 1/2: 2^ceil(a), 2^ceil((a + 12) / 2), 4096, then halves of the frame.

    Source: Martinez-Mateo, Pacher, Peev, Ciurana and Martin, Quantum Inf. Comput. 15, 453 (2015),
    table 1, the near-optimal choice for frames of 10,000 bits.
    """
    half = max(math.ceil(bits / 2), 1)
    a = math.log2(1 / max(error_rate, 1 / bits)) - 0.5
    sizes = [2 ** max(math.ceil(a), 0), 2 ** math.ceil((a + 12) / 2), 4096]
    return [min(size, half) for size in sizes] + [half] * (PASSES - len(sizes))


def reconcile(
    alice: Bits, bob: Bits, error_rate: float, generator: np.random.Generator
) -> Reconciliation:
    """Correct Bob's bits to Alice's, frame by frame.

    Args:
        alice: Alice's bits, (n,).
        bob: Bob's bits, (n,).
        error_rate: The QBER both expect.
        generator: Draws the permutations, which are public.

    Raises:
        RequestError: TNO's package is not installed.
    """
    try:
        from deffd_flower.qkd.tno_cascade import Answerer, Corrector, Permutations
    except ImportError as problem:
        advice = 'Cascade needs TNO\'s package: pip install "deffd-flower[qkd]"'
        raise RequestError("bit-level", None, advice) from problem
    bits, frames = len(alice), max(round(len(alice) / FRAME_BITS), 1)
    permutations = {
        size: Permutations([generator.permutation(size).tolist() for _ in range(PASSES)])
        for size in {-(-bits // frames), bits // frames}
    }
    corrected, leak, errors = [], 0, 0
    for mine, his in zip(np.array_split(alice, frames), np.array_split(bob, frames), strict=True):
        sender = Answerer(mine, permutations[len(mine)])
        sizes = block_sizes(len(his), error_rate)
        receiver = Corrector(his, permutations[len(his)], sizes)
        receiver.correct_errors(sender)
        corrected.append(receiver.corrected)
        leak += sender.number_of_exposed_bits
        errors += int(np.count_nonzero(receiver.corrected != his))
    return Reconciliation(np.concatenate(corrected), leak, errors)
