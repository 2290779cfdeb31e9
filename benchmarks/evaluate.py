"""`evaluate`: judging one client's model, against a plain loop over the test set.

Ours counts more: besides the global test set, the client's held-out samples, twice. The plain
loop takes 1,000 images at a time in NCHW, as one does who wants few batches. Both run on one
thread and must find the same accuracy.
"""

import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Options, Result, in_turn, ratio_of
from benchmarks.plain import accuracy
from benchmarks.train_step import QUICK, check_equal, plain_samples, plain_twin
from deffd_flower.data.client import client_data
from deffd_flower.peer import Peer
from deffd_flower.request import resolve

PAPER: dict[str, object] = {"clients": 10, "samples-per-client": 600}


def measure(options: Options) -> Iterator[Result]:
    """Yield the plain loop's seconds per model / ours."""
    torch.set_num_threads(1)
    config = resolve(QUICK if options.quick else PAPER)
    data = client_data(config, 0)
    peer = Peer(0, data, config)
    peer.train(1)
    images, labels = plain_samples(data.test)
    model = plain_twin(peer)
    reached: dict[str, float] = {}

    def ours() -> float:
        started = time.perf_counter()
        reached["ours"] = peer.evaluate()["global_accuracy"]
        return time.perf_counter() - started

    def plain() -> float:
        started = time.perf_counter()
        reached["plain"] = accuracy(model, images, labels)
        return time.perf_counter() - started

    plain()
    ours()
    measured = in_turn({"plain": plain, "ours": ours}, options)
    check_equal(reached)
    yield ratio_of("evaluate", measured, "plain", "ours", images=len(labels), accuracy=reached)
