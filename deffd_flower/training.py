"""Stochastic gradient descent over a client's own samples."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.data.datasets import DatasetSpec, normalise
from deffd_flower.fusion.calibration import CrossEntropy
from deffd_flower.optimiser import SGD

Batch = tuple[Tensor, Tensor]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Samples:
    """Labelled images, resident on the device.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: int64 [N].
        spec: The data set they come from, for its normalisation.
    """

    images: Tensor
    labels: Tensor
    spec: DatasetSpec

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        size: int,
        epochs: int = 1,
        generator: torch.Generator | None = None,
        least: int = 1,
    ) -> Iterator[Batch]:
        """Yield (float images [B, C, H, W], labels [B]); the last batch of an epoch may be short.

        Args:
            size: B.
            epochs: Passes over the samples.
            generator: Shuffles each epoch; ``None`` keeps the order.
            least: A smaller batch, which only the last of an epoch can be, is left out.
        """
        return map(self.batch, self.orders(size, epochs, generator, least))

    def batch(self, chosen: Tensor) -> Batch:
        """Return float images [B, C, H, W] and labels [B] of the samples with some numbers."""
        # Several times faster than images[chosen], which goes element by element.
        images, labels = self.images.index_select(0, chosen), self.labels.index_select(0, chosen)
        return normalise(images, self.spec), labels

    def orders(
        self,
        size: int,
        epochs: int = 1,
        generator: torch.Generator | None = None,
        least: int = 1,
    ) -> Iterator[Tensor]:
        """Yield the numbers [B] of the samples in each of the `batches`, on their device."""
        for _ in range(epochs):
            if generator is None:
                order = torch.arange(len(self))
            else:
                order = torch.randperm(len(self), generator=generator)
            for chosen in torch.split(order.to(self.labels.device), size):
                if len(chosen) >= least:
                    yield chosen


def least_batch(model: nn.Module) -> int:
    """Return how many samples a batch needs to train on.

    Two with batch normalisation: one sample has no variance over the batch to be normalised by.
    """
    return 2 if any(isinstance(module, BATCH_NORMS) for module in model.modules()) else 1


def arithmetic(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which models compute: float32, or bfloat16 where PyTorch takes it.

    Weights, gradients and losses stay float32.
    """
    # Its cache would keep the weights of the first step, as bfloat16, for all steps in the context.
    bf16 = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)


def sgd(model: nn.Module, config: RunConfig) -> SGD:
    """Return a fresh optimiser for one model: no momentum survives a phase."""
    return SGD(model.parameters(), config.lr, config.momentum)


class RunningMeans:
    """Averages named scalars over steps without a device synchronisation per step."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Count one step's values."""
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1

    def means(self) -> dict[str, float]:
        """Return the mean of each name, empty before the first step."""
        return {name: float(total) / self._steps for name, total in self._sums.items()}


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    config: RunConfig,
    cross_entropy: CrossEntropy = functional.cross_entropy,
) -> dict[str, float]:
    """Minimise cross-entropy in place over the batches; return the mean loss as ``train``."""
    optimiser = sgd(model, config)
    means = RunningMeans()
    model.train()
    for images, labels in batches:
        loss = cross_entropy(model(images).float(), labels)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        means.add({"train": loss.detach()})
    return means.means()
