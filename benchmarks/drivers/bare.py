"""The reference of `peers`: one loop, NCHW, models averaged in place, no simulator."""

import random

import torch
from torch import nn

from benchmarks.plain import train
from benchmarks.workload import CLIENTS, LR, WARM_UP, Stopwatch, Work, from_command_line


def main(work: Work) -> None:
    """Run and report; a round is twice five clients that train, and five that average."""
    models = [work.model() for _ in range(CLIENTS)]
    watch = Stopwatch()
    for _ in range(WARM_UP + work.rounds):
        for _ in range(2):
            order = random.sample(range(CLIENTS), CLIENTS)
            half = CLIENTS // 2
            for sender, receiver in zip(order[:half], order[half:], strict=True):
                shuffled = torch.randperm(len(work.labels[sender]))
                train(models[sender], work.images[sender], work.labels[sender], shuffled, LR)
                average(models[receiver], models[sender])
                watch.epochs += 1
                watch.exchanges += 1
        if work.evaluate:
            work.accuracy(models)
        watch.round_ended()
    print(watch.report(work.accuracy(models)))


@torch.no_grad()
def average(own: nn.Module, received: nn.Module) -> None:
    """Replace a model's parameters by their mean with another's."""
    for mine, theirs in zip(own.parameters(), received.parameters(), strict=True):
        mine.lerp_(theirs, 0.5)


if __name__ == "__main__":
    main(from_command_line())
