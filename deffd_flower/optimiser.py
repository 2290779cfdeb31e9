"""Stochastic gradient descent: PyTorch's own arithmetic without `torch.optim.SGD` around it.

The first `torch.optim.Optimizer` of a process imports PyTorch's compiler, which takes more than a
second: of every start, and of every message on a real node, where each message is a process.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class SGD:
    """Steps parameters against their gradients, bit for bit as `torch.optim.SGD` does.

    Args:
        parameters: What learns.
        lr: Learning rate.
        momentum: Of the running sum of gradients, which starts as the first gradient.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float) -> None:
        self.lr = lr
        self.momentum = momentum
        self._parameters: list[Tensor] = []
        self._sums: list[Tensor | None] = []
        self.add(parameters)

    def add(self, parameters: Iterable[Tensor]) -> None:
        """Let more parameters learn."""
        self._parameters += parameters
        self._sums += [None] * (len(self._parameters) - len(self._sums))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter that has a gradient."""
        moving = [i for i, each in enumerate(self._parameters) if each.grad is not None]
        sums = [self._sums[i] for i in moving]
        gradients = [self._parameters[i].grad for i in moving]
        sgd(
            [self._parameters[i] for i in moving],
            [gradient for gradient in gradients if gradient is not None],
            sums if self.momentum else [],
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=0.0,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for i, total in zip(moving, sums, strict=True):
            self._sums[i] = total
