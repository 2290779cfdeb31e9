"""Frozen teachers: asked once about all samples, or in every epoch, they teach the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.data.client import client_data
from deffd_flower.fusion import frozen
from deffd_flower.fusion.frozen import Record
from deffd_flower.fusion.learner import Teacher
from deffd_flower.fusion.package import Package
from deffd_flower.peer import Peer
from deffd_flower.request import resolve

EPOCHS = 3


class Mixed(nn.Module):
    """Maps of several shapes: with and without height and width, and one of three dimensions."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.wide = nn.Unflatten(1, (8, 32))
        self.flat = nn.Linear(256, 16)
        self.last = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.wide(self.conv(images).flatten(1)).tanh()
        logits: Tensor = self.last(self.flat(maps.flatten(1)))
        return logits


def peers(**keys: Any) -> tuple[Peer, bytes]:
    """Return a receiver, and what a trained sender sent it."""
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    request = {"dataset": "digits", "clients": 4, "local-epochs": 1, "fusion-epochs": EPOCHS}
    config = resolve({**request, **given})
    sender = Peer(1, client_data(config, 1), config)
    sender.train(1)
    return Peer(0, client_data(config, 0), config), sender.package([])


def fused(**keys: Any) -> tuple[dict[str, Tensor], list[int]]:
    """Return the receiver's weights after a fusion, and the sizes of all evaluated batches."""
    receiver, mail = peers(**keys)
    asked: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if not module.training:
            asked.append(len(inputs[0]))

    receiver.model.register_forward_pre_hook(note)
    receiver.fuse([Package.decode(mail)], 2)
    return receiver.model.state_dict(), asked


CASES: list[dict[str, Any]] = [
    {"teacher": "frozen"},
    {"teacher": "frozen", "strategy": "def-kt", "teacher_weight": "presence"},
    {"teacher": "frozen", "model": "defkt-cnn", "feature_loss": "cos"},
    {"teacher": "frozen", "model": "mlp"},
    {"teacher": "frozen", "model": f"{__name__}:Mixed", "feature_layers": "conv,wide,flat"},
    {"teacher": "frozen", "precision": "bf16"},
    {"strategy": "average-then-distil"},
]


@pytest.mark.parametrize("keys", CASES)
def test_remembering_changes_no_weight(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered, _ = fused(**keys)
    monkeypatch.setattr(frozen, "MEMORY", 0)
    asked_again, _ = fused(**keys)
    other_rate, _ = fused(**keys, lr=0.02)
    gaps = [gap(remembered, others) for others in (asked_again, other_rate)]
    assert gaps[0] < 1e-6
    assert gaps[1] > 1e-3, "the weights have moved"


def gap(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((value - other[name]).abs().max()) for name, value in one.items())


def test_the_teacher_is_asked_once_about_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, Any] = {"teacher": "frozen"}
    samples = len(peers(**keys)[0].data.train)
    _, asked = fused(**keys)
    assert sum(asked) == samples + 1, "and about one to see how much there is to remember"
    _, asked = fused(**keys, fusion_epochs=1)
    assert sum(asked) == samples
    monkeypatch.setattr(frozen, "MEMORY", 1000)
    _, asked = fused(**keys)
    assert sum(asked) == EPOCHS * samples + 1


@pytest.mark.parametrize("model", ["cnn", f"{__name__}:Mixed"])
def test_a_record_is_what_the_teacher_says_laid_out_alike(model: str) -> None:
    layers = "conv,wide,flat" if model != "cnn" else "convolutions"
    receiver, _ = peers(teacher="frozen", model=model, feature_layers=layers)
    samples = receiver.data.train
    fusion = receiver._fusion(receiver.model, [], samples, lambda *_: samples.orders(8))
    teacher = Teacher(receiver.model.eval(), None, fusion)
    chosen = torch.tensor([5, 0, len(samples) - 1, 7, 7])
    with teacher.tap:
        record = Record(teacher, samples)
        with torch.no_grad():
            expected = teacher.predict(samples.batch(chosen)[0])
    told = record.look_up(chosen)
    torch.testing.assert_close(told.logits, expected.logits, atol=1e-6, rtol=1e-6)
    assert len(told.features) == len(expected.features) == 3
    for ours, theirs in zip(told.features, expected.features, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        assert ours.stride() == theirs.stride()
        assert not ours.is_inference(), "it can take part in a gradient"
