"""Where the published image sets come from: a folder, the system, the cache or the network.

torchvision's own classes read every file; this module only finds the files and puts them where
torchvision looks for them.
"""

import gzip
import hashlib
import logging
import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deffd_flower.data.cache import cache_folder, publish
from deffd_flower.data.network import bounded_network
from deffd_flower.errors import DeffdError

ReaderClass = Any  # torchvision ships no types

log = logging.getLogger(__name__)

UNREADABLE = (
    *(OSError, EOFError, zlib.error, pickle.UnpicklingError),
    *(RuntimeError, ValueError, KeyError, AssertionError),
)

# Fashion-MNIST took over MNIST's file names; these labels tell the two apart.
FIRST_TEST_LABELS = {
    "FashionMNIST": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7],
    "MNIST": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
}


@dataclass(frozen=True)
class RawData:
    """A data set as it lies on disk.

    Attributes:
        train_images: uint8 [N, H, W, C].
        train_labels: Class numbers from 0, [N].
        test_images: uint8 [M, H, W, C].
        test_labels: Class numbers from 0, [M].
        source: Where it was read from, for the report.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    source: str = ""


def read_image_set(
    reader_name: str, data_dir: Path | None, packaged: Path | None = None
) -> RawData:
    """Return one of torchvision's data sets from the first place that has it.

    The places are ``data_dir``, the distribution's package, the user's cache, and the network,
    in this order. A folder may hold torchvision's layout or flat idx files, gzipped or not. A
    download goes to ``data_dir`` if that is a folder one can write to, else to the cache.

    Args:
        reader_name: ``FashionMNIST``, ``MNIST``, ``CIFAR10`` or ``CIFAR100``.
        data_dir: The user's folder.
        packaged: The folder of the system's package of this data set, if there is such a package.

    Raises:
        DeffdError: No place has it; the message names each with its reason.
    """
    reader = getattr(import_module("torchvision.datasets"), reader_name)
    folders = [folder for folder in (data_dir, packaged, cache_folder()) if folder]
    target = data_dir if data_dir and os.access(data_dir, os.W_OK) else cache_folder()
    places: list[tuple[str, Path, Callable[[ReaderClass, Path], RawData]]] = [
        *((str(folder), folder, read_folder) for folder in folders),
        (f"download to {target}", target, download),
    ]
    failures, broken = [], []
    for place, folder, attempt in places:
        try:
            data = attempt(reader, folder)
        except UNREADABLE as problem:
            failures.append(f"{place}: {_one_line(problem)}")
            if not isinstance(problem, FileNotFoundError):
                broken.append(failures[-1])
        else:
            if broken:
                log.warning("%s was read from %s, for %s", reader_name, place, "; ".join(broken))
            return data
    raise DeffdError(_nowhere(reader_name, failures, packaged))


def embedded_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return scikit-learn's digits: pixels 0..16, [1797, 64], and labels [1797].

    From its file, as importing scikit-learn takes a second; through it where the file has moved.
    """
    try:
        file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
        table = np.loadtxt(str(file), delimiter=",")
    except (PackageNotFoundError, OSError):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return pixels, labels
    return table[:, :-1], table[:, -1].astype(np.int64)


def read_folder(reader: ReaderClass, folder: Path) -> RawData:
    """Return the data set from a folder in torchvision's layout or with flat idx files.

    Raises:
        FileNotFoundError: The folder holds neither.
    """
    if _in_torchvision_layout(reader, folder):
        return _read(reader, folder, folder)
    if not hasattr(reader, "resources"):
        raise FileNotFoundError(f"no folder {reader.base_folder}")
    for flat in (folder, _raw_folder(reader, folder)):
        files = _flat_files(reader, flat)
        if files:
            return _read_flat(reader, files)
    first = _idx_names(reader)[0]
    raise FileNotFoundError(f"neither {reader.__name__}/raw nor {first}[.gz] and its siblings")


def download(reader: ReaderClass, folder: Path, patience: float = 10.0) -> RawData:
    """Let torchvision download the data set into a folder, then return it.

    Args:
        reader: torchvision's class.
        folder: Gets torchvision's layout; an archive lying there is unpacked, not fetched.
        patience: Seconds to wait for a first answer from the mirror.

    Raises:
        OSError: No mirror answered, or the folder cannot be written.
        RuntimeError: What came back is not the data set.
    """
    archive = folder / getattr(reader, "filename", "")
    if archive.is_file() and _hash(archive, "md5") == reader.tgz_md5:
        publish(folder, lambda scratch: _fetch(reader, scratch, archive))
    else:
        mirrors = getattr(reader, "mirrors", None) or [reader.url]
        with bounded_network(mirrors, patience):
            publish(folder, lambda scratch: _fetch(reader, scratch))
    return _read(reader, folder, folder)


def _fetch(reader: ReaderClass, scratch: Path, archive: Path | None = None) -> None:
    if archive:
        (scratch / archive.name).symlink_to(archive.resolve())
    reader(str(scratch), download=True)


def _read(reader: ReaderClass, root: Path, source: Path) -> RawData:
    """Let torchvision read both halves below ``root``."""
    train, test = (reader(str(root), train=part) for part in (True, False))
    return RawData(
        _channels_last(train.data),
        np.asarray(train.targets, dtype=np.int64),
        _channels_last(test.data),
        np.asarray(test.targets, dtype=np.int64),
        str(source),
    )


def _read_flat(reader: ReaderClass, files: list[Path]) -> RawData:
    """Unpack idx files into the cache once, in torchvision's layout, and read them there."""
    try:
        root = cache_folder() / "unpacked" / _digest(files)
        if not _in_torchvision_layout(reader, root):
            publish(root, lambda scratch: _unpack(reader, files, scratch))
        data = _read(reader, root, files[0].parent)
    except OSError:  # a cache that cannot be written is no reason to fail
        with TemporaryDirectory() as scratch:
            _unpack(reader, files, Path(scratch))
            data = _read(reader, Path(scratch), files[0].parent)
    _refuse_namesake(reader, data)
    return data


def _refuse_namesake(reader: ReaderClass, data: RawData) -> None:
    found = data.test_labels[:10].tolist()
    for name, labels in FIRST_TEST_LABELS.items():
        if found == labels and name != reader.__name__:
            raise ValueError(f"its idx files are those of {name}, not of {reader.__name__}")


def _unpack(reader: ReaderClass, files: list[Path], root: Path) -> None:
    raw = _raw_folder(reader, root)
    raw.mkdir(parents=True)
    for packed, name in zip(files, _idx_names(reader), strict=True):
        opener = gzip.open if packed.suffix == ".gz" else open
        with opener(packed, "rb") as source, (raw / name).open("wb") as target:
            shutil.copyfileobj(source, target)


def _in_torchvision_layout(reader: ReaderClass, folder: Path) -> bool:
    if hasattr(reader, "resources"):
        raw = _raw_folder(reader, folder)
        return all((raw / name).is_file() for name in _idx_names(reader))
    return (folder / str(reader.base_folder)).is_dir()


def _raw_folder(reader: ReaderClass, folder: Path) -> Path:
    return folder / str(reader.__name__) / "raw"


def _idx_names(reader: ReaderClass) -> list[str]:
    return [Path(name).stem for name, _ in reader.resources]


def _flat_files(reader: ReaderClass, folder: Path) -> list[Path]:
    """Return the idx files in torchvision's order, or nothing when one is missing."""
    candidates = [(folder / name, folder / f"{name}.gz") for name in _idx_names(reader)]
    files = [next((file for file in pair if file.is_file()), None) for pair in candidates]
    return [] if None in files else [file for file in files if file]


def _digest(files: list[Path]) -> str:
    """Return a name for the files' contents, so that other contents get another cache entry."""
    return hashlib.sha256("".join(_hash(file, "sha256") for file in files).encode()).hexdigest()


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _channels_last(images: Any) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.asarray(images)
    return array if array.ndim == 4 else array[..., np.newaxis]


def _one_line(problem: BaseException) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__


def _nowhere(reader_name: str, failures: list[str], packaged: Path | None) -> str:
    package = f", install the Debian package dataset-{packaged.name}" if packaged else ""
    return (
        f"{reader_name} was not found and could not be downloaded ({'; '.join(failures)}). "
        f"Type data-dir=FOLDER with its files{package}, or type dataset=digits"
    )
