"""What somebody writes who starts with PyTorch: NCHW tensors, one loop, nothing tuned.

It is the reference of several benchmarks. It imports nothing but PyTorch, so that it also runs in
the environments of other simulators.
"""

import torch
from torch import Tensor, nn


def cnn() -> nn.Sequential:
    """Return the network of the paper: 29,066 parameters on 1x28x28 images and 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 3 * 3, 10),
    )


def nchw(images: Tensor) -> Tensor:
    """Return a copy of images [N, 1, H, W] whose strides are those of NCHW.

    With one channel the strides of a channels-last tensor fit both layouts, and PyTorch computes
    in channels-last then. So a permuted tensor will not do, nor will ``contiguous()``.
    """
    return images.squeeze(1).clone(memory_format=torch.contiguous_format).unsqueeze(1)


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    lr: float,
    momentum: float = 0.0,
    batch: int = 32,
) -> None:
    """Train for one pass over the samples in the given order."""
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    model.train()
    for chosen in torch.split(order, batch):
        loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 1000) -> float:
    """Return the fraction of images that the model classifies correctly."""
    model.eval()
    batches = zip(torch.split(images, batch), torch.split(labels, batch), strict=True)
    right = 0
    for some, of_some in batches:
        right += int((model(some).argmax(1) == of_some).sum())
    return right / len(labels)
