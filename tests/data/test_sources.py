"""Where the published image sets come from."""

import gzip
import hashlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from deffd_flower.data import network
from deffd_flower.data.sources import RawData, download, read_folder, read_image_set
from deffd_flower.errors import DeffdError, RequestError

from .idx_files import IDX_NAMES, idx_bytes, small_set, write_cifar, write_idx

FashionMNIST: Any = torchvision.datasets.FashionMNIST
MNIST: Any = torchvision.datasets.MNIST


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty cache and a network that refuses every connection."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "deffd-flower" / "data"


def assert_is_small_set(data: RawData, seed: int = 0) -> None:
    train_images, train_labels, test_images, test_labels = small_set(seed)
    assert np.array_equal(data.train_images, train_images[..., np.newaxis])
    assert np.array_equal(data.train_labels, train_labels)
    assert np.array_equal(data.test_images, test_images[..., np.newaxis])
    assert np.array_equal(data.test_labels, test_labels)
    assert data.train_labels.dtype == np.int64


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("inner", [".", "FashionMNIST/raw"])
def test_a_folder_may_be_flat_or_torchvisions_and_gzipped_or_not(
    tmp_path: Path, inner: str, gzipped: bool
) -> None:
    write_idx(tmp_path / "mine" / inner, small_set(), gzipped)
    assert_is_small_set(read_folder(FashionMNIST, tmp_path / "mine"))


def test_data_dir_comes_before_the_package_and_the_package_before_the_cache(
    tmp_path: Path, cache: Path
) -> None:
    mine, packaged = tmp_path / "mine", tmp_path / "packaged"
    write_idx(cache, small_set(seed=3), gzipped=True)
    assert_is_small_set(read_image_set("FashionMNIST", mine, packaged), seed=3)
    write_idx(packaged, small_set(seed=2), gzipped=True)
    assert_is_small_set(read_image_set("FashionMNIST", mine, packaged), seed=2)
    write_idx(mine, small_set(seed=1), gzipped=True)
    data = read_image_set("FashionMNIST", mine, packaged)
    assert_is_small_set(data, seed=1)
    assert data.source == str(mine)


def test_flat_files_are_unpacked_once_and_again_when_they_change(
    tmp_path: Path, cache: Path
) -> None:
    write_idx(tmp_path / "mine", small_set(seed=1), gzipped=True)
    read_folder(FashionMNIST, tmp_path / "mine")
    unpacked = sorted(cache.rglob("*-ubyte"))
    stamps = [file.stat().st_mtime_ns for file in unpacked]
    assert [file.name for file in unpacked] == sorted(IDX_NAMES)
    read_folder(FashionMNIST, tmp_path / "mine")
    assert [file.stat().st_mtime_ns for file in sorted(cache.rglob("*-ubyte"))] == stamps
    write_idx(tmp_path / "mine", small_set(seed=2), gzipped=True)
    assert_is_small_set(read_folder(FashionMNIST, tmp_path / "mine"), seed=2)


READ_AND_HASH = """
import hashlib, sys
from pathlib import Path
from deffd_flower.data.sources import read_image_set
data = read_image_set("FashionMNIST", Path(sys.argv[1]))
print(hashlib.sha256(data.train_images.tobytes()).hexdigest())
"""


def test_processes_that_unpack_at_once_all_read_the_same(tmp_path: Path, cache: Path) -> None:
    write_idx(tmp_path / "mine", small_set(), gzipped=True)
    command = [sys.executable, "-c", READ_AND_HASH, str(tmp_path / "mine")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [worker.communicate()[0].strip() for worker in workers]
    assert printed == [hashlib.sha256(small_set()[0].tobytes()).hexdigest()] * 3
    assert not [path for path in cache.rglob("*") if path.name.startswith(".unpacking")]


def test_an_interrupted_unpacking_is_never_mistaken_for_a_whole_one(
    tmp_path: Path, cache: Path
) -> None:
    write_idx(tmp_path / "mine", small_set(), gzipped=True)
    read_folder(FashionMNIST, tmp_path / "mine")
    next(cache.rglob("t10k-labels-idx1-ubyte")).unlink()
    assert_is_small_set(read_folder(FashionMNIST, tmp_path / "mine"))


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file, where a folder would have to be made")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_idx(tmp_path / "mine", small_set(), gzipped=True)
    assert_is_small_set(read_folder(FashionMNIST, tmp_path / "mine"))


def test_broken_files_are_told_of_when_another_place_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, packaged = tmp_path / "mine", tmp_path / "packaged"
    write_idx(packaged, small_set(), gzipped=True)
    write_idx(mine, small_set(seed=1), gzipped=True)
    broken = mine / f"{IDX_NAMES[0]}.gz"
    broken.write_bytes(broken.read_bytes()[:-200])
    with caplog.at_level(logging.WARNING):
        assert_is_small_set(read_image_set("FashionMNIST", mine, packaged))
    assert str(mine) in caplog.text
    assert str(packaged) in caplog.text


def test_files_of_the_namesake_are_refused(tmp_path: Path) -> None:
    train_images, train_labels, test_images, test_labels = small_set()
    test_labels[:10] = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    write_idx(tmp_path, (train_images, train_labels, test_images, test_labels), gzipped=True)
    read_folder(MNIST, tmp_path)
    with pytest.raises(ValueError, match="those of MNIST, not of FashionMNIST"):
        read_folder(FashionMNIST, tmp_path)


def test_when_nothing_works_one_error_names_every_place_and_what_to_type(
    tmp_path: Path, cache: Path
) -> None:
    mine, packaged = tmp_path / "mine", tmp_path / "fashion-mnist"
    started = time.monotonic()
    with pytest.raises(DeffdError) as caught:
        read_image_set("FashionMNIST", mine, packaged)
    assert time.monotonic() - started < 10
    assert not isinstance(caught.value, RequestError)
    message = str(caught.value)
    for place in (mine, packaged, cache, "download", "refused"):
        assert str(place) in message
    for remedy in ("data-dir=", "dataset-fashion-mnist", "dataset=digits"):
        assert remedy in message
    assert "\n" not in message


def test_a_folder_that_does_not_exist_is_not_made_for_a_download(tmp_path: Path) -> None:
    with pytest.raises(DeffdError):
        read_image_set("MNIST", tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Any]:
    """Serve a small Fashion-MNIST on this machine; give torchvision's reader, pointed at it."""
    sums = write_idx(tmp_path / "served", small_set(), gzipped=True)
    handler = partial(SilentHandler, directory=str(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield reader_at(f"http://127.0.0.1:{server.server_port}/", sums)
    server.shutdown()
    server.server_close()


def reader_at(url: str, sums: dict[str, str]) -> Any:
    return type("FashionMNIST", (FashionMNIST,), {"mirrors": [url], "resources": [*sums.items()]})


def test_a_download_leaves_torchvisions_layout_and_no_archives(tmp_path: Path, mirror: Any) -> None:
    target = tmp_path / "target"
    assert_is_small_set(download(mirror, target))
    left = sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file())
    assert left == sorted(f"FashionMNIST/raw/{name}" for name in IDX_NAMES)
    assert_is_small_set(read_folder(FashionMNIST, target))


def test_a_download_with_the_wrong_checksum_is_refused(tmp_path: Path, mirror: Any) -> None:
    served = tmp_path / "served" / f"{IDX_NAMES[2]}.gz"
    served.write_bytes(gzip.compress(idx_bytes(small_set(seed=9)[2])))
    with pytest.raises(RuntimeError):
        download(mirror, tmp_path / "target")
    assert not list((tmp_path / "target").rglob("*ubyte*"))


def test_a_download_leaves_the_socket_timeout_as_it_was(tmp_path: Path, mirror: Any) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7.0)
    try:
        download(mirror, tmp_path / "target")
        assert socket.getdefaulttimeout() == 7.0
    finally:
        socket.setdefaulttimeout(before)


def test_a_mirror_that_never_answers_is_given_up_on_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reader = reader_at(f"http://127.0.0.1:{silent.getsockname()[1]}/", {"x.gz": "0"})
        started = time.monotonic()
        with pytest.raises(OSError, match=r"no network to 127\.0\.0\.1"):
            download(reader, tmp_path, patience=0.5)
    assert 0.4 < time.monotonic() - started < 3


class StallingHandler(SilentHandler):
    """Answers the first question, then sends half of what it announced and no more."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 500)
        self.wfile.flush()
        time.sleep(5)


def test_a_transfer_that_stalls_is_given_up_on_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "STALL_SECONDS", 0.5)
    server = ThreadingHTTPServer(("127.0.0.1", 0), StallingHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    reader = reader_at(f"http://127.0.0.1:{server.server_port}/", {"x.gz": "0"})
    started = time.monotonic()
    with pytest.raises((OSError, RuntimeError), match="timed out"):
        download(reader, tmp_path)
    assert time.monotonic() - started < 4
    server.shutdown()
    server.server_close()


def test_an_archive_in_the_folder_is_unpacked_without_network(tmp_path: Path) -> None:
    reader, images = write_cifar(tmp_path)
    data = download(reader, tmp_path)
    assert np.array_equal(data.train_images, images)
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.test_labels.tolist() == [9, 8, 7, 6]
    assert np.array_equal(read_folder(reader, tmp_path).train_images, images)


def test_a_damaged_archive_is_neither_used_nor_overwritten(tmp_path: Path) -> None:
    reader, _ = write_cifar(tmp_path)
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-10])
    size = archive.stat().st_size
    with pytest.raises(OSError, match="no network"):
        download(reader, tmp_path)
    assert archive.stat().st_size == size
