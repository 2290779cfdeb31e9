"""Each benchmark with tiny sizes: it measures, and notices when the arms do not do equal work."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import BENCHMARKS, scale, startup
from benchmarks.echo.echo_app import client, exchange, timed
from benchmarks.harness import Options
from benchmarks.messages import on_ray
from benchmarks.overhead import QUICK, TOLERANCE, bare_rounds, largest_gap, our_rounds
from benchmarks.seal import Mail
from benchmarks.superlink import SuperLink
from benchmarks.table import NONE_YET, README, RESULTS, renewed, saved, table
from benchmarks.train_step import check_equal
from deffd_flower.cli import guarded
from deffd_flower.commands.bench import bench_command
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid
from deffd_flower.errors import DeffdError
from deffd_flower.request import resolve
from tests.e2e.conftest import command


def lines_of(name: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    bench_command(name, 2, as_json=True, full=False, quick=True, save=False)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]


@pytest.mark.parametrize("name", ["train-step", "evaluate", "seal", "together"])
def test_a_benchmark_prints_an_object_per_ratio(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(name, capsys)
    assert len(lines) == (5 if name == "seal" else 1)
    for line in lines:
        assert line["name"].partition(":")[0] == name
        assert line["runs"] == 2
        low, high = line["spread"]
        assert 0 < low <= line["ratio"] <= high


def test_the_bare_loop_ends_with_our_weights_and_another_rate_does_not() -> None:
    config = resolve({**QUICK, "eval-every": 10**6, "test-samples": 50})
    spent, ours = our_rounds(config)
    bare_spent, bare = bare_rounds(config)
    assert len(ours) == len(bare) == config.clients
    assert largest_gap(ours, bare) <= TOLERANCE
    assert spent.cpu > 0
    assert bare_spent.cpu > 0
    _, other = bare_rounds(config.replace(gamma=0.02))
    assert largest_gap(ours, other) > TOLERANCE


def test_speeds_at_different_accuracies_are_not_compared() -> None:
    check_equal({"ours": 0.801, "plain": 0.8})
    with pytest.raises(DeffdError, match=r"ours 0\.700, plain 0\.800"):
        check_equal({"ours": 0.7, "plain": 0.8})
    with pytest.raises(DeffdError, match="nan"):
        check_equal({"ours": float("nan"), "plain": 0.8})


def test_sealing_is_timed_with_a_new_message_each_time() -> None:
    mail = Mail("aes", 5)
    first, second = mail.with_fresh_key(), mail.with_fresh_key()
    assert first(b"abcde") == b"abcde"
    assert second(b"abcde") == b"abcde"
    with pytest.raises(DeffdError):
        first(b"abcde")


@pytest.mark.parametrize("workers", [1, 2])
def test_echoes_are_timed_on_both_in_process_engines(workers: int) -> None:
    if workers == 1:
        taken = timed(LocalGrid(client, 3, {}), [100, 2000], 2)
    else:
        with ProcessGrid(client, 3, {}, workers) as grid:
            taken = timed(grid, [100, 2000], 2)
    assert list(taken) == ["100", "2000"]
    assert all(ms > 0 for ms in taken.values())


def test_an_engine_that_loses_state_is_noticed() -> None:
    grid = LocalGrid(client, 2, {})
    nodes = list(grid.get_node_ids())
    exchange(grid, nodes, b"model", 1)
    grid.contexts[nodes[0]].state.clear()
    with pytest.raises(RuntimeError, match="2 nodes have seen"):
        exchange(grid, nodes, b"model", 2)


def test_an_unknown_benchmark_and_saved_trials_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def request(name: str | None, save: bool) -> int:
        return guarded(
            lambda: bench_command(name, 1, as_json=True, full=False, quick=True, save=save)
        )

    assert request("overhed", save=False) == 2
    assert "Did you mean 'overhead'?" in capsys.readouterr().err
    assert request("seal", save=True) == 2
    assert "--save" in capsys.readouterr().err
    assert not (RESULTS / "seal.json").exists() or "10kB" not in (RESULTS / "seal.json").read_text()


def test_without_a_checkout_one_line_says_so(tmp_path: Path) -> None:
    package = Path(__file__).parents[2] / "deffd_flower"
    (tmp_path / "deffd_flower").symlink_to(package)
    words = [sys.executable, "-m", "deffd_flower.cli", "bench"]
    done = command(words, tmp_path, {"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert done.code == 2
    assert done.err == (
        "deffd: bench: needs a checkout: clone the repository, pip install -e '.[sim]', try again\n"
    )


def test_results_become_a_table_and_nothing_else_of_the_page_changes() -> None:
    place = {
        "machine": {"cores": 2, "cpu": "Q", "system": "Linux x"},
        "versions": {"torch": "2"},
        "commit": "abc",
    }
    row = {
        "name": "seal:aes:1MB",
        "ratio": 1.23456,
        "spread": [1.1, 1.5],
        "runs": 5,
        "detail": {"of": "ours / primitive, seconds", **place},
    }
    text = table([row, {**row, "name": "cores"}])
    assert "| `seal:aes:1MB` | 1.23 | 1.1 | 1.5 | 5 | ours / primitive, seconds |" in text
    assert "* seal, cores: 2 cores of Q (Linux x); torch 2; commit abc.\n" in text
    page = "before\n<!-- generated: results -->\nold\n<!-- end -->\nafter\n"
    assert renewed(page, [row]).startswith("before\n<!-- generated: results -->\n| ratio |")
    assert renewed(page, [row]).endswith("\n<!-- end -->\nafter\n")
    assert renewed(page, []) == page.replace("old\n", NONE_YET)


def test_the_readme_shows_the_saved_results_and_every_benchmark() -> None:
    page = README.read_text()
    assert renewed(page, saved()) == page
    assert [name for name in BENCHMARKS if f"| `{name}` |" not in page] == []


@pytest.mark.slow
def test_starts_are_timed_from_being_typed_to_the_end() -> None:
    results = {result.name: result for result in startup.measure(Options(runs=1))}
    assert list(results) == ["startup:help", "startup:run"]
    assert results["startup:help"].ratio < 1 < results["startup:run"].ratio
    imported = {name: json.loads(each.as_json())["detail"] for name, each in results.items()}
    assert "torch" not in imported["startup:help"]["imports_s"]
    assert imported["startup:run"]["imports_s"]["all"] > 0.5
    with pytest.raises(DeffdError, match=r"-c 1/0 ended with 1; .*ZeroDivisionError"):
        startup.spent_by("-c", "1/0")


@pytest.mark.slow
def test_messages_are_timed_on_ray() -> None:
    with SuperLink() as superlink:
        home = superlink.home
        taken = on_ray(superlink, 2, 1, [100, 2000])
        with pytest.raises(DeffdError, match=r"flwr run ended with .*no such app"):
            superlink.run(home / "no such app", 2, "nodes=2")
    assert list(taken) == ["100", "2000"]
    assert all(ms > 0 for ms in taken.values())
    assert not home.exists()


@pytest.mark.slow
def test_a_federation_is_timed_in_processes_of_its_own() -> None:
    speed = scale.run(4, 20, "benchmarks.datasets:patterns")
    assert speed["client_rounds_per_s"] > 0
    assert speed["failures"] == 0
    assert 100 < speed["peak_mb"] < 5000
