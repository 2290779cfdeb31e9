"""The work that every simulator in `peers` is given, and how its time is taken.

It imports nothing but PyTorch: the drivers of other simulators run it in their own environments.

Ten clients with 600 images each train the network of the paper for one epoch at a time, in
batches of 32, with SGD at 0.01, and average pairwise. What counts is the time of ten client epochs
with ten exchanges, whatever a simulator calls a round.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from benchmarks.plain import accuracy, cnn

CLIENTS, IMAGES, TEST_IMAGES = 10, 600, 2000
BATCH, LR = 32, 0.01
WARM_UP, TIMED, TIMED_WITH_EVALUATION = 3, 8, 3


@dataclass(frozen=True)
class Work:
    """What one simulator is to do.

    Attributes:
        images: Float NCHW images, normalised, [CLIENTS, IMAGES, 1, 28, 28].
        labels: [CLIENTS, IMAGES].
        test_images: [TEST_IMAGES, 1, 28, 28].
        test_labels: [TEST_IMAGES].
        initial: The weights all clients start from, as `cnn` names them.
        evaluate: Whether all ten models are evaluated after every ten client epochs.
        rounds: Rounds to be timed, after `WARM_UP` others.
        threads: Intra-op threads.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    initial: dict[str, Tensor]
    evaluate: bool
    rounds: int
    threads: int

    def model(self) -> nn.Sequential:
        """Return the network with the initial weights, in NCHW."""
        model = cnn()
        model.load_state_dict(self.initial)
        return model

    def accuracy(self, models: Iterable[nn.Module]) -> float:
        """Return the mean accuracy of some models."""
        return fmean(accuracy(model, self.test_images, self.test_labels) for model in models)


def from_command_line() -> Work:
    """Read the work that `peers` hands to a driver: a file, rounds, threads, ``--evaluate``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("rounds", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("--evaluate", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tensors = torch.load(given.file, weights_only=True)
    return Work(**tensors, evaluate=given.evaluate, rounds=given.rounds, threads=given.threads)


class Stopwatch:
    """Takes the time of rounds, and counts what a simulator does in them.

    Attributes:
        epochs: Client epochs so far.
        exchanges: Models sent so far.
        epoch_s: Seconds of client epochs, where a simulator's rounds have too few of them.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.epochs = 0
        self.exchanges = 0
        self.epoch_s: list[float] = []
        self._rounds: list[tuple[float, int, int]] = []

    def round_ended(self) -> None:
        """Note where things stand."""
        self._rounds.append((self._clock(), self.epochs, self.exchanges))

    def report(self, accuracy: float) -> str:
        """Return the steady state after `WARM_UP` rounds, as JSON.

        A simulator whose rounds hold fewer than ten client epochs is charged the missing ones at
        what one of its epochs takes, and nothing for the exchanges that would go with them.
        """
        first, last = self._rounds[WARM_UP - 1], self._rounds[-1]
        rounds = len(self._rounds) - WARM_UP
        per_round, epochs, exchanges = ((b - a) / rounds for a, b in zip(first, last, strict=True))
        missing = (CLIENTS - epochs) * fmean(self.epoch_s) if self.epoch_s else 0.0
        told: dict[str, object] = {
            "seconds": per_round + missing,
            "seconds_per_round": per_round,
            "epochs_per_round": epochs,
            "exchanges_per_round": exchanges,
            "accuracy": accuracy,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }
        return json.dumps(told)
