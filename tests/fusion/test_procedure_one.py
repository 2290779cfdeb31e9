"""The judge: Def-KT's Procedure 1 and its Def-FD extension in plain PyTorch.

Shares no code with the package but the model and the data: its own partition of work, its own
losses, its own optimiser step. Whoever trains, sends and receives is given, not drawn.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.data.client import ClientData, client_data
from deffd_flower.fusion.package import Package
from deffd_flower.models import build_model
from deffd_flower.peer import Peer
from deffd_flower.randomness import derived_seed, torch_generator
from deffd_flower.request import resolve

CLIENTS, ROUNDS = 4, 3
PAIRS = {1: [(0, 1), (2, 3)], 2: [(1, 2), (3, 0)], 3: [(0, 3), (2, 1)]}
LR, MOMENTUM, BATCH, EPOCHS = 0.01, 0.9, 32, 2

Momenta = list[Tensor]


def reference_model(seed: int) -> nn.Module:
    return build_model("cnn", (1, 8, 8), 10, derived_seed(seed, "initial-weights"))


def batches(data: ClientData, epochs: int, *keys: int | str) -> Iterator[tuple[Tensor, Tensor]]:
    seed, purpose, *rest = keys
    generator = torch_generator(int(seed), str(purpose), *map(int, rest))
    for _ in range(epochs):
        order = torch.randperm(len(data.train.labels), generator=generator)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            pixels = data.train.images[chosen].float().permute(0, 3, 1, 2) / 255
            mean, std = data.train.spec.mean[0], data.train.spec.std[0]
            yield (pixels - mean) / std, data.train.labels[chosen]


def forward(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and the three convolutions' outputs, layer by layer instead of by hooks."""
    maps = []
    for name, layer in model.named_children():
        images = layer(images)
        if name.startswith("conv"):
            maps.append(images)
    return images, maps


def step(model: nn.Module, loss: Tensor, momenta: Momenta) -> None:
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for weight, gradient, momentum in zip(model.parameters(), gradients, momenta, strict=True):
            momentum.mul_(MOMENTUM).add_(gradient)
            weight.sub_(LR * momentum)


def zeros(model: nn.Module) -> Momenta:
    return [torch.zeros_like(weight) for weight in model.parameters()]


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -functional.log_softmax(logits, 1)[torch.arange(len(labels)), labels].mean()


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    p = teacher.softmax(1)
    return (p * (p.log() - student.softmax(1).log())).sum(1).mean()


def l2(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    gaps = [(s - t).flatten(1) for s, t in zip(student, teacher, strict=True)]
    return torch.stack([gap.pow(2).sum(1).sqrt().mean() for gap in gaps]).sum()


def reference(config: RunConfig, data: list[ClientData]) -> list[nn.Module]:
    models = [reference_model(config.seed) for _ in range(CLIENTS)]
    for server_round, pairs in PAIRS.items():
        sent = {}
        for sender, receiver in pairs:
            momenta = zeros(models[sender])
            for images, labels in batches(
                data[sender], EPOCHS, config.seed, "train", sender, server_round
            ):
                loss = entropy(forward(models[sender], images)[0], labels)
                step(models[sender], loss, momenta)
            sent[receiver] = models[sender]
        for receiver, model in sent.items():
            received, own = reference_model(config.seed), models[receiver]
            received.load_state_dict(model.state_dict())
            mr, mw = zeros(received), zeros(own)
            for images, labels in batches(
                data[receiver], 1, config.seed, "fuse", receiver, server_round, 0
            ):
                (zr, fr), (zw, fw) = forward(received, images), forward(own, images)
                cr, cw = [f.detach() for f in fr], [f.detach() for f in fw]
                loss_r = entropy(zr, labels) + divergence(zw.detach(), zr)
                loss_w = entropy(zw, labels) + divergence(zr.detach(), zw)
                if config.gamma:
                    loss_r = loss_r + float(config.gamma) * l2(fr, cw)
                    loss_w = loss_w + float(config.gamma) * l2(fw, cr)
                step(received, loss_r, mr)
                step(own, loss_w, mw)
            models[receiver] = received
    return models


def with_peers(
    config: RunConfig, data: list[ClientData], deliver: Callable[[bytes], bytes] = lambda b: b
) -> list[nn.Module]:
    peers = [Peer(client, data[client], config) for client in range(CLIENTS)]
    for server_round, pairs in PAIRS.items():
        mail = []
        for sender, receiver in pairs:
            peers[sender].train(server_round)
            mail.append((receiver, deliver(peers[sender].package([]))))
        for receiver, blob in mail:
            peers[receiver].fuse([Package.decode(blob)], server_round)
    return [peer.model for peer in peers]


def a_config(**keys: object) -> RunConfig:
    request = {key.replace("_", "-"): value for key, value in keys.items()}
    own = {"dataset": "digits", "clients": CLIENTS, "local-epochs": EPOCHS, "lr": LR}
    return resolve({**own, **request})


def largest_gap(one: nn.Module, other: nn.Module) -> float:
    gaps = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in gaps)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "strategy", [{"strategy": "def-kt"}, {"strategy": "def-fd", "gamma": 0.01}]
)
def test_three_rounds_give_the_weights_of_procedure_one(strategy: dict[str, object]) -> None:
    config = a_config(**strategy)
    data = [client_data(config, client) for client in range(CLIENTS)]
    ours, theirs = with_peers(config, data), reference(config, data)
    untrained = reference_model(config.seed)
    for model, judge in zip(ours, theirs, strict=True):
        assert largest_gap(model, judge) < 1e-6
        assert largest_gap(model, untrained) > 0.05, "the judge has judged something"


def test_the_feature_term_changes_the_weights() -> None:
    configs = [a_config(strategy="def-kt"), a_config(strategy="def-fd", gamma=0.05)]
    data = [client_data(configs[0], client) for client in range(CLIENTS)]
    kt, fd = (with_peers(config, data) for config in configs)
    assert largest_gap(kt[1], fd[1]) > 1e-4
