"""``traffic.csv``: who sent what to whom, from real dispatchers and real federations."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from deffd_flower.client_app import app as client_app
from deffd_flower.config import RunConfig
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.results.reader import read_run
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import pairs
from deffd_flower.strategy.topology import topology
from tests.results.sealed_runs import INTERCEPTED, write_sealed_run

SMALL = {"dataset": "digits", "clients": 4, "rounds": 2, "local-epochs": 1, "test-samples": 20}
STARVED = {
    **{"clients": 6, "rounds": 3, "suite": "otp", "link": "idq-class"},
    **{"on-starved": "skip", "head-start-s": 0, "round-compute-s": 600},
}


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "traffic.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(directory: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((directory / "summary.json").read_text())
    return found


def total(found: list[dict[str, str]], name: str) -> float:
    return sum(float(row[name]) for row in found)


def run(directory: Path, **keys: object) -> RunConfig:
    config = resolve({**SMALL, **{key.replace("_", "-"): value for key, value in keys.items()}})
    grid = LocalGrid(client_app, config.clients, config.values())
    federate(grid, config, directory, LineProgress(), figures=False)
    return config


def test_rows_add_up_to_the_summary(sealed: Path) -> None:
    found, told = rows(sealed), summary(sealed)
    assert total(found, "models") == told["models_sent"]
    assert total(found, "bytes") == told["bytes_sent"]
    assert total(found, "key_bits") == told["key_bits"]
    unsent = [row for row in found if row["outcome"] != "sent"]
    assert len(unsent) == told["skipped"]


def test_every_pair_of_the_plan_has_its_row(sealed: Path) -> None:
    config = resolve(INTERCEPTED)
    planned = [
        (str(number), str(transfer.sender), str(transfer.receiver))
        for number in range(1, config.rounds + 1)
        for transfer in pairs(Knowledge(config, topology(config), number)).transfers
    ]
    assert [(row["round"], row["sender"], row["receiver"]) for row in rows(sealed)] == planned


def test_a_model_without_key_has_a_row_that_says_so(tmp_path: Path) -> None:
    directory = write_sealed_run(tmp_path / "run", STARVED)
    found = rows(directory)
    outcomes = Counter(row["outcome"] for row in found)
    assert outcomes["no key"] == summary(directory)["skipped"] > 0
    assert outcomes["sent"] == summary(directory)["models_sent"] > 0
    assert all(row["bytes"] == "0" for row in found if row["outcome"] == "no key")
    assert len(found) == 3 * 3


def test_segments_are_parts_of_a_model(tmp_path: Path) -> None:
    run(tmp_path / "run", strategy="combo", segments=4)
    found = rows(tmp_path / "run")
    assert {float(row["models"]) for row in found} <= {0.25, 0.5, 0.75, 1.0}
    assert total(found, "models") == summary(tmp_path / "run")["models_sent"] == 4


def test_under_one_key_only_the_first_model_costs_any(tmp_path: Path) -> None:
    run(tmp_path / "run", clients=2, rounds=4, rekey_messages=10)
    costs: dict[tuple[str, str], list[str]] = {}
    for row in rows(tmp_path / "run"):
        costs.setdefault((row["sender"], row["receiver"]), []).append(row["key_bits"])
    assert sum(map(len, costs.values())) == 4
    assert all(bits == ["256", *["0"] * (len(bits) - 1)] for bits in costs.values())


def test_fedavgs_server_sends_to_all_and_gets_from_all(tmp_path: Path) -> None:
    run(tmp_path / "run", strategy="fedavg", suite="none")
    ends = [(row["round"], row["sender"], row["receiver"]) for row in rows(tmp_path / "run")]
    clients = ["0", "1", "2", "3"]
    assert ends == [
        (number, *pair)
        for number in ("1", "2")
        for pair in [*(("server", c) for c in clients), *((c, "server") for c in clients)]
    ]


def test_a_strategy_that_sends_nothing_has_no_file(tmp_path: Path) -> None:
    run(tmp_path / "run", strategy="local")
    assert not (tmp_path / "run" / "traffic.csv").exists()
    assert read_run(tmp_path / "run").traffic == []


def test_it_is_read_back_as_sums_over_rounds(tmp_path: Path) -> None:
    directory = write_sealed_run(tmp_path / "run", STARVED)
    found = rows(directory)
    traffic = read_run(directory).traffic
    assert len(traffic) == len({(row["sender"], row["receiver"]) for row in found})
    for row in traffic:
        own = [r for r in found if (r["sender"], r["receiver"]) == (row["sender"], row["receiver"])]
        assert [row[name] for name in ("models", "bytes", "key_bits")] == pytest.approx(
            [total(own, name) for name in ("models", "bytes", "key_bits")]
        )
        assert row["unsent"] == sum(r["outcome"] != "sent" for r in own)
