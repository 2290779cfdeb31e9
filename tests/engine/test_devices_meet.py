"""No tensor of the CPU meets one of the GPU, found without a GPU.

PyTorch's fake tensors have a device, a shape and no numbers; an operation on tensors of two devices
is refused as on a real machine. What is written ends where somebody asks for a number.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)

from deffd_flower.data import datasets
from deffd_flower.data.client import ClientData, client_data
from deffd_flower.evaluation import evaluate
from deffd_flower.fusion.calibration import calibrations
from deffd_flower.fusion.features import feature_losses
from deffd_flower.fusion.logits import logit_losses
from deffd_flower.fusion.package import Package, split
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.models import build_model
from deffd_flower.peer import BUILT_IN_RULES
from deffd_flower.request import resolve
from deffd_flower.strategy.presets import strategies
from deffd_flower.together import Pupil, train_together
from deffd_flower.training import Samples, train

GPU = torch.device("cuda:0")


class OneMode(FakeTensorMode):  # type: ignore[no-untyped-call]  # PyTorch's own is untyped
    """Stays one when the tensors made in it are copied."""

    def __deepcopy__(self, memo: object) -> "OneMode":
        return self


class World:
    """A receiver on a GPU that is not there."""

    def __init__(self, mode: FakeTensorMode, **keys: Any) -> None:
        given = {key.replace("_", "-"): value for key, value in keys.items()}
        self.config = resolve({"dataset": "digits", "clients": 4, **given})
        self.data = self._data(mode)
        self._mode = mode
        with mode:
            counts = self.data.label_counts.to(GPU)
            self.cross_entropy = calibrations.get(self.config.calibrate)(counts, self.config)
        self.steps = 0

    def model(self) -> nn.Module:
        """Return a model on the GPU."""
        model = self._real_model()
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(self.moved(parameter))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self.moved(buffer)
        return model

    def _real_model(self) -> nn.Module:
        with unset_fake_temporarily():
            return build_model(self.config.model, (1, 8, 8), 10, 0)

    def package(self) -> Package:
        """Return what comes out of an envelope: tensors of the CPU."""
        with unset_fake_temporarily():
            model = self._real_model()
            state = model.state_dict()
            parts = [part.clone() for part in split(model, self.config.segments)]
        pieces = dict(enumerate(map(self._mode.from_tensor, parts)))
        mail = {name: self._mode.from_tensor(value) for name, value in state.items()}
        return Package(100, mail, pieces, self.data.label_counts > 0)

    def moved(self, tensor: Tensor) -> Tensor:
        """Return a tensor's twin on the GPU, laid out alike."""
        with unset_fake_temporarily():
            values = tensor.detach()
        return self._mode.from_tensor(values).to(GPU)

    def orders(self, epochs: int, index: int) -> Iterator[Tensor]:
        """Yield batches, and count them."""
        for chosen in self.data.train.orders(64, epochs, torch.Generator().manual_seed(1)):
            self.steps += 1
            yield chosen

    def fusion(self) -> Fusion:
        """Return a fusion of one received model."""
        train = self.data.train
        return Fusion(
            own=self.model(),
            received=[self.package()],
            model_of=lambda _: self.model(),
            batches=lambda epochs, index: map(train.batch, self.orders(epochs, index)),
            samples=len(train),
            config=self.config,
            cross_entropy=self.cross_entropy,
            held=self.data.label_counts > 0,
            everything=train,
            orders=self.orders,
        )

    def _data(self, mode: FakeTensorMode) -> ClientData:
        real = client_data(self.config, 0)
        self._mode = mode

        def part(samples: Samples) -> Samples:
            return Samples(self.moved(samples.images), self.moved(samples.labels), samples.spec)

        with mode:
            return replace(
                real,
                train=part(real.train),
                held_out=part(real.held_out),
                test=part(real.test),
                label_counts=mode.from_tensor(real.label_counts),
                device=GPU,
            )


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """Gradients are zeros here: to compute them, PyTorch asks the driver for the device."""
    monkeypatch.setattr(torch.autograd, "backward", zero_gradients)
    yield OneMode()
    # Fake tensors must not stay in a cache that other tests use.
    datasets._affine.cache_clear()


def zero_gradients(loss: Tensor) -> None:
    """Give every leaf below a loss a gradient of its own shape and device."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                leaf.grad = torch.zeros_like(leaf)
    assert seen


def until_a_number_is_asked_for(work: Callable[[], object]) -> None:
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        work()


def test_a_mistake_would_be_found(mode: FakeTensorMode) -> None:
    world = World(mode)
    with mode, pytest.raises(RuntimeError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        world.model()(torch.zeros(2, 1, 8, 8))


CASES: list[dict[str, Any]] = [
    {},
    {"fusion_update": "alternating", "receiver_keeps": "average", "anchor": 0.5},
    {"teacher": "frozen", "fusion_epochs": 2, "receiver_keeps": "own"},
    {"teacher_weight": "presence", "gamma": "auto"},
    {"teacher_weight": "entropy", "model": "defkt-cnn"},
    {"strategy": "average-then-distil", "fusion_epochs": 2, "teacher_weight": "presence"},
    {"strategy": "full-avg", "average_epochs": 1},
    {"strategy": "combo", "average_epochs": 1},
    {"strategy": "hand-off"},
    *({"calibrate": name} for name in calibrations.names()),
    *({"kd_loss": name} for name in logit_losses.names()),
    # Fake tensors cannot move the regressor of fitnet, a module, to another device.
    *({"feature_loss": name} for name in feature_losses.names() if name != "fitnet"),
]


@pytest.mark.parametrize("keys", CASES, ids=str)
def test_fusion_stays_on_the_device(keys: dict[str, Any], mode: FakeTensorMode) -> None:
    world = World(mode, **keys)
    assert BUILT_IN_RULES, "they are registered when they are imported"
    rule = fusion_rules.get(strategies.get(world.config.strategy)().fusion)
    with mode:
        fusion = world.fusion()
        until_a_number_is_asked_for(lambda: rule(fusion))
    epochs = world.config.average_epochs or world.config.fusion_epochs
    assert world.steps == epochs * -(-len(world.data.train) // 64)


def test_training_and_evaluating_stay_on_the_device(mode: FakeTensorMode) -> None:
    world = World(mode, calibrate="prior")
    with mode:
        batches = map(world.data.train.batch, world.orders(2, 0))
        model = world.model()
        until_a_number_is_asked_for(
            lambda: train(model, batches, world.config, world.cross_entropy)
        )
        assert world.steps == 2 * -(-len(world.data.train) // 64)
        until_a_number_is_asked_for(lambda: evaluate(model, world.data, 200))


def test_training_together_stays_on_the_device(mode: FakeTensorMode) -> None:
    world = World(mode)
    with mode:
        pupils = [
            Pupil(world.model(), world.data.train, list(world.orders(1, 0))[: 2 + k], _entropy)
            for k in range(2)
        ]
        until_a_number_is_asked_for(lambda: train_together(pupils, world.config))


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)
