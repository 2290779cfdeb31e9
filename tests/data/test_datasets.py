"""Data sets by name, and their normalisation."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from deffd_flower.data import datasets as module
from deffd_flower.data.datasets import (
    DatasetSpec,
    dataset,
    datasets,
    load_dataset,
    normalise,
    resolve_auto,
)
from deffd_flower.errors import DeffdError, RequestError

torch.set_num_threads(1)


def test_names_are_known_without_importing_the_heavy_libraries() -> None:
    program = (
        "import sys; from deffd_flower.data import datasets, partition;"
        "print(datasets.datasets.names());"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        "['cifar10', 'cifar100', 'digits', 'fashion-mnist', 'mnist']",
        "[]",
    ]


def test_digits_are_scikit_learns_scaled_to_bytes() -> None:
    data = load_dataset("digits")
    ours = torch.cat([data.train_images, data.test_images])
    assert ours.shape == (1797, 8, 8, 1)
    assert ours.dtype == torch.uint8
    assert ours.max() == 255
    theirs = np.rint(load_digits().images * 255 / 16).astype(np.uint8).reshape(1797, -1)
    assert sorted(map(bytes, ours.reshape(1797, -1).numpy())) == sorted(map(bytes, theirs))


def test_digits_are_split_80_to_20_in_every_class() -> None:
    data = load_dataset("digits")
    held_out = torch.bincount(data.test_labels, minlength=10)
    total = held_out + torch.bincount(data.train_labels, minlength=10)
    assert len(data.test_labels) == round(0.2 * 1797)
    assert ((held_out - 0.2 * total).abs() < 1).all()


def test_digits_split_never_changes() -> None:
    data = load_dataset("digits")
    digest = hashlib.sha256(data.test_images.numpy().tobytes()).hexdigest()
    assert digest == "23017b04ca76cd8513b6fbd5912d16bc01076987910c122ecb4077aa2c8fe4ec"


def test_declared_pixel_statistics_are_those_of_the_training_images() -> None:
    data = load_dataset("digits")
    pixels = data.train_images.double() / 255
    assert data.spec.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-4)
    assert data.spec.std[0] == pytest.approx(pixels.std().item(), abs=1e-4)


def test_a_data_set_is_read_once_per_process() -> None:
    assert load_dataset("digits") is load_dataset("digits")


@pytest.mark.skipif(
    not module.FASHION_MNIST_PACKAGE.is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_fashion_mnist_is_read_from_the_systems_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load_dataset("fashion-mnist")
    assert data.train_images.shape == (60_000, 28, 28, 1)
    assert data.test_images.shape == (10_000, 28, 28, 1)
    assert torch.bincount(data.train_labels).tolist() == [6000] * 10
    # The first test image is an ankle boot, then a pullover and two pairs of trousers.
    assert data.test_labels[:4].tolist() == [9, 2, 1, 1]
    pixels = data.train_images.float() / 255
    assert data.spec.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-4)
    assert data.spec.std[0] == pytest.approx(pixels.std().item(), abs=1e-4)
    assert resolve_auto() == "fashion-mnist"


def test_auto_is_digits_where_fashion_mnist_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    program = (
        "from pathlib import Path; from functools import partial; import dataclasses;"
        "from deffd_flower.data import datasets as d;"
        "old = d.datasets.get('fashion-mnist');"
        "read = partial(old.read, packaged=Path('/nonexistent'));"
        "d.datasets._entries['fashion-mnist'] = dataclasses.replace(old, read=read);"
        "print(d.resolve_auto())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "digits", result.stderr


@pytest.mark.parametrize("name", ["auto", "fashion_mnist", "mnits"])
def test_an_unknown_name_is_refused_with_those_there_are(name: str) -> None:
    # Other tests may have registered data sets of their own between these.
    with pytest.raises(RequestError, match=r"cifar10, cifar100, digits, fashion-mnist, .*mnist"):
        load_dataset(name)


def spec_of(mean: tuple[float, ...], std: tuple[float, ...]) -> DatasetSpec:
    return DatasetSpec(2, (len(mean), 5, 7), mean, std, lambda _: pytest.fail("must not be read"))


@pytest.mark.parametrize(
    "spec", [spec_of((0.3,), (0.2,)), spec_of((0.1, 0.5, 0.7), (0.2, 0.3, 0.9))]
)
def test_normalise_is_the_closed_form_in_channels_last_memory(spec: DatasetSpec) -> None:
    channels, height, width = spec.shape
    images = torch.randint(0, 256, (6, height, width, channels), dtype=torch.uint8)
    normal = normalise(images, spec)
    mean, std = (torch.tensor(v).double().view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    expected = (images.permute(0, 3, 1, 2).double() / 255 - mean) / std
    assert normal.dtype == torch.float32
    assert normal.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normal.double(), expected, rtol=0, atol=1e-5)


def test_normalise_takes_an_empty_batch() -> None:
    spec = spec_of((0.1, 0.5, 0.7), (0.2, 0.3, 0.9))
    empty = torch.empty((0, 5, 7, 3), dtype=torch.uint8)
    assert normalise(empty, spec).shape == (0, 3, 5, 7)


def test_normalise_first_used_for_inference_can_be_trained_with_later() -> None:
    spec = spec_of((0.11, 0.5, 0.7), (0.2, 0.3, 0.9))
    images = torch.zeros((2, 5, 7, 3), dtype=torch.uint8)
    with torch.inference_mode():
        normalise(images, spec)
    layer = torch.nn.Conv2d(3, 1, 3)
    layer(normalise(images, spec)).sum().backward()
    assert layer.weight.grad is not None


OWN_DATA_SETS = """
from pathlib import Path
import numpy as np
from deffd_flower.data.datasets import RawData, dataset

def raw(label):
    pixels, labels = np.zeros((8, 4, 4, 1), dtype=np.uint8), np.full(8, label)
    return RawData(pixels, labels, pixels, labels, "memory")

@dataset("tiny", classes=2, shape=(1, 4, 4), mean=(0.5,), std=(0.5,))
def tiny(data_dir: Path | None) -> RawData:
    assert data_dir == Path("somewhere")
    return raw(label=1)

@dataset("misshapen", classes=2, shape=(3, 4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)
def misshapen(data_dir: Path | None) -> RawData:
    return raw(label=1)

@dataset("mislabelled", classes=2, shape=(1, 4, 4), mean=(0.5,), std=(0.5,))
def mislabelled(data_dir: Path | None) -> RawData:
    return raw(label=2)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Import a user's module of data sets; forget its names afterwards."""
    name = "own_data_sets"
    (tmp_path / f"{name}.py").write_text(OWN_DATA_SETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(datasets, "_entries", dict(datasets._entries))
    import_module(name)
    yield name
    del sys.modules[name]


def test_a_data_set_of_ones_own_is_one_decorated_function(own_module: str) -> None:
    for name in ("tiny", f"{own_module}:tiny"):
        data = load_dataset(name, "somewhere")
        assert data.spec is datasets.get("tiny")
        assert data.train_images.shape == (8, 4, 4, 1)
        assert data.train_labels.dtype == torch.int64
        assert data.source == "memory"


def test_a_data_set_that_is_not_what_it_says_is_refused(own_module: str) -> None:
    with pytest.raises(DeffdError, match=r"misshapen: .*\(8, 4, 4, 3\)"):
        load_dataset("misshapen")
    with pytest.raises(DeffdError, match=r"mislabelled: .*0\.\.1"):
        load_dataset("mislabelled")
    with pytest.raises(RequestError, match="decorate its function"):
        load_dataset(f"{own_module}:raw")
    with pytest.raises(ValueError, match="3 channels"):
        dataset("x", classes=2, shape=(3, 4, 4), mean=(0.5,), std=(0.5,))
