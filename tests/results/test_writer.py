import csv
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.results.reader import column, read_run
from deffd_flower.results.writer import RunWriter

# Rows a process leaves behind that is killed before it can finish or close anything.
KILLED = """
import os, signal, sys
from pathlib import Path
from deffd_flower.results.writer import RunWriter
writer = RunWriter(Path(sys.argv[1]), {"rounds": 9})
for number in (1, 2):
    writer.client_rows([{"round": number, "client": 0, "global_accuracy": 0.25}])
    writer.round_row({"round": number, "global_accuracy": 0.5})
os.kill(os.getpid(), signal.SIGKILL)
"""


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_config_yaml_has_every_key_in_kebab_case_and_in_the_given_order(tmp_path: Path) -> None:
    config = {"strategy": "def-fd", "local_epochs": 5, "lr": 1e-5, "out-dir": tmp_path, "a": None}
    RunWriter(tmp_path / "run", config)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert list(written) == ["strategy", "local-epochs", "lr", "out-dir", "a"]
    assert written == {
        "strategy": "def-fd",
        "local-epochs": 5,
        "lr": 1e-5,
        "out-dir": str(tmp_path),
        "a": None,
    }


def test_rows_are_on_disk_as_soon_as_they_are_given_and_survive_a_kill(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run")], check=False)
    assert ended.returncode == -9
    run = read_run(tmp_path / "run")
    assert column(run.rounds, "round") == [1, 2]
    assert run.clients == [{"round": 2, "client": 0, "global_accuracy": 0.25}]
    assert run.summary == {}


def test_nan_and_none_become_empty_cells_and_read_back_as_nan(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", {})
    writer.round_row({"round": 1, "absent_accuracy": math.nan, "loss_kl": None, "key_bits": 0})
    assert cells(tmp_path / "run" / "rounds.csv")[1] == ["1", "", "", "0"]
    (row,) = read_run(tmp_path / "run").rounds
    assert row["key_bits"] == 0
    assert [math.isnan(float(row[key])) for key in ("absent_accuracy", "loss_kl")] == [True, True]


@given(value=st.floats(allow_nan=False))
def test_numbers_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    directory = tmp_path_factory.mktemp("run")
    RunWriter(directory, {}).round_row({"round": 3, "loss_ce": value})
    assert read_run(directory).rounds == [{"round": 3.0, "loss_ce": value}]


def test_later_rows_may_differ_in_the_order_of_their_keys_but_not_in_the_keys(
    tmp_path: Path,
) -> None:
    writer = RunWriter(tmp_path / "run", {})
    writer.round_row({"round": 1, "kl": 0.5})
    writer.round_row({"kl": 0.25, "round": 2})
    with pytest.raises(ValueError, match=r"rounds\.csv.*'feature'.*'kl'"):
        writer.round_row({"round": 3, "feature": 0.5})
    expected = [["round", "kl"], ["1", "0.5"], ["2", "0.25"]]
    assert cells(tmp_path / "run" / "rounds.csv") == expected


def test_of_the_clients_only_the_last_evaluated_round_is_read_back(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", {})
    for number in (2, 10):
        writer.client_rows([{"round": number, "client": c, "note": "x"} for c in range(3)])
    writer.client_rows([])
    run = read_run(tmp_path / "run")
    assert column(run.clients, "client") == [0, 1, 2]
    assert column(run.clients, "round") == [10, 10, 10]
    assert [row["note"] for row in run.clients] == ["x", "x", "x"]
    assert all(map(math.isnan, column(run.clients, "note") + column(run.clients, "missing")))


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run", {}).round_row({"round": 1, "global_accuracy": 0.5})
    with (tmp_path / "run" / "rounds.csv").open("a") as file:
        file.write("2,0.6")
    assert column(read_run(tmp_path / "run").rounds, "global_accuracy") == [0.5]


def test_partition_is_clients_by_classes(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run", {}).partition([[3, 0, 1], [0, 5, 2]])
    table = cells(tmp_path / "run" / "partition.csv")
    assert table == [
        ["client", "class_0", "class_1", "class_2"],
        ["0", "3", "0", "1"],
        ["1", "0", "5", "2"],
    ]
    assert read_run(tmp_path / "run").partition == [[3, 0, 1], [0, 5, 2]]


def test_pools_are_read_as_a_row_per_round_with_the_extremes_of_single_links(
    tmp_path: Path,
) -> None:
    writer = RunWriter(tmp_path / "run", {})
    names = ("round", "link", "available", "qber")
    of_links = [(1, "0-1", 70, 0.02), (1, "0-2", 30, 0.14), (1, "all", 100, 0.08)]
    for rows in (of_links, [(2, "all", 900, 0.05)]):
        writer.pool_rows([dict(zip(names, row, strict=True)) for row in rows])
    first, second = read_run(tmp_path / "run").pools
    assert first == {
        **dict(zip(names, (1.0, "all", 100.0, 0.08), strict=True)),
        **{"links": 2.0, "qber_lowest": 0.02, "qber_highest": 0.14, "available_lowest": 30.0},
    }
    assert (second["round"], second["available"]) == (2, 900)
    extremes = ("links", "qber_lowest", "qber_highest", "available_lowest")
    assert [math.isnan(float(second[name])) for name in extremes] == [True] * 4


def test_a_number_of_links_that_is_written_down_is_kept(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run", {}).pool_rows([{"round": 1, "link": "all", "links": 190}])
    assert read_run(tmp_path / "run").pools[0]["links"] == 190


def test_of_the_ledger_each_links_last_row_and_its_aborts_and_shortages_are_read(
    tmp_path: Path,
) -> None:
    RunWriter(tmp_path / "run", {})
    (tmp_path / "run" / "keys.csv").write_text(
        "link,event,blocks,stored\n0-1,aborted,3,10\n0-2,starved,0,7\n0-1,aborted,2,11\n"
        "0-1,produced,9,12\n0-2,del"
    )
    assert read_run(tmp_path / "run").links == [
        {"link": "0-1", "event": "produced", "blocks": 9, "stored": 12, "aborted": 5, "starved": 0},
        {"link": "0-2", "event": "starved", "blocks": 0, "stored": 7, "aborted": 0, "starved": 1},
    ]


def test_summary_is_valid_json_with_null_for_what_is_no_number(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", {"strategy": "def-fd"})
    nested = {"loss": [math.inf, 2], "name": "é"}
    report = writer.finish({"absent_accuracy": math.nan, "key_bits": 7, "nested": nested})
    text = (tmp_path / "run" / "summary.json").read_text()
    expected = {"absent_accuracy": None, "key_bits": 7, "nested": {"loss": [None, 2], "name": "é"}}
    assert json.loads(text) == expected
    assert text.startswith('{\n  "absent_accuracy"')
    assert report == tmp_path / "run" / "report.html"
    assert list((tmp_path / "run").glob("*.part")) == []


def test_without_the_drawing_libraries_the_summary_is_kept_and_the_way_on_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = RunWriter(tmp_path / "run", {})
    writer.round_row({"round": 1, "global_accuracy": 0.5})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level(logging.WARNING):
        assert writer.finish({"key_bits": 1}) is None
    assert read_run(tmp_path / "run").summary == {"key_bits": 1}
    assert "pip install 'deffd-flower[sim]'" in caplog.text
    assert f"deffd report {tmp_path / 'run'}" in caplog.text


def test_writing_results_loads_no_drawing_library(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from deffd_flower.results.writer import RunWriter;"
        "import deffd_flower.results.table, deffd_flower.results.figures;"
        "RunWriter(Path(sys.argv[1]), {}).round_row({'round': 1});"
        "print(sorted({'matplotlib', 'jinja2', 'torch', 'rich'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "run")]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_an_empty_directory_is_taken_and_missing_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert RunWriter(tmp_path / "empty", {}).directory == tmp_path / "empty"
    assert (RunWriter(tmp_path / "a" / "b", {}).directory / "config.yaml").is_file()


@pytest.mark.parametrize(
    ("occupied", "advice"),
    [
        ("full", "is not empty"),
        ("file", "is a file"),
        ("file/below", "cannot be written"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_a_directory_that_cannot_be_used_is_a_wrong_request(
    tmp_path: Path, occupied: str, advice: str
) -> None:
    RunWriter(tmp_path / "full", {"seed": 1})
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RequestError, match=advice) as caught:
        RunWriter(tmp_path / occupied, {"seed": 2})
    assert (caught.value.key, caught.value.value) == ("out-dir", tmp_path / occupied)
    assert (tmp_path / "file").read_text() == "kept"
    assert (tmp_path / "full" / "config.yaml").read_text() == "seed: 1\n"


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("config.yaml", None, "no config.yaml"),
        ("config.yaml", "[unclosed", "cannot be read as a run"),
        ("config.yaml", "just words", "keys and values"),
        ("summary.json", "{", "cannot be read as a run"),
        ("partition.csv", "client,class_0\n0,many\n", "many"),
        ("keys.csv", "link,event,blocks\n0-1,aborted,many\n", "many"),
    ],
)
def test_what_is_no_run_directory_is_a_wrong_request_in_one_line(
    tmp_path: Path, name: str, content: str | None, advice: str
) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=advice) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)
