import io
import math
import re

import pytest
from rich.console import Console

from deffd_flower.results.table import (
    CLOSING,
    NOTHING,
    TROUBLES,
    count,
    duration,
    final_table,
    listed,
    megabytes,
    percent,
    plain,
    shares,
    suite_name,
)

SUMMARY: dict[str, object] = {
    "strategy": "def-fd",
    "dataset": "fashion-mnist",
    "global_accuracy": 0.75943,
    "global_accuracy_std": 0.0211,
    "local_accuracy": 0.911,
    "local_accuracy_prior": 0.9249,
    "held_accuracy": 0.8,
    "absent_accuracy": math.nan,
    "worst10_accuracy": 0.70449,
    "evaluated_on": "test",
    "final_evaluations": 1,
    "best_global_accuracy": 0.7777,
    "best_round": 17,
    "models_sent": 12345.5,
    "bytes_sent": 11_636_400,
    "key_bits": 25_600,
    "wall_s": 83.4,
}


def printed(*summaries: dict[str, object]) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as capture:
        console.print(final_table(*summaries))
    return capture.get().splitlines()


def test_the_table_shows_percent_with_one_decimal_and_units() -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed(SUMMARY)[1:-1]]
    assert rows == [
        ["Strategy", "Def-FD"],
        ["Data set", "Fashion-MNIST"],
        ["Evaluated on", "Test set"],
        ["Global accuracy (%)", "75.9 ± 2.1"],
        ["Local accuracy (%)", "91.1"],
        ["Local with prior (%)", "92.5"],
        ["Held classes (%)", "80.0"],
        ["Worst 10 % of clients (%)", "70.4"],
        ["Best global accuracy (%)", "77.8"],
        ["Best after round", "17"],
        ["Models sent", "12,345.5"],
        ["Sent (MB)", "11.6"],
        ["Key used (bits)", "25,600"],
        ["Time", "1 min 23 s"],
    ]


def test_what_the_numbers_are_numbers_of_is_said() -> None:
    tuned = {"evaluated_on": "validation", "final_evaluations": 5, "consensus_distance": 1.23456}
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in printed({**SUMMARY, **tuned})]
    for row in (
        ["Evaluated on", "Validation"],
        ["Evaluations averaged", "5"],
        ["Consensus distance", "1.235"],
    ):
        assert row in rows
    aside = "\n".join(printed({**SUMMARY, **tuned, "validation_split": "set aside"}))
    assert re.search("Validation images were +│ +set aside", aside)


def test_key_and_what_it_was_short_of_are_shown_where_there_is_any() -> None:
    quiet = {"suite": "aes", "key_bits": 2560, "key_bits_per_model": 256.0, "sim_time_s": 80.5}
    calm: dict[str, object] = {**quiet, "starved": 0, "waited_s": 0.0, "skipped": 0, "degraded": 0}
    words = "\n".join(printed(calm))
    for shown in ("AES-256-GCM", "Key per model (bits)", "256", "Simulated time", "1 min 20 s"):
        assert shown in words
    for kept_quiet in ("Starved", "Waited", "Not sent", "weaker", "refused", "another peer"):
        assert kept_quiet not in words
    troubled = {"starved": 7, "waited_s": 7384, "skipped": 2, "degraded": 1, "sealed_failures": 3}
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in printed({**calm, **troubled})]
    for row in (
        ["Starved of key (models)", "7"],
        ["Waited for key, in all", "2 h 03 min"],
        ["Not sent, lacking key", "2"],
        ["Sent under weaker suite", "1"],
        ["Sealed models refused", "3"],
    ):
        assert row in rows


def test_the_table_stays_within_80_columns_with_every_row_and_two_references() -> None:
    full: dict[str, object] = {**SUMMARY, **dict.fromkeys(TROUBLES, 123_456.0)}
    full |= {"suite": "hybrid", "key_bits_per_model": 776_256.0, "sim_time_s": 1e7}
    full |= {"evaluated_on": "validation", "validation_split": "set aside"}
    full |= {"final_evaluations": 5, "consensus_distance": 12.3456}
    lines = printed(full, full, {"suite": "pqc"})
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2 + len([key for key in CLOSING if key != "absent_accuracy"])
    (starved,) = [line for line in lines if "Starved" in line]
    assert [cell.strip() for cell in starved.split("│")[2:-1]] == ["123,456", "123,456", NOTHING]


def test_references_stand_beside_the_run_within_80_columns_and_gaps_are_marked() -> None:
    reference: dict[str, object] = {"strategy": "def-kt", "absent_accuracy": 0.5}
    lines = printed(SUMMARY, reference, reference)
    assert max(map(len, lines)) <= 80
    (absent,) = [line for line in lines if "Absent" in line]
    assert [cell.strip() for cell in absent.split("│")[2:-1]] == [NOTHING, "50.0", "50.0"]


def test_values_are_shown_as_they_are_not_as_markup() -> None:
    assert any("[bold]mine[/bold]" in line for line in printed({"strategy": "[bold]mine[/bold]"}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7384, "2 h 03 min"),
        (172_799, "47 h 59 min"),
        (172_800, "2 d 00 h"),
        (9e7, "1,041 d 16 h"),
        (None, NOTHING),
        (math.nan, NOTHING),
    ],
)
def test_durations(seconds: object, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (percent(0.99999), "100.0"),
        (percent("many"), NOTHING),
        (megabytes(1_234_567_890), "1,234.6"),
        (megabytes(1234), "0.00123"),
        (megabytes(None), NOTHING),
        (count(46_505_600_000), "46,505,600,000"),
        (plain(math.nan), NOTHING),
        (plain(math.inf), "inf"),
        (plain(0.123456), "0.1235"),
        (plain({"flwr": "1.41.0", "torch": "2.9"}), "flwr 1.41.0, torch 2.9"),
        (plain(True), "true"),
        (suite_name("otp"), "One-time pad"),
        (suite_name("mine:Suite"), "mine:Suite"),
        (shares({"otp": 3, "aes": 1.0}), "One-time pad 75.0, AES-256-GCM 25.0"),
        (shares({}), NOTHING),
        (shares(None), NOTHING),
        (listed(["a", 1]), "a, 1"),
    ],
)
def test_numbers(shown: str, text: str) -> None:
    assert shown == text
