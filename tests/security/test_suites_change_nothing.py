"""Sealing changes no weight: every suite ends in the weights of plaintext, on every engine."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Command
from tests.security.conftest import QUICK, Federation, Honest
from tests.security.relay import Relay

SUITES = ["aes", "otp", "hybrid", "pqc"]


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_ends_in_the_weights_of_plaintext(suite: str, honest: Honest) -> None:
    assert honest(suite).state == honest("none").state
    same = ("global_accuracy", "local_accuracy", "models_sent", "failures")
    for name in same:
        assert honest(suite).summary[name] == honest("none").summary[name]


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_carries_segments_unchanged(suite: str, federation: Federation) -> None:
    sealed, plain = (
        federation(Relay, strategy="combo", clients=6, segments=13, rounds=2, suite=each)
        for each in (suite, "none")
    )
    assert sealed.state == plain.state
    assert sealed.summary["failures"] == 0


@pytest.mark.parametrize("suite", ["aes", "hybrid"])
def test_using_keys_again_changes_no_weight(
    suite: str, federation: Federation, honest: Honest
) -> None:
    assert federation(Relay, suite=suite, rekey_messages=4).state == honest("none").state


def test_another_secret_changes_no_weight(
    federation: Federation,
    honest: Honest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEFFD_QKD_SECRET_FILE", str(tmp_path / "another"))
    run = federation(Relay, suite="otp")
    assert (tmp_path / "another").exists()
    assert run.state == honest("otp").state


@pytest.mark.slow
def test_flwr_run_with_hybrid_keys_ends_in_the_weights_of_the_in_process_engine(
    flwr_run: Command, honest: Honest, tmp_path: Path
) -> None:
    words = {**QUICK, "suite": "hybrid", "out-dir": str(tmp_path / "run")}
    done = flwr_run(4, *(f"{key}={value!r}" for key, value in words.items()))
    assert done.code == 0, done.out + done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["engine"], summary["suite"]) == ("ray", "hybrid")
    assert summary["state_sha256"] == honest("hybrid").state
    assert summary["key_bits"] == honest("hybrid").summary["key_bits"]
