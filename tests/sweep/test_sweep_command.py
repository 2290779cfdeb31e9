"""`deffd sweep` as a user meets it: real processes, interrupted and killed."""

import csv
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from deffd_flower.cli import app
from deffd_flower.config import FIELDS
from deffd_flower.errors import DeffdError
from deffd_flower.sweep import cluster
from deffd_flower.sweep.document import METRICS
from tests.sweep.sweeping import (
    SMALL,
    Sweeping,
    finished,
    lasting,
    processes_of,
    rows,
    run,
    wait_until_finished,
)

pytestmark = pytest.mark.slow


def test_a_sweep_has_a_row_and_a_run_directory_for_each_trial(whole: Path) -> None:
    table = rows(whole)
    assert [(row["strategy"], row["seed"]) for row in table] == [
        (strategy, seed) for strategy in ("def-fd", "full-avg") for seed in ("0", "1", "2")
    ]
    assert list(table[0])[: len(FIELDS) + 3] == [*FIELDS, "status", "trial", "run_dir"]
    for row in table:
        assert row["status"] == "finished"
        directory = whole / row["run_dir"]
        summary = json.loads((directory / "summary.json").read_text())
        assert row["trial"] == directory.name
        assert row["state_sha256"] == summary["state_sha256"]
        assert float(row["global_accuracy"]) == summary["global_accuracy"]
        config = yaml.safe_load((directory / "config.yaml").read_text())
        assert {key: str(value) for key, value in config.items()} == {k: row[k] for k in config}
        names = {path.name for path in directory.iterdir()}
        assert names >= {"rounds.csv", "clients.csv", "keys.csv", "run.log"}
        assert "report.html" not in names, "drawing each run takes longer than running it"


def test_every_metric_that_may_be_asked_for_is_one_that_runs_have(whole: Path) -> None:
    summary = json.loads((whole / rows(whole)[0]["run_dir"] / "summary.json").read_text())
    ratios = {"accuracy_per_key_bit", "accuracy_per_simulated_hour"}
    assert set(METRICS) - ratios <= set(summary)


def test_a_trial_is_the_run_that_its_config_says(whole: Path, tmp_path: Path) -> None:
    from tests.e2e.conftest import BIN, command

    row = rows(whole)[4]
    config = whole / row["run_dir"] / "config.yaml"
    command([str(BIN / "deffd"), "run", str(config), "out-dir=again"], tmp_path, {})
    again = json.loads((tmp_path / "again/summary.json").read_text())
    assert again["state_sha256"] == row["state_sha256"]
    assert str(again["global_accuracy"]) == row["global_accuracy"]


def test_interrupted_and_killed_it_goes_on_where_it_was(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    directory = tmp_path / "sweeps/small"
    sweeping = Sweeping(tmp_path, "small.yaml", "--workers", "1")
    wait_until_finished(sweeping, directory, 1)
    code, out, err = sweeping.stop(signal.SIGINT)
    assert code == 130, err
    assert "interrupted; go on with: deffd sweep small.yaml --resume --workers 1" in out
    before = finished(directory)
    assert 1 <= len(before) < 6
    assert {row["status"] for row in rows(directory)} == {"finished", "pending"}

    sweeping = Sweeping(tmp_path, "small.yaml", "--workers", "1", "--resume")
    more = wait_until_finished(sweeping, directory, len(before) + 1)
    scratch = (directory / ".lock").read_text().strip()
    assert Path(scratch).is_dir()
    sweeping.stop(signal.SIGKILL)
    assert len(more) < 6
    deadline = time.monotonic() + 60
    while processes_of(scratch) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(scratch) == [], "Ray has died with the sweep"

    out = run(tmp_path, "small.yaml", "--resume")
    assert "6/6 finished" in out
    assert not Path(scratch).exists()
    after = finished(directory)
    for name, written in {**before, **more}.items():
        assert after[name] == written, f"{name} was repeated"
    assert lasting(directory) == lasting(whole)


def test_there_is_nothing_left_to_do_in_a_whole_sweep(whole: Path) -> None:
    before = finished(whole)
    folder = whole.parents[1]
    run(folder, "small.yaml", "--resume")
    assert finished(whole) == before
    code, _, err = Sweeping(folder, "small.yaml").end()
    assert code == 2
    assert "go on with it by --resume" in err


def test_a_scheduler_that_ends_it_is_obeyed_without_a_core_dump(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    directory = tmp_path / "sweeps/small"
    sweeping = Sweeping(tmp_path, "small.yaml", "--workers", "1")
    wait_until_finished(sweeping, directory, 1)
    scratch = (directory / ".lock").read_text().strip()
    code, out, err = sweeping.stop(signal.SIGTERM)
    assert (code, err) == (130, "")
    assert "interrupted; go on with: deffd sweep small.yaml --resume --workers 1" in out
    assert processes_of(scratch) == []
    assert not Path(scratch).exists()


def test_a_signal_that_ray_takes_while_it_starts_is_an_interrupt_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def starting(folder: str, cores: int) -> None:
        # What Ray's own handler does until it is connected.
        sys.exit(signal.SIGTERM)

    monkeypatch.setattr(cluster, "_start", starting)
    with pytest.raises(KeyboardInterrupt), cluster.ray_cluster("", 1, lambda _: None):
        raise AssertionError("it has not started")


def test_what_other_versions_have_left_is_told_before_more_is_run(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    first, gone, *_ = sorted((tmp_path / "out" / "runs").iterdir())
    shutil.rmtree(gone)
    summary = json.loads((first / "summary.json").read_text())
    summary["versions"]["torch"] = "1.13.0"
    (first / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "small.yaml").write_text(SMALL)
    told = " ".join(run(tmp_path, "small.yaml", "--resume", "--out", "out").split())
    assert "1 of 5 filed runs have torch 1.13.0, not " in told
    assert "have numpy" not in told
    with (tmp_path / "out" / "sweep.csv").open() as file:
        made_with = [row["version_torch"] for row in csv.DictReader(file)]
    assert made_with.count("1.13.0") == 1


TROUBLE = """
base: {dataset: digits, clients: 4, rounds: 2, local-epochs: 1, plugins: trouble}
grid: {strategy: [hand-off, raises, dies, dies-always]}
seeds: [1]
"""


def test_a_trial_that_fails_costs_itself_and_one_whose_process_dies_is_tried_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "trouble.yaml").write_text(TROUBLE)
    own = {"DEFFD_TEST_MARKERS": str(tmp_path)}
    words = ("trouble.yaml", "--out", "out")
    code, out, err = Sweeping(tmp_path, *words, "--retries", "1", environment=own).end()
    assert code == 1, err
    assert err.count("\n") == 1
    assert "2 of 4 trials failed" in err
    assert "deffd sweep trouble.yaml --resume --out out" in err
    table = {row["strategy"]: row for row in rows(tmp_path / "out")}
    failed = {name for name, row in table.items() if row["status"] == "failed"}
    assert failed == {"raises", "dies-always"}
    assert (tmp_path / "raised").read_text() == "once\n", "it would fail again"
    log = tmp_path / "out" / table["raises"]["run_dir"] / "run.log"
    assert "ValueError: no luck in round 2" in log.read_text()
    assert f"failed raises_seed-1: ValueError: no luck in round 2. The log is {log}\n" in out
    assert "lost dies_seed-1" in out
    assert "failed dies-always_seed-1: its process has died, or could not start, 2 times" in out
    assert table["dies"]["state_sha256"] == table["hand-off"]["state_sha256"]

    before = finished(tmp_path / "out")
    resume = (*words, "--resume", "--retries", "0")
    code, out, _ = Sweeping(tmp_path, *resume, environment=own).end()
    assert code == 1, "what failed is tried again, and fails again"
    assert (tmp_path / "raised").read_text() == "once\nonce\n"
    assert "lost" not in out
    assert finished(tmp_path / "out") == before


HALVED = """
base: {dataset: digits, clients: 4, rounds: 9, local-epochs: 2}
grid: {lr: [0.05, 1e-6, 2e-6, 3e-6]}
stop: {grace-rounds: 2, reduction-factor: 4}
"""


def test_what_falls_behind_is_stopped_and_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "halved.yaml").write_text(HALVED)
    out = run(tmp_path, "halved.yaml", "--out", "out", "--workers", "1")
    table = rows(tmp_path / "out")
    assert [row["status"] for row in table] == ["finished", "stopped", "stopped", "stopped"]
    assert [row["run_dir"].partition("/")[0] for row in table] == ["runs", *["stopped"] * 3]
    assert [bool(row["global_accuracy"]) for row in table] == [True, False, False, False]
    curve = (tmp_path / "out" / table[1]["run_dir"] / "rounds.csv").read_text()
    assert curve.count("\n") == 1 + 2, "two rounds of grace"
    assert "stopped lr-1e-06_seed-0" in out
    resumed = run(tmp_path, "halved.yaml", "--out", "out", "--resume")
    assert "/4" not in resumed, "a stopped trial is not run again"


def test_a_wrong_trial_ends_it_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(SMALL.replace("[def-fd", "[def-fdd"))
    code, _, err = Sweeping(tmp_path, "wrong.yaml").end()
    assert code == 2
    assert "wrong.yaml:10: grid.strategy[0]=def-fdd: must be one of" in err
    assert err.count("\n") == 1
    (tmp_path / "layers.yaml").write_text(SMALL + "\n")
    code, _, err = Sweeping(tmp_path, "layers.yaml", "feature-layers=conv9").end()
    assert code == 2
    assert "feature-layers=conv9: " in err
    assert {path.name for path in tmp_path.iterdir()} == {"wrong.yaml", "layers.yaml"}


def test_a_dry_run_has_a_line_for_each_cell_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    many = "grid: {strategy: [def-fd], gamma: [0.1, 1], lr: [0.01, 0.02], momentum: [0, 0.9], "
    many += "batch-size: [8, 16], local-epochs: [1, 2]}\nseeds: 3\n"
    (tmp_path / "many.yaml").write_text("base: {dataset: digits, clients: 4}\n" + many)
    result = CliRunner().invoke(app, ["sweep", "many.yaml", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "96 trials" in result.output
    cells = [line for line in result.output.splitlines() if line.startswith("│")]
    assert len(cells) == 32
    words = "gamma=0.1 lr=0.02 momentum=0.9 batch-size=8 local-epochs=2"
    assert sum(words in line and "0, 1, 2" in line for line in cells) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["many.yaml"]


def test_without_ray_tune_it_says_what_to_install_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    result = CliRunner().invoke(app, ["sweep", "small.yaml"])
    assert isinstance(result.exception, DeffdError)
    assert "pip install 'deffd-flower[sweep]'" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
