"""`deffd` as a user meets it: results, errors, exit codes."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from deffd_flower import __version__
from deffd_flower.config import DEFAULTS
from tests.e2e.conftest import BIN, Command, heed_interrupts

QUICK = ("dataset=digits", "clients=4", "rounds=2", "local-epochs=1")

SUMMARY = {
    *("strategy", "dataset", "model", "seed", "clients", "rounds"),
    *("global_accuracy", "global_accuracy_std", "local_accuracy", "local_accuracy_prior"),
    *("held_accuracy", "absent_accuracy", "worst10_accuracy"),
    *("models_sent", "bytes_sent", "key_bits", "sealed_failures", "state_sha256"),
    *("wall_s", "compute_s", "engine", "versions"),
}


def test_a_run_leaves_the_directory_that_the_contract_promises(
    deffd: Command, tmp_path: Path
) -> None:
    done = deffd("run", *QUICK, "out-dir=run")
    assert done.code == 0, done.err
    assert "Global accuracy (%)" in done.out
    assert "report:" in done.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary) >= SUMMARY
    assert summary["models_sent"] == 4
    assert summary["engine"] == "in-process"
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert set(config) == set(DEFAULTS)
    with (tmp_path / "run" / "rounds.csv").open() as file:
        assert [row["round"] for row in csv.DictReader(file)] == ["1", "2"]
    with (tmp_path / "run" / "clients.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 4
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"learning-curves.svg", "learning-curves.png", "partition.svg"} <= figures
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()


def test_a_run_can_be_repeated_from_its_config_bit_for_bit(deffd: Command, tmp_path: Path) -> None:
    digests = []
    deffd("run", *QUICK, "strategy=combo", "out-dir=first")
    deffd("run", "first/config.yaml", "out-dir=second", "eval-every=2")
    for name in ("first", "second"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        digests.append(summary["state_sha256"])
    assert digests[0] == digests[1], "not even the rhythm of evaluation changes the weights"
    other = deffd("run", "first/config.yaml", "out-dir=third", "seed=1")
    assert other.code == 0
    third = json.loads((tmp_path / "third" / "summary.json").read_text())
    assert third["state_sha256"] != digests[0]


def test_it_says_its_version(deffd: Command) -> None:
    done = deffd("--version")
    assert (done.code, done.out) == (0, f"deffd-flower {__version__}\n")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("gamma=-1", "gamma=-1: must be at least 0"),
        ("strategy=deffd", "Did you mean 'def-fd'"),
        ("classes-per-client=11", "must be at most 10"),
        ("clients=1", "must be at least 2"),
        ("dataset=nope", "must be one of"),
        ("lr=abc", "must be a number"),
        ("gama=0.1", "Did you mean 'gamma'"),
        ("model=cnnn", "must be one of"),
        ("feature-loss=l3", "must be one of"),
        ("feature-layers=conv9", "conv1"),
        ("samples-per-client=600", "samples-per-client"),
        ("device=tpu", "device=tpu"),
        ("no-such-file.yaml", "cannot be read"),
        ("rounds", "must be a FILE.yaml or key=value"),
    ],
)
def test_a_wrong_request_ends_with_one_line_and_exit_code_2_and_writes_nothing(
    deffd: Command, tmp_path: Path, word: str, told: str
) -> None:
    done = deffd("run", "dataset=digits", word)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["feature-loss=at"], "not [2, 32, 4, 4] and [2, 200]"),
        (["feature-layers=conv1"], "feature-layers=conv1: mlp has no conv1"),
        (["strategy=full-avg"], "model=cnn,mlp: strategy=full-avg is for one architecture"),
        (["model=cnn,mlpp"], "model=mlpp: must be one of"),
        (["model=cnn*2,mlp", "clients=2"], "clients=2: leaves no client for mlp"),
    ],
)
def test_architectures_that_do_not_fit_are_refused_before_anything_is_written(
    deffd: Command, tmp_path: Path, words: list[str], told: str
) -> None:
    done = deffd("run", "dataset=digits", "model=cnn,mlp", *words)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_more_clients_than_samples_allow_says_what_to_type(deffd: Command) -> None:
    done = deffd("run", "dataset=digits", "clients=2000")
    assert done.code == 2
    assert "clients" in done.err


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_typed_key_that_the_strategy_sets_is_refused_but_not_one_of_a_file(
    deffd: Command, tmp_path: Path, command: str
) -> None:
    (tmp_path / "shared.yaml").write_text("{dataset: digits, clients: 2, rounds: 1, lr: 0.01}")
    words = ["shared.yaml", "strategy=def-fd-plus", "local-epochs=1"]
    done = deffd(command, *words, "lr=0.01")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "lr=0.01: strategy=def-fd-plus sets it to 0.02; leave it out" in done.err
    assert deffd(command, *words).code == 0


def test_an_occupied_directory_is_refused(deffd: Command, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("results")
    done = deffd("run", *QUICK, "out-dir=run")
    assert done.code == 2
    assert "out-dir=run" in done.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious"]


def test_a_data_set_that_cannot_be_had_is_one_line_and_exit_code_1(
    deffd: Command, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = deffd("run", "dataset=cifar10", f"data-dir={empty}")
    assert done.code == 1
    assert "data-dir" in done.err
    assert done.err.count("\n") == 1


def test_an_interrupted_run_keeps_what_was_finished(tmp_path: Path) -> None:
    words = [str(BIN / "deffd"), "run", "dataset=digits", "rounds=500", "out-dir=run"]
    running = subprocess.Popen(
        words, cwd=tmp_path, env=dict(os.environ), preexec_fn=heed_interrupts
    )
    rounds = tmp_path / "run" / "rounds.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not rounds.exists():
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 130
    assert rounds.read_text().count("\n") >= 2
    report = subprocess.run([words[0], "report", "run"], cwd=tmp_path, check=False)
    assert report.returncode == 0
    assert (tmp_path / "run" / "report.html").exists()
