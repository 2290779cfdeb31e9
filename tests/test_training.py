"""Batches: which samples make a step together."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.data.client import client_data
from deffd_flower.errors import RequestError
from deffd_flower.fusion.package import Package
from deffd_flower.peer import Peer
from deffd_flower.request import resolve
from deffd_flower.training import Samples, least_batch


class Flat(nn.Sequential):
    """A network whose batch normalisation has one value per channel and sample."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        pixels = in_channels * 64
        super().__init__(nn.Flatten(), nn.BatchNorm1d(pixels), nn.Linear(pixels, num_classes))


def peer(samples: int, **keys: Any) -> Peer:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve(
        {"dataset": "digits", "clients": 4, "batch-size": 8, "local-epochs": 2, **given}
    )
    data = client_data(config, 0)
    train = data.train
    own = Samples(train.images[:samples], train.labels[:samples], train.spec)
    return Peer(0, replace(data, train=own), config)


def trained_on(of: Peer) -> list[Tensor]:
    """Return the batches that a peer's training puts through its model, in order."""
    seen: list[Tensor] = []
    handle = of.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    of.train(1)
    handle.remove()
    return seen


def sizes(of: Peer) -> list[int]:
    return [len(images) for images in trained_on(of)]


FLAT = {"model": f"{__name__}:Flat", "strategy": "def-kt"}


@pytest.mark.parametrize(("samples", "each"), [(17, [8, 8]), (18, [8, 8, 2]), (16, [8, 8])])
def test_with_batch_normalisation_a_last_batch_of_one_makes_no_step(
    samples: int, each: list[int]
) -> None:
    assert sizes(peer(samples, **FLAT)) == each * 2
    assert sizes(peer(samples, model="defkt-cnn")) == each * 2


def test_without_it_every_sample_makes_a_step() -> None:
    for model in ("cnn", "mlp", "resnet18"):
        assert sizes(peer(17, model=model)) == [8, 8, 1] * 2


def test_a_left_over_sample_breaks_neither_training_nor_fusion() -> None:
    own = peer(17, **FLAT)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        own.model.train()(torch.zeros(1, 1, 8, 8))
    assert own.train(1)["train"] > 0
    package = Package.decode(peer(17, **FLAT).package([]))
    assert own.fuse([package], 1)["kl"] >= 0
    assert all(torch.isfinite(parameter).all() for parameter in own.model.parameters())


def test_the_left_over_sample_takes_its_turn_in_another_epoch() -> None:
    own = peer(17, local_epochs=40, **FLAT)
    seen = {image.numpy().tobytes() for images in trained_on(own) for image in images}
    assert len(seen) == len({image.numpy().tobytes() for image in own.data.train.images}) == 17


def test_batches_that_could_never_make_a_step_are_refused() -> None:
    peer(17, model="cnn", batch_size=1).check()
    with pytest.raises(RequestError, match=r"batch-size=1: must be at least 2: .*Flat norm"):
        peer(17, batch_size=1, **FLAT).check()
    with pytest.raises(RequestError, match="client 0 trains on one sample"):
        peer(1, **FLAT).check()


@pytest.mark.parametrize(
    ("layer", "least"),
    [(nn.BatchNorm1d(3), 2), (nn.BatchNorm2d(3), 2), (nn.GroupNorm(1, 3), 1), (nn.ReLU(), 1)],
)
def test_which_layers_need_two(layer: nn.Module, least: int) -> None:
    assert least_batch(nn.Sequential(nn.Conv2d(1, 3, 3), layer)) == least


def test_cosine_is_the_schedule_of_that_name_over_the_rounds() -> None:
    """Against PyTorch's own, stepped once a round."""
    config = resolve({"dataset": "digits", "rounds": 7, "lr": 0.2, "lr-schedule": "cosine"})
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=7)
    for server_round in range(1, 8):
        expected = optimiser.param_groups[0]["lr"]
        assert config.in_round(server_round).lr == pytest.approx(expected, rel=1e-12)
        optimiser.step()
        schedule.step()
    assert config.in_round(7).lr > 0


@pytest.mark.parametrize("strategy", ["def-fd", "average-then-distil", "full-avg"])
def test_training_and_fusion_take_the_rounds_own_learning_rate(strategy: str) -> None:
    keys: dict[str, Any] = {"strategy": strategy, "rounds": 4}
    if strategy == "full-avg":
        keys["average_epochs"] = 1
    falling = peer(60, lr_schedule="cosine", **keys)
    constant = peer(60, lr=falling.config.in_round(3).lr, **keys)
    received = Package.decode(peer(60, seed=1).package([]))
    for each in (falling, constant):
        each.train(3)
        each.fuse([received], 3)
    assert falling.digest() == constant.digest()
    assert falling.digest() != learnt_with_all_of_it(received, keys)


def learnt_with_all_of_it(received: Package, keys: dict[str, Any]) -> str:
    plain = peer(60, **keys)
    plain.train(3)
    plain.fuse([received], 3)
    return plain.digest()


def test_bf16_learns_as_a_loop_does_that_casts_the_weights_anew_in_every_step() -> None:
    """Autocast remembers weights as it first saw them; whoever stays in it trains on old ones."""
    ours = peer(60, precision="bf16", local_epochs=4)
    model = copy.deepcopy(ours.model)
    optimiser = torch.optim.SGD(model.parameters(), ours.config.lr, ours.config.momentum)
    for images in trained_on(ours):
        labels = labels_of(images, ours)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(logits.float(), labels))
        optimiser.step()
    for found, expected in zip(ours.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected)


def labels_of(images: Tensor, of: Peer) -> Tensor:
    """Look up the labels of some of a peer's samples by their pixels."""
    everything, labels = of.data.train.batch(torch.arange(len(of.data.train)))
    same = (images.flatten(1).unsqueeze(1) == everything.flatten(1)).all(2)
    return labels[same.int().argmax(1)]
