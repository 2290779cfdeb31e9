"""How far the clients' models are apart, estimated without the server seeing a model.

The consensus distance of n models with parameters w_1, ..., w_n in R^d and mean w is

    Xi = sqrt( 1/n sum_i ||w_i - w||^2 ),

after Kong et al. 2021 ("Consensus control for decentralized deep learning", ICML). Each client
tells R w_i alone: R is a 64 x d matrix of random signs over sqrt(64), the same for all clients and
rounds. As E ||R v||^2 = ||v||^2 for any v (Achlioptas 2003, "Database-friendly random
projections"), the squared distance computed from the projections is unbiased. Its relative
standard deviation is at most sqrt(2 / 64), 18 %, which is reached where all models differ along one
line; that of the distance is about half of it, 9 %.

The server's half needs no PyTorch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deffd_flower.randomness import numpy_generator

if TYPE_CHECKING:
    from torch import Tensor, nn

DIMENSION = 64
CHUNK = 16_384
"""Parameters that are projected at once: their signs take 4 MB."""

METRICS = [f"projection-{row}" for row in range(DIMENSION)]
"""The names of a client's projection among its metrics."""


def projection(model: "nn.Module", seed: int, chunk: int = CHUNK) -> list[float]:
    """Return a model's projection R w, [64].

    Args:
        model: Its parameters count, in their order, and no buffers such as BatchNorm's statistics.
        seed: The run's seed, which keys R.
        chunk: Parameters to project at once; R is drawn anew as it is needed and never held.
    """
    import torch

    generator = numpy_generator(seed, "consensus")
    total = torch.zeros(DIMENSION, dtype=torch.float64)
    for parameter in model.parameters():
        for weights in torch.split(parameter.detach().cpu().float().flatten(), chunk):
            total += weights @ _signs(generator, len(weights))
    projected: list[float] = (total / math.sqrt(DIMENSION)).tolist()
    return projected


def consensus_distance(clients: Sequence[Mapping[str, float]]) -> float:
    """Return the estimate from all clients' metrics."""
    projections = np.array([[client[name] for name in METRICS] for client in clients])
    # From one of them instead of from zero: equal models are then at distance zero exactly.
    apart = projections - projections[0]
    apart -= apart.mean(axis=0)
    return math.sqrt(np.square(apart).sum(axis=1).mean())


def _signs(generator: np.random.Generator, rows: int) -> "Tensor":
    """Return the next rows of R transposed, times sqrt(64): 64 random bits each, as -1 and 1."""
    import torch

    drawn = np.frombuffer(generator.bytes(rows * DIMENSION // 8), dtype=np.uint8)
    bits = torch.from_numpy(np.unpackbits(drawn).reshape(rows, DIMENSION))
    return bits.float().mul_(2).sub_(1)
