"""Calibration, anchor and average-then-distil against loops in plain PyTorch.

They share forward pass, batches and optimiser with ``test_procedure_one``: nothing of the package
but the data. The network is smooth, so that no rounding decides which way a ReLU or a maximum goes.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.data.client import ClientData, client_data
from deffd_flower.fusion.package import Package
from deffd_flower.models import build_model
from deffd_flower.peer import Peer
from deffd_flower.randomness import derived_seed
from tests.fusion import test_procedure_one as procedure_one
from tests.fusion.test_procedure_one import (
    CLIENTS,
    EPOCHS,
    PAIRS,
    batches,
    divergence,
    entropy,
    forward,
    l2,
    largest_gap,
    step,
    with_peers,
    zeros,
)

Fuse = Callable[["Receiver"], nn.Module]
MODEL = "tests.fusion.test_reference_loops:smooth"


def smooth(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Two convolutions with tanh and mean-pooling."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], 8, 3, padding=1),
            tanh1=nn.Tanh(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(8, 16, 3, padding=1),
            tanh2=nn.Tanh(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc=nn.Linear(16 * (shape[1] // 4) * (shape[2] // 4), classes),
        )
    )


def a_config(**keys: object) -> RunConfig:
    return procedure_one.a_config(model=MODEL, **keys)


def reference_model(seed: int) -> nn.Module:
    return build_model(MODEL, (1, 8, 8), 10, derived_seed(seed, "initial-weights"))


class Receiver:
    """What a receiver has when a model has come."""

    def __init__(
        self, own: nn.Module, received: nn.Module, data: ClientData, config: RunConfig
    ) -> None:
        self.own, self.received = own, received
        self.data, self.config = data, config
        self.keys: tuple[int, int] = (0, 0)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(self.data, 1, self.config.seed, "fuse", *self.keys, 0)

    def entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return calibrated(logits, labels, self.data, self.config)


def calibrated(logits: Tensor, labels: Tensor, data: ClientData, config: RunConfig) -> Tensor:
    if config.calibrate == "prior":
        counts = torch.bincount(data.train.labels, minlength=10)
        logits = logits + torch.log(counts / len(data.train.labels) + 1e-4)
    return entropy(logits, labels)


def reference(config: RunConfig, data: list[ClientData], fuse: Fuse) -> list[nn.Module]:
    models = [reference_model(config.seed) for _ in range(CLIENTS)]
    for server_round, pairs in PAIRS.items():
        sent = {}
        for sender, receiver in pairs:
            momenta = zeros(models[sender])
            for images, labels in batches(
                data[sender], EPOCHS, config.seed, "train", sender, server_round
            ):
                logits, _ = forward(models[sender], images)
                step(models[sender], calibrated(logits, labels, data[sender], config), momenta)
            sent[receiver] = models[sender]
        for receiver, model in sent.items():
            scene = Receiver(models[receiver], copy.deepcopy(model), data[receiver], config)
            scene.keys = (receiver, server_round)
            models[receiver] = fuse(scene)
    return models


def mutual(scene: Receiver) -> nn.Module:
    """Def-FD; the kept model also holds on to the received one as it came."""
    received, own, config = scene.received, scene.own, scene.config
    keeps_own = config.receiver_keeps == "own"
    start, kept = copy.deepcopy(received), own if keeps_own else received
    momenta = {model: zeros(model) for model in (received, own)}
    for images, labels in scene.batches():
        outputs = {model: forward(model, images) for model in (received, own)}
        with torch.no_grad():
            held, _ = forward(start, images)
        losses = {}
        for student, teacher in ((received, own), (own, received)):
            (logits, maps), (target, far) = outputs[student], outputs[teacher]
            loss = scene.entropy(logits, labels) + divergence(target.detach(), logits)
            loss = loss + float(config.gamma) * l2(maps, [map_.detach() for map_ in far])
            if student is kept:
                loss = loss + config.anchor * divergence(held, logits)
            losses[student] = loss
        for student, loss in losses.items():
            step(student, loss, momenta[student])
    return kept


def average_then_distil(scene: Receiver) -> nn.Module:
    """The mean of both models, taught by both as they were."""
    student, parents = copy.deepcopy(scene.own), (scene.own, scene.received)
    with torch.no_grad():
        trio = zip(*(model.parameters() for model in (student, *parents)), strict=True)
        for weight, mine, theirs in trio:
            weight.copy_((mine + theirs) / 2)
    momenta = zeros(student)
    for images, labels in scene.batches():
        logits, maps = forward(student, images)
        loss = scene.entropy(logits, labels)
        for parent in parents:
            with torch.no_grad():
                target, far = forward(parent, images)
            loss = (
                loss + (divergence(target, logits) + float(scene.config.gamma) * l2(maps, far)) / 2
            )
        step(student, loss, momenta)
    return student


CASES: list[tuple[Fuse, dict[str, object]]] = [
    (mutual, {"calibrate": "prior", "gamma": 0.01}),
    (mutual, {"anchor": 0.7, "gamma": 0.01}),
    (mutual, {"anchor": 0.7, "gamma": 0.01, "receiver_keeps": "own", "calibrate": "prior"}),
    (average_then_distil, {"strategy": "average-then-distil", "gamma": 0.01}),
    (average_then_distil, {"strategy": "average-then-distil", "calibrate": "prior"}),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("fuse", "keys"), CASES)
def test_three_rounds_give_the_weights_of_a_loop_in_plain_pytorch(
    fuse: Fuse, keys: dict[str, object]
) -> None:
    config = a_config(**keys)
    data = [client_data(config, client) for client in range(CLIENTS)]
    ours, theirs = with_peers(config, data), reference(config, data, fuse)
    untrained = reference_model(config.seed)
    for model, judge in zip(ours, theirs, strict=True):
        assert largest_gap(model, judge) < 2e-6
        assert largest_gap(model, untrained) > 0.02, "the judge has judged something"


def test_the_cases_end_in_different_weights() -> None:
    configs = [a_config(gamma=0.01), *(a_config(**keys) for _, keys in CASES)]
    data = [client_data(configs[0], client) for client in range(CLIENTS)]
    models = [with_peers(config, data)[1] for config in configs]
    assert all(largest_gap(one, other) > 1e-4 for one, other in pairwise(models))


@pytest.mark.parametrize("strategy", ["full-avg", "combo", "local", "fedavg"])
def test_every_strategy_trains_locally_with_the_calibrated_cross_entropy(strategy: str) -> None:
    suite = {"suite": "none"} if strategy == "fedavg" else {}
    config = a_config(strategy=strategy, calibrate="prior", **suite)
    data = [client_data(config, client) for client in range(CLIENTS)]
    model = reference_model(config.seed)
    momenta = zeros(model)
    for images, labels in batches(data[2], EPOCHS, config.seed, "train", 2, 1):
        logits, _ = forward(model, images)
        step(model, calibrated(logits, labels, data[2], config), momenta)
    peer = Peer(2, data[2], config)
    peer.train(1)
    assert largest_gap(peer.model, model) < 1e-6


def test_the_pass_after_averaging_is_calibrated_too() -> None:
    config = a_config(strategy="full-avg", average_epochs=1, calibrate="prior")
    data = [client_data(config, client) for client in (0, 1)]
    peer = Peer(0, data[0], config)
    package = Package.decode(Peer(1, data[1], config).package([]))
    peer.fuse([package], 1)
    model = reference_model(config.seed)
    momenta = zeros(model)
    for images, labels in batches(data[0], 1, config.seed, "fuse", 0, 1, 0):
        logits, _ = forward(model, images)
        step(model, calibrated(logits, labels, data[0], config), momenta)
    assert largest_gap(peer.model, model) < 1e-6
