"""Small image sets in the file formats of MNIST and CIFAR-10, written by an independent hand."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from numpy.typing import NDArray

Labelled = tuple[NDArray[np.uint8], Sequence[int]]

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def small_set(seed: int = 0) -> tuple[NDArray[np.uint8], ...]:
    """Return train images [20, 28, 28], train labels, test images [12, 28, 28], test labels."""
    random = np.random.default_rng(seed)
    images = [random.integers(256, size=(n, 28, 28), dtype=np.uint8) for n in (20, 12)]
    labels = [random.integers(10, size=n).astype(np.uint8) for n in (20, 12)]
    return images[0], labels[0], images[1], labels[1]


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """Encode as idx: two zeros, type 8 (unsigned byte), rank, sizes big-endian, values."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def write_idx(folder: Path, arrays: tuple[NDArray[np.uint8], ...], gzipped: bool) -> dict[str, str]:
    """Write the four files and return their names with their MD5 sums."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        content = idx_bytes(array)
        file = folder / (f"{name}.gz" if gzipped else name)
        file.write_bytes(gzip.compress(content, mtime=0) if gzipped else content)
        sums[file.name] = hashlib.md5(file.read_bytes()).hexdigest()
    return sums


def write_cifar(root: Path) -> tuple[Any, NDArray[np.uint8]]:
    """Write an archive like CIFAR-10's with one training batch of 6 images and 4 test images.

    Returns:
        torchvision's reader, told the archive's checksums, and the training images [6, 32, 32, 3].
    """
    images = np.random.default_rng(1).integers(256, size=(10, 3, 32, 32), dtype=np.uint8)
    train, test = (images[:6], [0, 1, 2, 3, 4, 5]), (images[6:], [9, 8, 7, 6])
    return write_cifar_archive(root, train, test), images[:6].transpose(0, 2, 3, 1)


def write_cifar_archive(root: Path, train: Labelled, test: Labelled) -> Any:
    """Write images uint8 [N, 3, 32, 32] with labels as an archive like CIFAR-10's.

    Returns:
        torchvision's reader, told the archive's checksums.
    """
    folder = root / "source" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    contents: dict[str, dict[str, object]] = {
        name: {"data": images.reshape(len(images), -1), "labels": list(labels)}
        for name, (images, labels) in (("data_batch_1", train), ("test_batch", test))
    }
    contents["batches.meta"] = {"label_names": [str(label) for label in range(10)]}
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)

    class CIFAR10(torchvision.datasets.CIFAR10):  # type: ignore[misc]  # torchvision is untyped
        tgz_md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        url = "http://127.0.0.1:9/nowhere"
        train_list = (("data_batch_1", sums["data_batch_1"]),)
        test_list = (("test_batch", sums["test_batch"]),)
        meta = {  # noqa: RUF012  # as the parent class has it
            "filename": "batches.meta",
            "key": "label_names",
            "md5": sums["batches.meta"],
        }

    return CIFAR10
