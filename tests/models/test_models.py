"""Networks by name, and networks of one's own."""

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.errors import RequestError
from deffd_flower.models import build_model, models

torch.set_num_threads(1)

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
BUILT_IN = ["cnn", "defkt-cnn", "mlp", "resnet18"]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def weights(name: str, seed: int) -> Tensor:
    model = build_model(name, (1, 8, 8), 10, seed)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_model_takes_every_image_size_and_learns(
    name: str, shape: tuple[int, int, int]
) -> None:
    model = build_model(name, shape, 7, seed=0)
    logits = model(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    logits.logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize(
    ("name", "count"), [("cnn", 29_066), ("defkt-cnn", 29_034), ("mlp", 199_210)]
)
def test_parameter_counts_on_fashion_mnist_are_the_published_ones(name: str, count: int) -> None:
    assert parameters(build_model(name, (1, 28, 28), 10, seed=0)) == count


def test_resnet18_normalises_by_groups_and_keeps_the_resolution_in_its_stem() -> None:
    model = build_model("resnet18", (3, 32, 32), 10, seed=0)
    kinds = [type(module) for module in model.modules()]
    assert nn.BatchNorm2d not in kinds
    assert nn.MaxPool2d not in kinds
    assert kinds.count(nn.GroupNorm) == 20
    assert model.get_submodule("layer1")(
        model.get_submodule("conv1")(torch.zeros(1, 3, 32, 32))
    ).shape == (1, 64, 32, 32)


def test_cnn_is_the_figures_three_convolutions_and_one_layer() -> None:
    names = [name for name, _ in build_model("cnn", (1, 28, 28), 10, seed=0).named_children()]
    convolutions = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "pool", "relu")]
    assert names == [*convolutions, "flatten", "fc"]


@pytest.mark.parametrize("name", ["cnn", "defkt-cnn"])
def test_pooling_before_relu_computes_what_pooling_after_it_does(name: str) -> None:
    """To the last bit, gradients too: textbooks have the other order."""
    model = build_model(name, (1, 28, 28), 10, seed=3)
    modules = dict(model.named_children())
    order = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "norm", "relu", "pool")]
    chosen = [modules[each] for each in [*order, "flatten", "fc"] if each in modules]
    textbook = nn.Sequential(*copy.deepcopy(nn.ModuleList(chosen)))
    images = torch.randn(32, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    outputs = [network(images) for network in (model, textbook)]
    assert torch.equal(*outputs)
    for output in outputs:
        torch.autograd.backward(nn.functional.cross_entropy(output, torch.arange(32) % 10))
    for ours, theirs in zip(model.parameters(), textbook.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_seed_alone_decides_the_initial_weights(name: str) -> None:
    torch.manual_seed(1)
    first = weights(name, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, weights(name, seed=5))
    assert not torch.equal(first, weights(name, seed=6))


def test_models_built_in_threads_at_once_have_the_weights_of_their_seeds() -> None:
    alone = [weights("mlp", seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(partial(weights, "mlp"), range(24)))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_building_a_model_leaves_pytorchs_generator_as_it_was() -> None:
    torch.manual_seed(1)
    undisturbed = torch.rand(4)
    torch.manual_seed(1)
    build_model("cnn", (1, 8, 8), 10, seed=5)
    assert torch.equal(torch.rand(4), undisturbed)


@pytest.mark.parametrize("name", ["cnn", "defkt-cnn", "resnet18"])
def test_convolutions_are_in_channels_last_memory(name: str) -> None:
    model = build_model(name, (3, 32, 32), 10, seed=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_torchvision_is_imported_for_resnet18_only() -> None:
    program = (
        "import sys; from deffd_flower.models import build_model;"
        "build_model('cnn', (1, 8, 8), 10, 0); print('torchvision' in sys.modules);"
        "build_model('resnet18', (1, 8, 8), 10, 0); print('torchvision' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.split() == ["False", "True"]


class Net(nn.Module):
    """A user's network, with in-place activations, written without this package in mind."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(outputs)
        )

    def forward(self, images: Tensor) -> Any:
        return self.layers(images)


class Fixed(Net):
    def __init__(self, width: int = 3) -> None:
        super().__init__(10)


class ByName(Net):
    def __init__(self, hidden: int = 3, num_classes: int = 2, in_channels: int = 99) -> None:
        assert (hidden, in_channels) == (3, 1)
        super().__init__(num_classes)


def by_position(size: tuple[int, int, int], count: int) -> nn.Module:
    assert size == (1, 8, 8)
    return Net(count)


def by_keywords(*, dropout: float = 0.1, **options: Any) -> nn.Module:
    assert list(options) == ["num_classes"]
    return Net(options["num_classes"])


def input_shape_alone(input_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], 10))


def two_outputs(classes: int) -> nn.Module:
    class Pair(Net):
        def forward(self, images: Tensor) -> Any:
            return self.layers(images), images

    return Pair(classes)


def no_module(classes: int) -> Any:
    return classes


def three_wanted(a: int, b: int, c: int) -> nn.Module:
    raise NotImplementedError


@pytest.mark.parametrize(
    "builder", ["Net", "Fixed", "ByName", "by_position", "by_keywords", "input_shape_alone"]
)
def test_a_model_of_ones_own_needs_no_change(builder: str) -> None:
    model = build_model(f"{__name__}:{builder}", (1, 8, 8), 10, seed=0)
    assert model(torch.zeros(5, 1, 8, 8)).shape == (5, 10)


def test_a_registered_model_of_ones_own_is_found_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "_entries", dict(models._entries))
    models.register("by-position")(by_position)
    assert isinstance(build_model("by-position", (1, 8, 8), 10, seed=0), Net)


def test_lazy_layers_get_their_weights_from_the_seed() -> None:
    name = f"{__name__}:Net"
    assert torch.equal(weights(name, seed=1), weights(name, seed=1))
    assert not torch.equal(weights(name, seed=1), weights(name, seed=2))


def test_in_place_activations_are_made_ordinary() -> None:
    model = build_model(f"{__name__}:Net", (1, 8, 8), 10, seed=0)
    flags = [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)]
    assert flags == [False]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cnm", "Did you mean 'cnn'"),
        (f"{__name__}:Absent", "cannot be imported"),
        (f"{__name__}:no_module", "must give a torch.nn.Module, gave int"),
        (f"{__name__}:three_wanted", "cannot be built"),
        (f"{__name__}:two_outputs", r"must give \[batch, 4\] logits.* gave tuple"),
        (f"{__name__}:Fixed", r"must give \[batch, 4\] logits.* gave \(2, 10\)"),
        ("torchvision.models:squeezenet1_1", "fails on images"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_reason(name: str, advice: str) -> None:
    with pytest.raises(RequestError, match=advice) as caught:
        build_model(name, (1, 8, 8), 4, seed=0)
    assert caught.value.key == "model"


def test_a_torchvision_model_works_by_its_dotted_path() -> None:
    model = build_model("torchvision.models:squeezenet1_1", (3, 32, 32), 10, seed=0)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_images_too_small_for_the_poolings_are_refused() -> None:
    with pytest.raises(RequestError, match="8x8 or more, not 7x9"):
        build_model("cnn", (1, 7, 9), 10, seed=0)
