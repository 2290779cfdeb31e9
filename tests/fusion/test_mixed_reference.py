"""A federation of three architectures against a loop in plain PyTorch.

It shares with the package the data, the initial weights and the keys of the generators: layers are
matched by hand, and adapters are written out.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.data.client import ClientData, client_data
from deffd_flower.models import build_model
from deffd_flower.randomness import derived_seed, torch_generator
from tests.fusion.test_procedure_one import (
    CLIENTS,
    EPOCHS,
    LR,
    MOMENTUM,
    PAIRS,
    a_config,
    batches,
    divergence,
    largest_gap,
    with_peers,
)
from tests.fusion.test_reference_loops import calibrated

KINDS = [f"tests.fusion.mixed:{name}" for name in ("shallow", "deep", "flat", "shallow")]
"""By client, so that of the pairs two are of one architecture, and all others of two."""

DEPTHS = {
    (2, 2): [(0, 0), (1, 1)],
    (3, 3): [(0, 0), (1, 1), (2, 2)],
    (2, 3): [(0, 1), (1, 2)],
    (3, 2): [(1, 0), (2, 1)],
}

Party = tuple[nn.Module, list[nn.Parameter], list["ByHand"], list[Tensor]]


def forward(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and the outputs of all convolutions and hidden layers, layer by layer."""
    maps = []
    for name, layer in model.named_children():
        images = layer(images)
        if name.startswith(("conv", "hidden")):
            maps.append(images)
    return images, maps


class ByHand:
    """The adapter of one pair of layers."""

    def __init__(
        self, student: Tensor, teacher: Tensor, generator: torch.Generator, always: bool
    ) -> None:
        ours, theirs = student.shape[1], teacher.shape[1]
        self.weights: list[nn.Parameter] = []
        if ours != theirs:
            weight = torch.randn(theirs, ours, generator=generator) / ours**0.5
            self.weights = [nn.Parameter(weight), nn.Parameter(torch.zeros(theirs))]
        elif always:
            self.weights = [nn.Parameter(torch.eye(ours)), nn.Parameter(torch.zeros(ours))]

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean squared gap."""
        if student.dim() != teacher.dim():
            student, teacher = (
                m.flatten(2).mean(2) if m.dim() == 4 else m for m in (student, teacher)
            )
        elif student.dim() == 4:
            size = min(student.shape[2], teacher.shape[2])
            student, teacher = (halved(maps, size) for maps in (student, teacher))
        if self.weights:
            weight, bias = self.weights
            mapped = torch.einsum("tc,bc...->bt...", weight, student)
            student = mapped + bias.view(-1, *[1] * (student.dim() - 2))
        return (student - teacher).square().mean()


def halved(maps: Tensor, size: int) -> Tensor:
    while maps.shape[2] > size:
        quarters = [maps[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        maps = torch.stack(quarters).mean(0)
    return maps


def step(weights: Sequence[Tensor], loss: Tensor, momenta: Sequence[Tensor]) -> None:
    gradients = torch.autograd.grad(loss, list(weights))
    with torch.no_grad():
        for weight, gradient, momentum in zip(weights, gradients, momenta, strict=True):
            momentum.mul_(MOMENTUM).add_(gradient)
            weight.sub_(LR * momentum)


class Receiver:
    """Learns by mutual or one-way distillation of logits and maps."""

    def __init__(self, config: RunConfig, data: ClientData, client: int) -> None:
        self.config, self.data, self.client = config, data, client

    def fuse(self, own: nn.Module, received: nn.Module, alike: bool, number: int) -> nn.Module:
        """Return the model that is kept: the received one if it is of the own architecture."""
        kept, other = (received, own) if alike else (own, received)
        parties = self.parties(kept, other, alike, number)
        kept.train()
        other.train()
        for images, labels in batches(
            self.data, 1, self.config.seed, "fuse", self.client, number, 0
        ):
            said = {model: forward(model, images) for model in (kept, other)}
            losses = [
                self.loss(said[model], said[teacher], adapters, labels)
                for (model, _, adapters, _), teacher in zip(parties, (other, kept), strict=True)
            ]
            learning = 1 if self.config.teacher == "frozen" else 2
            for (_, weights, _, momenta), loss in list(zip(parties, losses, strict=True))[
                :learning
            ]:
                step(weights, loss, momenta)
        return kept

    def parties(self, kept: nn.Module, other: nn.Module, alike: bool, number: int) -> list[Party]:
        generator = torch_generator(self.config.seed, "adapters", self.client, number, 0)
        with torch.no_grad():
            images = torch.zeros(1, 1, 8, 8)
            maps = {model: forward(model, images)[1] for model in (kept, other)}
        always, found = self.config.feature_loss == "fitnet", []
        for model, teacher in ((kept, other), (other, kept)):
            ours, theirs = maps[model], maps[teacher]
            adapters = [
                ByHand(ours[i], theirs[j], generator, always)
                for i, j in DEPTHS[len(ours), len(theirs)]
            ]
            trained = [weight for adapter in adapters for weight in adapter.weights]
            weights = [*model.parameters(), *trained]
            found.append((model, weights, adapters, [torch.zeros_like(w) for w in weights]))
        return found

    def loss(
        self,
        own: tuple[Tensor, list[Tensor]],
        teacher: tuple[Tensor, list[Tensor]],
        adapters: list[ByHand],
        labels: Tensor,
    ) -> Tensor:
        (logits, ours), (target, theirs) = own, teacher
        loss = calibrated(logits, labels, self.data, self.config)
        loss = loss + divergence(target.detach(), logits)
        places = DEPTHS[len(ours), len(theirs)]
        gaps = [
            adapter(ours[i], theirs[j].detach())
            for adapter, (i, j) in zip(adapters, places, strict=True)
        ]
        return loss + float(self.config.gamma) * torch.stack(gaps).sum()


def first_model(config: RunConfig, client: int) -> nn.Module:
    own = () if config.common_init else (client,)
    return build_model(
        KINDS[client], (1, 8, 8), 10, derived_seed(config.seed, "initial-weights", *own)
    )


def reference(config: RunConfig, data: list[ClientData]) -> list[nn.Module]:
    models = [first_model(config, client) for client in range(CLIENTS)]
    for number, pairs in PAIRS.items():
        for sender, _ in pairs:
            weights = list(models[sender].parameters())
            momenta = [torch.zeros_like(weight) for weight in weights]
            for images, labels in batches(
                data[sender], EPOCHS, config.seed, "train", sender, number
            ):
                logits, _ = forward(models[sender], images)
                step(weights, calibrated(logits, labels, data[sender], config), momenta)
        sent = {receiver: models[sender].state_dict() for sender, receiver in pairs}
        for sender, receiver in pairs:
            received = first_model(config, sender)
            received.load_state_dict(sent[receiver])
            alike = KINDS[sender] == KINDS[receiver]
            scene = Receiver(config, data[receiver], receiver)
            models[receiver] = scene.fuse(models[receiver], received, alike, number)
    return models


def a_mixed_config(**keys: Any) -> RunConfig:
    return a_config(model=",".join(KINDS), gamma=0.5, **keys)


CASES: list[dict[str, Any]] = [
    {"feature_loss": "mse"},
    {"feature_loss": "mse", "teacher": "frozen"},
    {"feature_loss": "mse", "common_init": False, "calibrate": "prior"},
    {"feature_loss": "fitnet"},
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("keys", CASES)
def test_three_rounds_of_three_architectures_give_the_weights_of_the_loop(
    keys: dict[str, Any],
) -> None:
    config = a_mixed_config(**keys)
    data = [client_data(config, client) for client in range(CLIENTS)]
    ours, theirs = with_peers(config, data), reference(config, data)
    for client, (model, judge) in enumerate(zip(ours, theirs, strict=True)):
        assert largest_gap(model, judge) < 5e-6
        assert largest_gap(model, first_model(config, client)) > 0.02, "the judge has judged"


def test_the_cases_end_in_different_weights() -> None:
    configs = [a_mixed_config(**keys) for keys in CASES]
    data = [client_data(configs[0], client) for client in range(CLIENTS)]
    models = [with_peers(config, data)[1] for config in configs]
    assert all(largest_gap(one, other) > 1e-4 for one, other in pairwise(models))
