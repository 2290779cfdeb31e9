"""Feature maps read by forward hooks."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deffd_flower.errors import RequestError
from deffd_flower.models import Tap, build_model, feature_layers

torch.set_num_threads(1)

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def cnn() -> nn.Module:
    return build_model("cnn", (1, 8, 8), 10, seed=0)


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("model", "choice", "layers"),
    [
        ("cnn", "convolutions", ["conv1", "conv2", "conv3"]),
        ("cnn", "activations", ["relu1", "relu2", "relu3"]),
        ("cnn", "pool3, conv1", ["pool3", "conv1"]),
        ("defkt-cnn", "convolutions", ["conv1", "conv2"]),
        ("mlp", "convolutions", ["fc1", "fc2"]),
    ],
)
def test_layers_are_chosen_in_order(model: str, choice: str, layers: list[str]) -> None:
    assert feature_layers(build_model(model, (1, 8, 8), 10, seed=0), choice) == layers


def test_convolutions_inside_blocks_are_found_in_order_of_definition() -> None:
    layers = feature_layers(build_model("resnet18", (3, 8, 8), 10, seed=0), "convolutions")
    assert len(layers) == 20
    assert layers[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]


def test_an_unknown_layer_is_refused_with_those_there_are() -> None:
    with pytest.raises(RequestError, match=r"no conv4; .*conv1, pool1.* mean 'conv\d'") as caught:
        feature_layers(cnn(), "conv1,conv4")
    assert caught.value.key == "feature-layers"


@pytest.mark.parametrize("choice", ["convolutions", "activations", "", ","])
def test_a_choice_that_finds_no_layer_is_refused(choice: str) -> None:
    with pytest.raises(RequestError, match="feature-layers"):
        feature_layers(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), choice)


def test_features_are_the_layers_outputs_and_logits_the_models() -> None:
    model = cnn()
    first, relu, pool, second = (
        model.get_submodule(name) for name in ("conv1", "relu1", "pool1", "conv2")
    )
    with Tap(model, ["conv2", "conv1"]) as tap:
        logits, features = tap(IMAGES)
    assert torch.equal(logits, model(IMAGES))
    assert torch.equal(features[1], first(IMAGES))
    assert torch.equal(features[0], second(relu(pool(first(IMAGES)))))


def test_hooks_are_gone_after_the_block_even_after_an_error() -> None:
    model = cnn()
    tap = Tap(model, ["conv1", "conv2"])
    with tap:
        assert hook_count(model) == 2
    assert hook_count(model) == 0
    with pytest.raises(RuntimeError, match="mat1"), tap:
        tap(torch.zeros(1, 1, 28, 28))
    assert hook_count(model) == 0
    with tap:
        assert len(tap(IMAGES)[1]) == 2


def test_no_layers_register_nothing_and_give_no_features() -> None:
    model = cnn()
    with Tap(model, []) as tap:
        assert hook_count(model) == 0
        logits, features = tap(IMAGES)
    assert torch.equal(logits, model(IMAGES))
    assert features == []


def test_a_tap_outside_of_its_block_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="with block"):
        Tap(cnn(), ["conv1"])(IMAGES)


def test_gradients_flow_through_features_to_the_layers_below_only() -> None:
    model = cnn()
    with Tap(model, ["conv2"]) as tap:
        _, (feature,) = tap(IMAGES)
    torch.autograd.backward(feature.square().mean())
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"conv1", "conv2"}


def test_two_taps_on_two_models_do_not_mix() -> None:
    one, two = (build_model("cnn", (1, 8, 8), 10, seed=seed) for seed in (1, 2))
    with Tap(one, ["conv1"]) as tap_one, Tap(two, ["conv1"]) as tap_two:
        first, second = tap_one(IMAGES)[1][0], tap_two(IMAGES)[1][0]
    assert torch.equal(first, one.get_submodule("conv1")(IMAGES))
    assert torch.equal(second, two.get_submodule("conv1")(IMAGES))


def test_features_of_the_step_before_are_not_kept_alive() -> None:
    with Tap(cnn(), ["conv1"]) as tap:
        first = tap(IMAGES)[1][0]
        again = tap(IMAGES[:2])[1][0]
        assert (len(first), len(again)) == (4, 2)
        assert not tap._outputs


def test_a_layer_used_twice_gives_its_last_output() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(64, 64)

        def forward(self, images: Tensor) -> Tensor:
            once: Tensor = self.shared(images.flatten(1))
            twice: Tensor = self.shared(once)
            return twice + 1

    model = Twice()
    with Tap(model, ["shared"]) as tap:
        logits, (feature,) = tap(IMAGES)
    assert torch.equal(feature + 1, logits)


class InPlace(nn.Module):
    """Overwrites its first feature map, by a module that `build_model` can put right."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(144, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.relu(self.conv(images)).flatten(1))
        return logits


class InPlaceFunction(InPlace):
    """Overwrites its first feature map in its own code, where nobody can put it right."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(functional.relu(self.conv(images), inplace=True).flatten(1))
        return logits


def test_an_in_place_activation_does_not_touch_the_tapped_map() -> None:
    model = build_model(f"{__name__}:InPlace", (1, 8, 8), 10, seed=0)
    with Tap(model, ["conv"]) as tap:
        _, (feature,) = tap(IMAGES)
    assert torch.equal(feature, model.get_submodule("conv")(IMAGES))
    assert (feature < 0).any()


def test_a_map_overwritten_by_the_models_own_code_is_refused_not_used() -> None:
    model = InPlaceFunction(10)
    with Tap(model, ["conv"]) as tap, pytest.raises(RequestError, match="in-place"):
        tap(IMAGES)


def test_a_layer_that_does_not_run_is_refused() -> None:
    model = InPlaceFunction(10)
    with Tap(model, ["relu"]) as tap, pytest.raises(RequestError, match="no part in the forward"):
        tap(IMAGES)


def test_a_layer_that_gives_no_tensor_is_refused() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 10, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            states: Tensor = self.lstm(images.squeeze(1))[0]
            return states[:, -1]

    with Tap(Recurrent(), ["lstm"]) as tap, pytest.raises(RequestError, match="gives a tuple"):
        tap(IMAGES)


def test_taps_work_in_inference_mode() -> None:
    model = cnn()
    with torch.inference_mode(), Tap(model, ["conv1"]) as tap:
        assert tap(IMAGES)[1][0].shape == (4, 16, 8, 8)
