"""Seeds, validation split and consensus distance on Ray: the numbers of `deffd run`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Command
from tests.e2e.test_engines import QUICK, run_in_process


@pytest.mark.slow
def test_flwr_run_seeds_judges_and_estimates_as_deffd_run_does(
    flwr_run: Command, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {
        "consensus_distance": True,
        "partition_seed": 4,
        "evaluate_on": "validation",
    }
    here = run_in_process(tmp_path / "here", **keys)
    words = [f"{key}={value!r}" for key, value in QUICK.items()]
    words += ["consensus-distance=true", "partition-seed=4", "evaluate-on='validation'"]
    done = flwr_run(4, *words, f"out-dir='{tmp_path / 'there'}'")
    assert done.code == 0, done.out + done.err
    there = json.loads((tmp_path / "there" / "summary.json").read_text())
    for name in ("consensus_distance", "state_sha256", "partition_seed", "evaluation_samples"):
        assert there[name] == here[name]
