"""One trial, in this process."""

import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deffd_flower.results.recorder import versions
from deffd_flower.sweep.plan import Sweep
from deffd_flower.sweep.trial import FAILED, FINISHED, Order, run_trial

Load = Callable[..., Sweep]


@pytest.fixture
def order(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """Eight short rounds, of which the third and the sixth are milestones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sweep = load("base: {dataset: digits, clients: 4, rounds: 8, local-epochs: 1}")
    return Order(sweep.trials[0].config.values(), (3, 6), False, str(tmp_path), versions())


def rounds_in(files: object) -> list[int]:
    assert isinstance(files, bytes)
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        text = archive.read("rounds.csv").decode()
    return [int(row["round"]) for row in csv.DictReader(io.StringIO(text))]


def test_a_trial_hands_in_its_files_at_milestones_and_in_the_end(
    order: Order, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    ended = run_trial(order, tmp_path / "run", told.append)
    assert ended["status"] == FINISHED
    assert rounds_in(ended["files"]) == list(range(1, 9))
    at_milestones = [report for report in told if "files" in report]
    assert [report["round"] for report in at_milestones] == [3, 6]
    assert [rounds_in(report["files"])[-1] for report in at_milestones] == [3, 6]
    assert all(0 < report["global_accuracy"] < 1 for report in told)
    assert 8 not in [report["round"] for report in told], "it is too late to stop it then"


def test_a_milestone_between_evaluations_counts_after_the_next(
    order: Order, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    every = replace(order, values={**order.values, "eval-every": 2})
    run_trial(every, tmp_path / "run", told.append)
    assert [report["round"] for report in told if "files" in report] == [4, 6]


def test_a_trial_that_is_stopped_leaves_no_models_behind(order: Order, tmp_path: Path) -> None:
    kept: list[int] = []

    def stop(report: dict[str, object]) -> None:
        kept.extend(1 for path in (tmp_path / "cache").rglob("*") if path.is_file())
        raise SystemExit

    on_disk = replace(order, values={**order.values, "client-state": "disk"})
    with pytest.raises(SystemExit):
        run_trial(on_disk, tmp_path / "run", stop)
    assert sum(kept) >= 4, "one for each client"
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_other_versions_of_what_decides_the_numbers_fail_it(order: Order, tmp_path: Path) -> None:
    other = replace(order, versions={**order.versions, "torch": "1.0"})
    ended = run_trial(other, tmp_path / "run", lambda report: None)
    assert ended["status"] == FAILED
    assert f"has torch {versions()['torch']}, not 1.0" in str(ended["reason"])


def test_a_failure_before_the_first_round_has_a_log_too(order: Order, tmp_path: Path) -> None:
    gone = replace(order, values={**order.values, "plugins": "no_such_module"})
    ended = run_trial(gone, tmp_path / "run", lambda report: None)
    assert ended["status"] == FAILED
    assert "no_such_module" in str(ended["reason"])
    files = ended["files"]
    assert isinstance(files, bytes)
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        assert archive.namelist() == ["run.log"]
        assert "Traceback" in archive.read("run.log").decode()


def test_figures_are_drawn_on_demand(order: Order, tmp_path: Path) -> None:
    short = {**order.values, "rounds": 1}
    ended = run_trial(replace(order, values=short, figures=True), tmp_path / "run", print)
    files = ended["files"]
    assert isinstance(files, bytes)
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        assert {"report.html", "figures/learning-curves.svg"} <= set(archive.namelist())
