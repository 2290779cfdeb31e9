"""Which teachers are believed where, and how a receiver learns which classes a sender has."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.data.client import client_data
from deffd_flower.data.datasets import datasets
from deffd_flower.errors import DeffdError
from deffd_flower.fusion.average_then_distil import average_then_distil
from deffd_flower.fusion.distil import distil
from deffd_flower.fusion.package import Package, pack
from deffd_flower.fusion.reliability import reliability
from deffd_flower.fusion.rules import Fusion, FusionRule
from deffd_flower.models import build_model
from deffd_flower.peer import Peer
from deffd_flower.request import resolve
from deffd_flower.training import Samples

LR = 0.05
HELD = torch.tensor([True, False] * 5)


def config_of(**keys: object) -> RunConfig:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    return resolve({"dataset": "digits", "lr": LR, "momentum": 0, "gamma": 0, **given})


def model(seed: int) -> nn.Module:
    return build_model("cnn", (1, 8, 8), 10, seed)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (12, 8, 8, 1), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (12,), generator=generator)
    return next(Samples(images, labels, datasets.get("digits")).batches(12))


def one_batch(own: nn.Module, package: Package, config: RunConfig) -> Fusion:
    def model_of(package: Package) -> nn.Module:
        built = model(0)
        built.load_state_dict(dict(package.model))
        return built

    def batches(epochs: int, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield batch()

    held = torch.ones(10, dtype=torch.bool)
    return Fusion(own, [package], model_of, batches, 12, config, held=held)


def moved_by(student: nn.Module, parts: list[tuple[nn.Module, Tensor]]) -> Tensor:
    """One step down the mean over teachers of the weighted KL, in plain PyTorch."""
    images, _ = batch()
    loss = torch.zeros(())
    for teacher, weight in parts:
        with torch.no_grad():
            target = teacher(images).log_softmax(1)
        divergence = (target.exp() * (target - student(images).log_softmax(1))).sum(1)
        loss = loss + (weight * divergence).mean() / len(parts)
    gradients = torch.autograd.grad(loss, list(student.parameters()))
    return -LR * torch.cat([gradient.flatten() for gradient in gradients])


def flat(net: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def sent(net: nn.Module) -> Package:
    package = replace(pack(net, 12, [], 1), held=HELD)
    return Package.decode(package.encode())


def test_presence_believes_a_teacher_on_the_classes_its_owner_has() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    trust = reliability("presence", torch.zeros(4, 10), labels, HELD)
    assert trust.tolist() == [1, 0, 1, 0]


def test_entropy_believes_a_sure_teacher_and_not_a_clueless_one() -> None:
    logits = torch.tensor([[100.0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 0, -1]], dtype=torch.float64)
    p = np.exp(logits[2].numpy()) / np.exp(logits[2].numpy()).sum()
    trust = reliability("entropy", logits, torch.tensor([1, 1, 1]), None)
    unsure = 1 + float((p * np.log(p)).sum() / np.log(4))
    assert trust.numpy() == pytest.approx(np.array([1, 0, unsure]))


@pytest.mark.parametrize("held", [None, torch.ones(9, dtype=torch.bool)])
def test_a_sender_that_does_not_say_what_it_has_is_an_error(held: Tensor | None) -> None:
    with pytest.raises(DeffdError, match="which classes its sender holds"):
        reliability("presence", torch.zeros(2, 10), torch.tensor([0, 1]), held)


def test_a_step_towards_a_frozen_teacher_counts_the_classes_its_sender_has() -> None:
    config = config_of(
        ce_weight=0, receiver_keeps="own", teacher="frozen", teacher_weight="presence"
    )
    own, theirs = model(1), model(2)
    start = flat(own).clone()
    kept, _ = distil(one_batch(own, sent(theirs), config))
    trust = HELD[batch()[1]].float()
    assert 0 < trust.mean() < 1
    moved = moved_by(model(1), [(theirs, trust)])
    assert torch.allclose(flat(kept) - start, moved, atol=1e-7)
    assert not torch.allclose(moved, moved_by(model(1), [(theirs, torch.ones(12))]), atol=1e-5)


@pytest.mark.parametrize("kind", ["presence", "entropy"])
def test_each_of_two_parents_is_believed_on_its_own_account(kind: str) -> None:
    config = config_of(strategy="average-then-distil", ce_weight=0, teacher_weight=kind)
    own, theirs = model(1), model(2)
    mean = model(0)
    with torch.no_grad():
        for weight, a, b in zip(*(m.parameters() for m in (mean, own, theirs)), strict=True):
            weight.copy_((a + b) / 2)
    start = flat(mean).clone()
    kept, terms = average_then_distil(one_batch(own, sent(theirs), config))
    if kind == "presence":
        parts = [(own, torch.ones(12)), (theirs, HELD[batch()[1]].float())]
    else:
        parts = [(parent, sureness(parent)) for parent in (own, theirs)]
    assert set(terms) == {"kl"}
    assert torch.allclose(flat(kept) - start, moved_by(mean, parts), atol=1e-7)


def sureness(net: nn.Module) -> Tensor:
    with torch.no_grad():
        p: Tensor = net(batch()[0]).softmax(1)
    certainty: Tensor = 1 + (p * p.log()).sum(1) / float(np.log(10))
    return certainty


@pytest.mark.parametrize(("kind", "rule"), [("own", distil), ("mean", average_then_distil)])
def test_presence_without_the_senders_classes_is_an_error(kind: str, rule: FusionRule) -> None:
    keys = {"receiver_keeps": "own"} if kind == "own" else {"strategy": "average-then-distil"}
    config = config_of(teacher_weight="presence", **keys)
    package = replace(sent(model(2)), held=None)
    with pytest.raises(DeffdError, match="which classes its sender holds"):
        rule(one_batch(model(1), package, config))


def test_a_package_holds_the_classes_only_where_they_are_used() -> None:
    states = {}
    for kind in ("none", "entropy", "presence"):
        config = config_of(clients=4, teacher_weight=kind)
        data = client_data(config, 1)
        states[kind] = Peer(1, data, config).package([])
    tensors = {"model." + name: value for name, value in model_state(1).items()}
    samples = torch.tensor(len(data.train))
    assert states["none"] == states["entropy"] == save({**tensors, "samples": samples})
    held = Package.decode(states["presence"]).held
    assert held is not None
    assert held.tolist() == (torch.bincount(data.train.labels, minlength=10) > 0).tolist()
    assert not held.all()


def model_state(client: int) -> dict[str, Tensor]:
    config = config_of(clients=4)
    state = Peer(client, client_data(config, client), config).model.state_dict()
    return {name: value.contiguous() for name, value in state.items()}
