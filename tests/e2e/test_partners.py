"""Partner rules in whole federations: the same pairs in every engine, better ones than random."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from deffd_flower.client_app import app as client_app
from deffd_flower.data.client import client_data
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.results import report
from deffd_flower.strategy.complement import complement
from deffd_flower.strategy.knowledge import Knowledge, Pair
from deffd_flower.strategy.partners import drawn
from tests.e2e.conftest import Command

QUICK: dict[str, object] = {
    "dataset": "digits",
    "model": "mlp",
    "strategy": "def-kt",
    "clients": 8,
    "rounds": 6,
    "local-epochs": 1,
    "samples-per-client": 60,
    "test-samples": 50,
    "classes-per-client": 4,
}

NOMINATED: dict[str, object] = {"partner": "complementary", "share-label-counts": False}
RULES: dict[str, dict[str, object]] = {
    "random": {},
    "least-recent": {"partner": "least-recent"},
    "complementary": {"partner": "complementary"},
    "nominated": NOMINATED,
    "key-aware": {"partner": "key-aware", "qkd-network": "metro-ring"},
    "loss": {"partner": "loss"},
}


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "render", lambda directory: directory / "report.html")


def run(directory: Path, keys: Mapping[str, object], workers: int = 1) -> dict[str, Any]:
    config = resolve({**QUICK, **keys})
    if workers == 1:
        grid = LocalGrid(client_app, config.clients, config.values())
        return federate(grid, config, directory, LineProgress())
    with ProcessGrid(client_app, config.clients, config.values(), workers) as processes:
        return federate(processes, config, directory, LineProgress())


def sent(directory: Path) -> dict[int, list[Pair]]:
    """Return who wrote to whom, by round."""
    rounds: dict[int, list[Pair]] = {}
    with (directory / "traffic.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["outcome"] == "sent":
                pair = int(row["sender"]), int(row["receiver"])
                rounds.setdefault(int(row["round"]), []).append(pair)
    return rounds


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_the_same_weights_in_one_process_and_in_two(rule: str, tmp_path: Path) -> None:
    keys = RULES[rule]
    alone = run(tmp_path / "alone", keys)
    together = run(tmp_path / "together", keys, workers=2)
    assert alone["state_sha256"] == together["state_sha256"]
    assert alone["failures"] == together["failures"] == 0
    assert sent(tmp_path / "alone") == sent(tmp_path / "together")


def test_each_rule_has_pairs_of_its_own_and_the_same_clients_train(tmp_path: Path) -> None:
    for rule, keys in RULES.items():
        run(tmp_path / rule, keys)
    found = {rule: sent(tmp_path / rule) for rule in RULES}
    assert len({str(rounds) for rounds in found.values()}) == len(RULES)
    trained = {
        str({number: sorted(sender for sender, _ in pairs) for number, pairs in rounds.items()})
        for rounds in found.values()
    }
    assert len(trained) == 1


@pytest.mark.parametrize("rule", ["nominated", "loss"])
def test_not_even_the_rhythm_of_evaluation_changes_who_meets_whom(
    rule: str, tmp_path: Path
) -> None:
    summaries = [
        run(tmp_path / str(every), {**RULES[rule], "eval-every": every}) for every in (1, 3)
    ]
    assert len({summary["state_sha256"] for summary in summaries}) == 1
    assert sent(tmp_path / "1") == sent(tmp_path / "3")


def complements(directory: Path, keys: Mapping[str, object], since: int) -> float:
    """Return how far the partners of the rounds from ``since`` on complemented each other."""
    config = resolve({**QUICK, **keys})
    classes = [
        client_data(config, client).label_counts.numpy() > 0 for client in range(config.clients)
    ]
    pairs = [pair for number, each in sent(directory).items() if number >= since for pair in each]
    return fmean(int(complement(classes[one], classes[other][None])[0]) for one, other in pairs)


def test_partners_complement_each_other_more_than_at_random(tmp_path: Path) -> None:
    """Each has 4 of 10 classes; those whose clients nominate learn by and by who is who."""
    long = {"rounds": 40, "strategy": "full-avg", "samples-per-client": 20, "eval-every": 40}
    for rule in ("random", "complementary", "nominated"):
        run(tmp_path / rule, {**long, **RULES[rule]})
    at_random, told, nominated = (
        complements(tmp_path / rule, {**long, **RULES[rule]}, since=20)
        for rule in ("random", "complementary", "nominated")
    )
    assert told > at_random + 0.8
    assert nominated > at_random + 0.5


DENIED = {(0, peer) for peer in range(1, 7)}


def test_who_gets_a_model_that_found_no_key_counts_as_met(tmp_path: Path) -> None:
    """Soon client 0 has key with client 7 alone; what it cannot send or get others get."""
    denial = f"denial links={','.join(f'{one}-{other}' for one, other in sorted(DENIED))}"
    keys: dict[str, object] = {"partner": "least-recent", "on-starved": "repick", "eve": denial}
    keys |= {"key-max-age-s": 15, "pairs": 2, "rounds": 20, "eval-every": 20}
    summary = run(tmp_path / "run", keys)
    assert summary["repicked"] > 1
    config = resolve({**QUICK, **keys})
    meetings: dict[int, dict[int, int]] = {client: {} for client in range(config.clients)}
    for number, pairs in sent(tmp_path / "run").items():
        planned = drawn(Knowledge(config, None, number, meetings=meetings))
        assert {pair for pair in planned if (min(pair), max(pair)) not in DENIED} <= set(pairs)
        for sender, receiver in pairs:
            meetings[sender][receiver] = meetings[receiver][sender] = number


@pytest.mark.slow
def test_flwr_run_gives_the_weights_of_deffd_run_where_clients_nominate(
    flwr_run: Command, tmp_path: Path
) -> None:
    keys = {**QUICK, "clients": 4, "rounds": 4, "eval-every": 2}
    ours = run(tmp_path / "ours", {**keys, **NOMINATED})
    theirs = tmp_path / "theirs"
    words = [f"{key}={value!r}" for key, value in {**keys, "partner": "complementary"}.items()]
    done = flwr_run(4, *words, "share-label-counts=false", f"out-dir='{theirs}'")
    assert done.code == 0, done.out + done.err
    summary = json.loads((theirs / "summary.json").read_text())
    assert summary["engine"] == "ray"
    assert summary["state_sha256"] == ours["state_sha256"]
    assert sent(theirs) == sent(tmp_path / "ours")
