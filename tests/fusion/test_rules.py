"""Fusion rules, one by one, and the bugs that public re-implementations of Def-KT have had."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.data.datasets import datasets
from deffd_flower.errors import DeffdError
from deffd_flower.fusion.average import mean_model, pair_mean, segment_mean
from deffd_flower.fusion.average_then_distil import average_then_distil
from deffd_flower.fusion.distil import distil
from deffd_flower.fusion.features import feature_losses
from deffd_flower.fusion.features.regressor import Hint
from deffd_flower.fusion.logits import logit_losses
from deffd_flower.fusion.package import Package, join, pack, split
from deffd_flower.fusion.rules import Fusion
from deffd_flower.models import build_model
from deffd_flower.request import resolve
from deffd_flower.training import Samples

OWN_SAMPLES = 40


def model(seed: int, name: str = "cnn") -> nn.Module:
    return build_model(name, (1, 8, 8), 10, seed)


def config_of(**keys: object) -> RunConfig:
    return resolve({"dataset": "digits", **{k.replace("_", "-"): v for k, v in keys.items()}})


def samples() -> Samples:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (OWN_SAMPLES, 8, 8, 1), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (OWN_SAMPLES,), generator=generator)
    return Samples(images, labels, datasets.get("digits"))


def fusion(own: nn.Module, received: list[Package], config: RunConfig) -> Fusion:
    def model_of(package: Package) -> nn.Module:
        built = model(0, config.model)
        built.load_state_dict(dict(package.model))
        return built

    def batches(epochs: int, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        return samples().batches(8, epochs, torch.Generator().manual_seed(index))

    return Fusion(own, received, model_of, batches, OWN_SAMPLES, config)


def sent(net: nn.Module, weight: int = OWN_SAMPLES) -> Package:
    return Package.decode(pack(net, weight, [], 1).encode())


def flat(net: nn.Module) -> Tensor:
    return torch.cat(list(split(net, 1)))


def gap(one: nn.Module, other: nn.Module) -> float:
    return (flat(one) - flat(other)).abs().max().item()


def test_the_receiver_keeps_the_received_model_not_its_own() -> None:
    own, theirs = model(1), model(2)
    start = flat(theirs).clone()
    kept, _ = distil(fusion(own, [sent(theirs)], config_of(lr=1e-6)))
    assert kept is not own
    assert (flat(kept) - start).abs().max() < 1e-3
    assert gap(kept, own) > 0.05


@pytest.mark.parametrize("keeps", ["own", "average"])
def test_the_receiver_keeps_what_it_is_told_to(keeps: str) -> None:
    own, theirs = model(1), model(2)
    starts = {"own": flat(own).clone(), "average": (flat(own) + flat(theirs)) / 2}
    config = config_of(lr=1e-6, receiver_keeps=keeps)
    kept, _ = distil(fusion(own, [sent(theirs)], config))
    assert (flat(kept) - starts[keeps]).abs().max() < 1e-3


def test_both_models_learn_each_with_its_own_optimiser() -> None:
    own, theirs = model(1), model(2)
    before = flat(own).clone()
    kept, _ = distil(fusion(own, [sent(theirs)], config_of()))
    assert gap(kept, theirs) > 1e-3
    assert (flat(own) - before).abs().max() > 1e-3


def test_a_frozen_teacher_does_not_learn_and_is_left_in_evaluation_mode() -> None:
    own, theirs = model(1, "defkt-cnn"), model(2, "defkt-cnn")
    before = {name: value.clone() for name, value in own.state_dict().items()}
    config = config_of(model="defkt-cnn", teacher="frozen")
    distil(fusion(own, [sent(theirs)], config))
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_no_gradient_flows_through_the_targets() -> None:
    """With lr so small that weights stand still, each step must equal that of a constant target."""
    own, theirs = model(1), model(2)
    config = config_of(ce_weight=0, gamma=0.1, momentum=0, lr=1e-4)
    batch = next(samples().batches(8, 1, torch.Generator().manual_seed(0)))

    def one_batch(epochs: int, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield batch

    whole = fusion(own, [sent(theirs)], config)
    start_own, start_theirs = flat(own).clone(), flat(theirs).clone()
    kept, _ = distil(Fusion(own, whole.received, whole.model_of, one_batch, 8, config))
    moved_own, moved_theirs = flat(own) - start_own, flat(kept) - start_theirs
    # A gradient through the targets of D(w||r) + D(r||w) would give both models the sum of two.
    for student, teacher, moved in (
        (model(2), model(1), moved_theirs),
        (model(1), model(2), moved_own),
    ):
        only, _ = distil_once(student, teacher, batch, config)
        assert torch.allclose(only, moved, atol=2e-8)
        assert moved.abs().max() > 1e-5, "the step is large enough to tell one from two gradients"


def distil_once(
    student: nn.Module, teacher: nn.Module, batch: tuple[Tensor, Tensor], config: RunConfig
) -> tuple[Tensor, float]:
    images, _ = batch
    with torch.no_grad():
        target = teacher(images).log_softmax(1)
        maps = convolutions(teacher, images)
    ours = convolutions(student, images)
    loss = (target.exp() * (target - student(images).log_softmax(1))).sum(1).mean()
    for mine, constant in zip(ours, maps, strict=True):
        loss = loss + float(config.gamma) * (mine - constant).flatten(1).norm(dim=1).mean()
    gradients = torch.autograd.grad(loss, list(student.parameters()))
    return -config.lr * torch.cat([g.flatten() for g in gradients]), loss.item()


def convolutions(net: nn.Module, images: Tensor) -> list[Tensor]:
    maps = []
    for name, layer in net.named_children():
        images = layer(images)
        if name.startswith("conv"):
            maps.append(images)
    return maps


def test_alternating_differs_from_simultaneous_only_in_what_the_other_learns_from() -> None:
    results = {}
    for update in ("simultaneous", "alternating"):
        own, theirs = model(1), model(2)
        kept, _ = distil(fusion(own, [sent(theirs)], config_of(fusion_update=update)))
        results[update] = (flat(kept), flat(own))
    assert not torch.equal(results["simultaneous"][1], results["alternating"][1])


def test_hand_off_is_cross_entropy_on_the_received_model() -> None:
    own, theirs = model(1), model(2)
    before = flat(own).clone()
    config = config_of(strategy="hand-off")
    kept, terms = distil(fusion(own, [sent(theirs)], config))
    assert set(terms) == {"ce"}
    assert torch.equal(flat(own), before)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=config.lr, momentum=config.momentum)
    for images, labels in samples().batches(8, 1, torch.Generator().manual_seed(0)):
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(theirs(images), labels))
        optimiser.step()
    assert gap(kept, theirs) < 1e-6


def test_the_anchor_alone_is_distillation_from_the_received_model_as_it_came() -> None:
    theirs = model(2)
    config = config_of(ce_weight=0, kd_weight=0, gamma=0, anchor=0.5, lr=0.1)
    kept, terms = distil(fusion(model(1), [sent(theirs)], config))
    assert set(terms) == {"anchor"}
    assert terms["anchor"] == pytest.approx(0, abs=1e-6)
    assert gap(kept, theirs) < 1e-6, "the received model stays where its anchor holds it"
    keeping = config.replace(receiver_keeps="own")
    kept, terms = distil(fusion(model(1), [sent(theirs)], keeping))
    assert terms["anchor"] > 1e-3
    assert gap(kept, model(1)) > 1e-3


def test_a_frozen_teacher_and_the_anchor_are_one_model_where_the_own_one_is_kept() -> None:
    keys = {"receiver_keeps": "own", "teacher": "frozen", "gamma": 0}
    apart = config_of(kd_weight=0.6, anchor=0.4, **keys)
    together = config_of(kd_weight=1, **keys)
    results = [distil(fusion(model(1), [sent(model(2))], c))[0] for c in (apart, together)]
    assert gap(*results) < 1e-6


class Watched(Hint):
    """Remembers every regressor that is made."""

    made: ClassVar[list[Hint]] = []

    def __init__(self, student: torch.Size, teacher: torch.Size) -> None:
        super().__init__(student, teacher)
        self.made.append(self)


@pytest.mark.parametrize("strategy", ["def-fd", "average-then-distil"])
def test_a_regressor_learns_with_its_student_and_is_not_kept(strategy: str) -> None:
    Watched.made.clear()
    config = config_of(
        strategy=strategy, feature_loss="tests.fusion.test_rules:Watched", gamma=1, lr=0.001
    )
    rule = average_then_distil if strategy == "average-then-distil" else distil
    kept, terms = rule(fusion(model(1), [sent(model(2))], config))
    assert terms["feature"] > 0
    assert len(Watched.made) == 6, "three layers, two directions or two parents"
    weights = [next(regressor.parameters()).detach() for regressor in Watched.made]
    moved = [weight - torch.eye(len(weight)).view_as(weight) for weight in weights]
    assert all(change.abs().max() > 0 for change in moved)
    assert kept.state_dict().keys() == model(1).state_dict().keys()


def test_gamma_that_was_found_is_reported_and_used() -> None:
    def fused(**keys: object) -> tuple[nn.Module, dict[str, float]]:
        whole = fusion(model(1), [sent(model(2))], config_of(feature_loss="mse", **keys))
        batch = next(samples().batches(8, 1, torch.Generator().manual_seed(0)))
        return distil(replace(whole, batches=lambda epochs, index: iter([batch])))

    kept, terms = fused(gamma="auto", gamma_share=0.5)
    assert terms["gamma"] == pytest.approx(0.5 * terms["ce"] / terms["feature"])
    again, plain = fused(gamma=terms["gamma"])
    assert "gamma" not in plain
    assert gap(kept, again) < 1e-7


@pytest.mark.parametrize("name", sorted(set(feature_losses.names())))
def test_every_feature_loss_teaches(name: str) -> None:
    start = fusion(model(1), [sent(model(2))], config_of(feature_loss=name, gamma="auto"))
    kept, terms = distil(start)
    without, _ = distil(fusion(model(1), [sent(model(2))], config_of(gamma=0)))
    assert terms["feature"] > 0
    assert gap(kept, without) > 1e-5


@pytest.mark.parametrize("name", sorted(set(logit_losses.names())))
def test_every_logit_loss_teaches(name: str) -> None:
    config = config_of(kd_loss=name, gamma=0)
    kept, terms = distil(fusion(model(1), [sent(model(2))], config))
    without, _ = distil(fusion(model(1), [sent(model(2))], config_of(kd_weight=0, gamma=0)))
    assert terms["kl"] > 0
    assert gap(kept, without) > 1e-5


def test_several_received_models_are_fused_one_after_the_other() -> None:
    config = config_of()
    together, _ = distil(fusion(model(1), [sent(model(2)), sent(model(3))], config))
    first, _ = distil(fusion(model(1), [sent(model(2))], config))
    alone, _ = distil(fusion(first, [sent(model(3))], config))
    # The second model's batches are keyed by its place, so only the first step is shared.
    assert gap(together, alone) > 0
    assert gap(together, model(3)) < gap(together, model(1))


def test_full_averaging_is_the_plain_mean_and_trains_only_if_asked() -> None:
    own, theirs = model(1), model(2)
    mean = (flat(own) + flat(theirs)) / 2
    config = config_of(strategy="full-avg")
    kept, terms = pair_mean(fusion(own, [sent(theirs)], config))
    assert torch.allclose(flat(kept), mean, atol=1e-7)
    assert terms == {}
    trained, _ = pair_mean(fusion(model(1), [sent(theirs)], config.replace(average_epochs=1)))
    assert (flat(trained) - mean).abs().max() > 1e-3


def test_averaging_leaves_integer_state_alone() -> None:
    own, theirs = model(1, "defkt-cnn"), model(2, "defkt-cnn")
    theirs.train()(torch.randn(4, 1, 8, 8))
    mean = mean_model(own, theirs, 0.25)
    steps = [n for n, v in own.state_dict().items() if not v.is_floating_point()]
    assert steps
    assert all(mean.state_dict()[name] == own.state_dict()[name] for name in steps)
    name = "norm1.running_mean"
    expected = 0.75 * own.state_dict()[name] + 0.25 * theirs.state_dict()[name]
    assert torch.allclose(mean.state_dict()[name], expected)


def test_combo_weights_each_segment_by_samples() -> None:
    own, one, two = model(1), model(2), model(3)
    config = config_of(strategy="combo", segments=3)
    received = [
        Package.decode(pack(one, 10, [0, 2], 3).encode()),
        Package.decode(pack(two, 30, [2], 3).encode()),
    ]
    expected = [piece.clone() for piece in split(own, 3)]
    expected[0] = (OWN_SAMPLES * expected[0] + 10 * split(one, 3)[0]) / (OWN_SAMPLES + 10)
    pulled = 10 * split(one, 3)[2] + 30 * split(two, 3)[2]
    expected[2] = (OWN_SAMPLES * expected[2] + pulled) / (OWN_SAMPLES + 40)
    kept, _ = segment_mean(fusion(own, received, config))
    assert torch.allclose(flat(kept), torch.cat(expected), atol=1e-6)


def test_segments_come_apart_and_together_whatever_the_memory_format() -> None:
    net, copy = model(1), model(2)
    join(copy, split(net, 7))
    assert gap(net, copy) == 0
    assert [len(piece) for piece in split(net, 7)] == sorted(
        (len(piece) for piece in split(net, 7)), reverse=True
    )


def test_a_package_survives_the_wire_and_nothing_else_is_taken_for_one() -> None:
    package = sent(model(5), weight=77)
    assert package.samples == 77
    assert torch.equal(package.model["conv2.weight"], model(5).state_dict()["conv2.weight"])
    with pytest.raises(DeffdError):
        Package.decode(b"\x80\x04 not a package")
