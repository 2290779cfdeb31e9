"""Training many clients' models at once: each layer is called once for all of them.

The models' weights are stacked and `torch.vmap` maps the network over the stack; convolutions
become grouped ones. A small model leaves a GPU idle most of the time, a stack of them less so. On a
CPU, which one model keeps busy, this is slower than one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from deffd_flower.config import RunConfig
from deffd_flower.data.datasets import normalise
from deffd_flower.fusion.calibration import CrossEntropy
from deffd_flower.training import Samples

Stack = dict[str, Tensor]
"""Name -> the weights of all models, [K, ...]."""


@dataclass(frozen=True)
class Pupil:
    """One client's training.

    Attributes:
        model: What learns, in place.
        samples: What it learns from.
        orders: The numbers of the samples in each batch, in the order of the steps.
        cross_entropy: The client's own loss.
    """

    model: nn.Module
    samples: Samples
    orders: Sequence[Tensor]
    cross_entropy: CrossEntropy


def train_together(pupils: Sequence[Pupil], config: RunConfig) -> list[float]:
    """Do to each model what `train` does, and return the mean losses.

    The models have one architecture and `can_be_stacked`. Pupils may have different numbers of
    samples: those with fewer steps are done earlier. Weights differ from those of `train` in
    rounding alone.
    """
    turns = sorted(range(len(pupils)), key=lambda place: -len(pupils[place].orders))
    stacked = _Class([pupils[place] for place in turns], config)
    losses = dict(zip(turns, stacked.train(), strict=True))
    return [losses[place] for place in range(len(pupils))]


def can_be_stacked(model: nn.Module, shape: Sequence[int], device: torch.device) -> bool:
    """Say whether a stack of such models computes what each of them does.

    Not with buffers, such as the running statistics of batch normalisation, nor where a sample
    changes what is said of its neighbours, nor with layers that draw, such as Dropout, nor where
    a value decides what is computed.

    Args:
        model: In training mode afterwards.
        shape: Channels, height and width of an image.
        device: Where the model is.
    """
    if any(True for _ in model.buffers()):
        return False
    # Two models, two images each, and a third as short batches are filled up with.
    images = torch.tensor([[1.0, -1.0, 0.0], [-0.5, 2.0, 0.0]], device=device)
    images = images.view(2, 3, 1, 1, 1).expand(2, 3, *shape).contiguous()
    model.train()
    stack = {name: torch.stack([p.detach()] * 2) for name, p in model.named_parameters()}
    with torch.no_grad():
        try:
            together = _predict(model, stack, images)
        except (RuntimeError, TypeError):
            return False
        alone = torch.stack([model(each[:2]) for each in images])
    return torch.allclose(together[:, :2], alone, atol=1e-3, rtol=1e-3)


def _predict(model: nn.Module, stack: Stack, images: Tensor) -> Tensor:
    """Return the logits [K, B, C] of K models, each for its own images [K, B, C, H, W]."""

    def one(weights: Stack, batch: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, weights, (batch,))
        return logits

    logits: Tensor = vmap(one)(stack, images)
    return logits


class _Class:
    """Pupils side by side, those with the most steps first."""

    def __init__(self, pupils: Sequence[Pupil], config: RunConfig) -> None:
        self._pupils = pupils
        self._config = config
        self._model = pupils[0].model.train()
        each = [dict(pupil.model.named_parameters()) for pupil in pupils]
        self._stack = {name: torch.stack([own[name].detach() for own in each]) for name in each[0]}
        self._learns = [name for name, own in each[0].items() if own.requires_grad]
        self._sums: Stack = {}

    def train(self) -> list[float]:
        """Make all steps, hand the weights back to the models, return the mean losses."""
        totals = torch.zeros(len(self._pupils), device=self._pupils[0].samples.labels.device)
        for step in range(len(self._pupils[0].orders)):
            live = [pupil for pupil in self._pupils if len(pupil.orders) > step]
            totals[: len(live)] += self._step(live, step)
        self._hand_back()
        steps = [len(pupil.orders) for pupil in self._pupils]
        return [total / max(of, 1) for total, of in zip(totals.tolist(), steps, strict=True)]

    def _step(self, live: Sequence[Pupil], step: int) -> Tensor:
        """Let the first pupils learn from one batch each; return their losses."""
        images, labels = _batches(live, step)
        weights = {name: values[: len(live)].detach() for name, values in self._stack.items()}
        for name in self._learns:
            weights[name].requires_grad_()
        logits = _predict(self._model, weights, images).float()
        losses = torch.stack(
            [
                pupil.cross_entropy(own[: len(right)], right)
                for pupil, own, right in zip(live, logits, labels, strict=True)
            ]
        )
        torch.autograd.backward(losses.sum())
        self._move(weights)
        return losses.detach()

    @torch.no_grad()
    def _move(self, weights: Stack) -> None:
        """Step as `SGD` does; the weights are views of the stack."""
        for name in self._learns:
            gradient = weights[name].grad
            if gradient is None:
                continue
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(self._stack[name])
            total = self._sums[name][: len(gradient)]
            total.mul_(self._config.momentum).add_(gradient)
            weights[name].add_(total, alpha=-self._config.lr)

    @torch.no_grad()
    def _hand_back(self) -> None:
        for place, pupil in enumerate(self._pupils):
            for name, parameter in pupil.model.named_parameters():
                parameter.copy_(self._stack[name][place])


def _batches(live: Sequence[Pupil], step: int) -> tuple[Tensor, list[Tensor]]:
    """Return images [K, B, C, H, W], shorter batches filled up with zeros, and the labels."""
    orders = [pupil.orders[step] for pupil in live]
    picked = [p.samples.images.index_select(0, own) for p, own in zip(live, orders, strict=True)]
    labels = [p.samples.labels.index_select(0, own) for p, own in zip(live, orders, strict=True)]
    images = nn.utils.rnn.pad_sequence(picked, batch_first=True)
    pixels = normalise(images.flatten(0, 1), live[0].samples.spec)
    return pixels.view(*images.shape[:2], *pixels.shape[1:]), labels
