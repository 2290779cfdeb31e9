"""`deffd plan` as a user meets it."""

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.e2e.conftest import Command

SUITES = ["otp", "aes", "hybrid", "pqc", "none"]
WIDEST_NAMES = """
- [Seoul, Daejeon, 25]
- [Daejeon, Gyeongsangbuk-do, 60, quky-ingaas]
- [Daejeon, Chungcheongnam-do-Hongseong, 40]
"""


def read_json(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_plan_fits_the_terminal_and_gives_a_verdict_for_each_suite(
    deffd: Command, tmp_path: Path
) -> None:
    done = deffd("plan", "suite=otp", "link=idq-class", "dataset=digits")
    assert done.code == 0, done.err
    assert done.err == ""
    assert max(map(len, done.out.splitlines())) <= 80
    assert "45 alike" in done.out
    last = [line.split() for line in done.out.splitlines()[-5:]]
    assert last[0][:3] == ["→", "otp", "sustainable"]
    assert last[0][-3:] == ["rounds", "per", "day"]
    assert [line[:2] for line in last[1:]] == [[suite, "sustainable"] for suite in SUITES[1:]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["qkd-network=net.yaml", "clients=12", "suite=otp", "strategy=combo", "pool-capacity=999"],
        ["topology=small-world", "clients=40", "link=korzh-2015", "on-starved=skip"],
        ["link=li-2023", "clients=5000", "round-compute-s=0.000001", "transfer-mbps=1e9"],
        ["eve=denial", "rekey-messages=1000", "max-wait-s=0"],
        ["strategy=local"],
        ["model=cnn*2,mlp,defkt-cnn", "suite=otp", "link=idq-class"],
    ],
)
def test_every_kind_of_plan_fits_80_columns_and_shows_no_python(
    deffd: Command, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "net.yaml").write_text(WIDEST_NAMES)
    done = deffd("plan", "dataset=digits", *words)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for ugly in ("nan", "inf ", "None", "…", "[bold]"):
        assert ugly not in done.out


def test_json_is_one_object_with_the_numbers_behind_the_tables(deffd: Command) -> None:
    done = deffd("plan", "--json", "dataset=digits", "clients=4", "link=toshiba-tokyo-2010")
    assert done.code == 0, done.err
    plan = read_json(done.out)
    assert list(plan["suites"]) == SUITES
    assert plan["config"]["clients"] == 4
    size = plan["package"]["bytes"]
    assert size > 4 * plan["package"]["parameters"]
    otp, none = plan["suites"]["otp"], plan["suites"]["none"]
    assert otp["key_bits"] == 8 * size + 256
    assert otp["gather_s"] == pytest.approx(otp["key_bits"] / 304_000, rel=1e-3)
    assert otp["links"][0]["messages"] == pytest.approx(2 / 6)
    by_key = otp["links"][0]["bits_per_s"] * 86_400 / (otp["key_bits"] / 3)
    assert otp["rounds_per_day"]["key"] == pytest.approx(by_key)
    assert otp["rounds_per_day"]["compute_and_transfer"] == pytest.approx(86_400 / otp["round_s"])
    assert none["rounds_per_day"]["key"] is None
    assert (none["key_bits"], none["bottleneck"], none["links"]) == (0, None, [])
    largest = plan["largest_otp_model"]["per_round"]
    assert 0 < 4 * largest["parameters"] < largest["bytes"]


def test_each_of_several_models_has_its_size(deffd: Command) -> None:
    words = ("dataset=digits", "clients=4", "model=cnn,mlp")
    done = deffd("plan", "--json", *words)
    assert done.code == 0, done.err
    plan = read_json(done.out)
    assert list(plan["packages"]) == ["cnn", "mlp"]
    assert (plan["package"], plan["largest_otp_model"]) == (None, None)
    sizes = [size["bytes"] for size in plan["packages"].values()]
    mean = 8 * sum(sizes) / 2 + 256
    assert plan["suites"]["otp"]["key_bits"] == pytest.approx(mean, rel=0.02)
    shown = deffd("plan", *words).out
    assert f"Package of cnn: {sizes[0]:,} bytes" in shown
    assert f"Package of mlp: {sizes[1]:,} bytes" in shown


def test_what_never_ends_is_null_in_json(deffd: Command) -> None:
    plan = read_json(deffd("plan", "--json", "dataset=digits", "eve=denial").out)
    aes = plan["suites"]["aes"]
    assert aes["empty_s"] is None
    assert aes["links"][0]["qber"] is None
    assert aes["rounds_per_day"]["federation"] == 0
    assert aes["sustainable"] is False
    assert plan["suites"]["pqc"]["sustainable"] is True


def test_a_plan_reads_the_file_that_a_run_reads(deffd: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("dataset: digits\nclients: 6\nlink: walenta-2014\n")
    plan = read_json(deffd("plan", "run.yaml", "clients=8", "--json").out)
    assert (plan["config"]["clients"], plan["config"]["link"]) == (8, "walenta-2014")
    assert plan["suites"]["aes"]["links"][0]["links"] == 28


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("link=lim-metro", "Did you mean 'lim-metro-10km'"),
        ("suite=des", "must be one of"),
        ("qkd-network=mars", "must be one of"),
        ("eve=intercept", "fraction"),
        ("eve=denial links=7-77", "7-77"),
        ("model=cnnn", "must be one of"),
        ("suit=otp", "Did you mean 'suite'"),
        ("rekey-messages=100000000", "must be 1 to"),
        ("strategy=fedavg", "fedavg"),
        ("clients=1", "must be at least 2"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_a_wrong_request_ends_with_one_line_and_exit_code_2(
    deffd: Command, word: str, told: str
) -> None:
    done = deffd("plan", "dataset=digits", word)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
