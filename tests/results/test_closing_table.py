import io
import math

import pytest
from rich.console import Console

from deffd_flower.results.table import (
    NOTHING,
    count,
    duration,
    final_table,
    megabytes,
    percent,
    plain,
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
        ["Global accuracy (%)", "75.9 ± 2.1"],
        ["Local accuracy (%)", "91.1"],
        ["Local with prior (%)", "92.5"],
        ["Held classes (%)", "80.0"],
        ["Worst 10 % of clients (%)", "70.4"],
        ["Models sent", "12,345.5"],
        ["Sent (MB)", "11.6"],
        ["Key used (bits)", "25,600"],
        ["Time", "1 min 23 s"],
    ]


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
    ],
)
def test_numbers(shown: str, text: str) -> None:
    assert shown == text
