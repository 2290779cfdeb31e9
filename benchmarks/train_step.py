"""`train-step`: a client's training, against the loop somebody new to PyTorch writes.

Both train the same network from the same weights over the same samples in the same order, on one
thread, and must reach the same accuracy.
"""

import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Options, Result, in_turn, ratio_of
from benchmarks.plain import accuracy, cnn, nchw, train
from deffd_flower.data.client import client_data
from deffd_flower.data.datasets import normalise
from deffd_flower.errors import DeffdError
from deffd_flower.peer import Peer
from deffd_flower.randomness import torch_generator
from deffd_flower.request import resolve
from deffd_flower.training import Samples

KEYS: dict[str, object] = {"partition": "iid", "local-epochs": 1, "clients": 2}
PAPER: dict[str, object] = {**KEYS, "samples-per-client": 7500}
QUICK: dict[str, object] = {
    **KEYS,
    "samples-per-client": 1000,
    "lr": 0.03,
    "dataset": "benchmarks.datasets:patterns",
}
EQUAL = 0.01


def measure(options: Options) -> Iterator[Result]:
    """Yield the plain loop's seconds / ours for one epoch of 6,000 images."""
    torch.set_num_threads(1)
    config = resolve(QUICK if options.quick else PAPER)
    data = client_data(config, 0)
    reached: dict[str, float] = {}

    def ours() -> float:
        peer = Peer(0, data, config)
        started = time.perf_counter()
        peer.train(1)
        spent = time.perf_counter() - started
        reached["ours"] = peer.evaluate()["global_accuracy"]
        return spent

    def plain() -> float:
        model = plain_twin(Peer(0, data, config))
        images, labels = plain_samples(data.train)
        generator = torch_generator(config.seed, "train", 0, 1)
        started = time.perf_counter()
        order = torch.randperm(len(labels), generator=generator)
        train(model, images, labels, order, config.lr, config.momentum, config.batch_size)
        spent = time.perf_counter() - started
        reached["plain"] = accuracy(model, *plain_samples(data.test))
        return spent

    plain()
    measured = in_turn({"plain": plain, "ours": ours}, options)
    check_equal(reached)
    steps = -(-len(data.train) // config.batch_size)
    yield ratio_of("train-step", measured, "plain", "ours", steps=steps, accuracy=reached)


def plain_twin(peer: Peer) -> torch.nn.Module:
    """Return the plain network, in NCHW, with a peer's weights."""
    model = cnn()
    weights = peer.model.state_dict().values()
    model.load_state_dict(dict(zip(model.state_dict(), weights, strict=True)))
    return model


def plain_samples(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images as NCHW floats, normalised beforehand, with their labels."""
    return nchw(normalise(samples.images, samples.spec)), samples.labels


def check_equal(reached: dict[str, float]) -> None:
    """Refuse to compare speeds at different accuracies.

    Raises:
        DeffdError: The accuracies differ by more than a hundredth.
    """
    ours, plain = reached["ours"], reached["plain"]
    if not abs(ours - plain) <= EQUAL:
        raise DeffdError(f"the accuracies are not equal: ours {ours:.3f}, plain {plain:.3f}")
