"""Fusion by averaging weights: FullAvg and Combo."""

import copy

import torch
from torch import Tensor, nn

from deffd_flower.fusion.package import join, split
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.training import train


def mean_model(own: nn.Module, other: nn.Module, share: float) -> nn.Module:
    """Return a copy of ``own`` whose floating-point state is (1 - share) own + share other.

    Integer state, such as BatchNorm's step count, stays the own model's.
    """
    mean = copy.deepcopy(own)
    theirs = other.state_dict()
    with torch.no_grad():
        for name, value in mean.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name], share)
    return mean


@fusion_rules.register("pair-mean")
def pair_mean(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    """Average with each received model in turn, half and half (FullAvg over one pair)."""
    own = fusion.own
    for package in fusion.received:
        own = mean_model(own, fusion.model_of(package), 0.5)
    return own, _train_on(own, fusion)


@fusion_rules.register("segment-mean")
def segment_mean(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    """Replace each segment by the sample-weighted mean of the own and the pulled ones.

    w_i^(s) <- (n_i w_i^(s) + sum_j n_j w_j^(s)) / (n_i + sum_j n_j), j over the peers that sent
    segment s. Source: Hu, Jiang, Wang 2019 (arXiv 1908.07782), segmented gossip aggregation.
    """
    pieces = [
        _weighted_mean(piece, index, fusion)
        for index, piece in enumerate(split(fusion.own, fusion.config.segments))
    ]
    join(fusion.own, pieces)
    return fusion.own, _train_on(fusion.own, fusion)


def _weighted_mean(piece: Tensor, index: int, fusion: Fusion) -> Tensor:
    pulled = [package for package in fusion.received if index in package.segments]
    total = fusion.samples + sum(package.samples for package in pulled)
    mean = piece * (fusion.samples / total)
    for package in pulled:
        mean = mean + package.segments[index].to(piece) * (package.samples / total)
    return mean


def _train_on(model: nn.Module, fusion: Fusion) -> dict[str, float]:
    """Make the optional local pass after averaging, for comparisons at equal compute."""
    batches = fusion.batches(fusion.config.average_epochs, 0)
    losses = train(model, batches, fusion.config, fusion.cross_entropy)
    return {"ce": losses["train"]} if losses else {}
