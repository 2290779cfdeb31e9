"""Sweep files, written as a user would."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from deffd_flower.sweep.load import load_sweep
from deffd_flower.sweep.plan import Sweep
from tests.sweep.sweeping import SMALL, run

Load = Callable[..., Sweep]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a sweep file from its text."""

    def read(text: str, **words: object) -> Sweep:
        (tmp_path / "try.yaml").write_text(dedent(text))
        given = {key.replace("_", "-"): value for key, value in words.items()}
        return load_sweep(tmp_path / "try.yaml", given)

    return read


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SMALL)
    assert "6/6 finished" in run(folder, "small.yaml")
    return folder / "sweeps/small"
