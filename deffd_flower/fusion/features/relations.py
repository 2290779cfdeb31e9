"""Feature losses that compare relations: where a layer looks, and which samples it finds alike.

They need no equal shapes, so student and teacher may be of different architectures, and get no
adapter. A batch of one sample has no relations: ``sp``, ``rkd`` and ``pkt`` are zero for it.
"""

import torch
from torch import Tensor
from torch.nn import functional

from deffd_flower.errors import RequestError
from deffd_flower.fusion.features.pooling import to_smaller
from deffd_flower.fusion.features.registry import any_shapes, feature_losses

TINY = 1e-12
DISTANCES, ANGLES = 25.0, 50.0


@feature_losses.register("at")
@any_shapes
def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared gap between the normalised spatial attention maps.

    The attention at a position is the mean over channels of f^2. Larger maps are pooled to the
    size of the smaller. Source: Zagoruyko and Komodakis 2017 (ICLR, "Paying more attention to
    attention"), section 3.1, p = 2; the mean over elements is the authors' code's.

    Raises:
        RequestError: The layer has no positions, as a fully connected one.
    """
    if student.dim() != 4 or teacher.dim() != 4:
        shapes = f"{list(student.shape)} and {list(teacher.shape)}"
        advice = f"needs maps with height and width, not {shapes}; type feature-loss=sp"
        raise RequestError("feature-loss", "at", advice)
    ours, theirs = (
        functional.normalize(maps.square().mean(1).flatten(1))
        for maps in to_smaller(student, teacher)
    )
    return functional.mse_loss(ours, theirs)


@feature_losses.register("sp")
@any_shapes
def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared gap between the samples' normalised similarity matrices, over B^2.

    Source: Tung and Mori 2019 (ICCV, "Similarity-preserving knowledge distillation").
    """
    ours, theirs = (functional.normalize(_products(maps)) for maps in (student, teacher))
    return functional.mse_loss(ours, theirs)


@feature_losses.register("rkd")
@any_shapes
def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 25 times the gap between pairwise distances plus 50 times that between angles.

    Distances count in units of their mean; both gaps are Huber losses averaged over all pairs and
    triples. Source: Park et al. 2019 (CVPR, "Relational knowledge distillation"),
    with the weights of its classification experiments.
    """
    distances, angles = zip(*map(_relations, (student, teacher)), strict=True)
    return DISTANCES * functional.smooth_l1_loss(*distances) + ANGLES * functional.smooth_l1_loss(
        *angles
    )


@feature_losses.register("pkt")
@any_shapes
def probabilistic(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over samples of KL(teacher's neighbourhood || student's).

    A sample's neighbourhood is (1 + cosine) / 2 to every sample of the batch, made to sum to one.
    Source: Passalis and Tefas 2018 (ECCV, "Learning deep representations with probabilistic
    knowledge transfer"); the authors' code divides by B once more.
    """
    ours, theirs = map(_neighbourhoods, (student, teacher))
    return functional.kl_div(ours.log(), theirs, reduction="batchmean")


def _products(maps: Tensor) -> Tensor:
    """Return the samples' inner products, [B, B]."""
    rows = maps.flatten(1)
    return rows @ rows.T


def _relations(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances in units of their mean, [B, B], and cosines of angles at i, [i, j, k]."""
    products = _products(maps)
    lengths = products.diagonal()
    squares = lengths.unsqueeze(0) + lengths.unsqueeze(1) - 2 * products
    apart = ~torch.eye(len(maps), dtype=torch.bool, device=maps.device)
    distances = squares.clamp(min=TINY).sqrt() * apart
    mean = distances.sum() / apart.sum().clamp(min=1)
    # (x_j - x_i)(x_k - x_i), from inner products alone: no [B, B, D] tensor is made.
    at_i = products.unsqueeze(0) - products.unsqueeze(1) - products.unsqueeze(2)
    at_i = at_i + lengths.view(-1, 1, 1)
    sides = distances.unsqueeze(1) * distances.unsqueeze(2)
    return distances / mean.clamp(min=TINY), at_i * (sides > 0) / sides.clamp(min=TINY)


def _neighbourhoods(maps: Tensor) -> Tensor:
    rows = functional.normalize(maps.flatten(1))
    kernel = ((1 + rows @ rows.T) / 2).clamp(min=TINY)
    return kernel / kernel.sum(1, keepdim=True)
