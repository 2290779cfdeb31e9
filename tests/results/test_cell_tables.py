"""The tables of a comparison: what they say, and that they say it the same everywhere."""

import csv
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from deffd_flower.config import RunConfig
from deffd_flower.results.cell_notes import footnotes
from deffd_flower.results.cell_tables import as_csv, as_markdown, grids, print_tables, write_tables
from deffd_flower.results.cells import Comparison, read_comparison
from deffd_flower.results.metrics import amount, difference_heading, heading, signed
from tests.results.made_sweeps import write_sweep

SWEEP = """
    title: Two losses
    base: {dataset: digits, clients: 4, rounds: 4}
    grid:
      cells:
        - strategy: def-kt
        - {feature-loss: [l2, mse], gamma: 0.5}
    seeds: 3
    metrics: [global_accuracy, key_bits]
    reference: {strategy: def-kt}
"""


def outcome(config: RunConfig) -> dict[str, object]:
    gain = {"l2": 0.02, "mse": -0.001}[config.feature_loss] if config.gamma else 0.0
    accuracy = 0.4 + 0.1 * config.seed + gain
    return {"global_accuracy": accuracy, "key_bits": 25_600, "wall_s": 12.0}


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return read_comparison([write_sweep(tmp_path / "s", SWEEP, outcome)])


def test_markdown_is_what_a_reader_expects(comparison: Comparison) -> None:
    # Student's t(0.975, 2) = 4.303; sd 0.1 and 3 seeds give a margin of 24.8 points.
    assert as_markdown(comparison) == (
        "**Mean over seeds**\n"
        "\n"
        "| strategy | feature-loss | gamma | seeds | Global accuracy (%) | Key used (bits) |\n"
        "|---|---|---|---:|---:|---:|\n"
        "| Def-KT | – | – | 3 | 50.0 ± 24.8 | 25,600 |\n"
        "| Def-FD | l2 | 0.5 | 3 | 52.0 ± 24.8 | 25,600 |\n"
        "| Def-FD | mse | 0.5 | 3 | 49.9 ± 24.8 | 25,600 |\n"
        "\n"
        "**Global accuracy: difference to Def-KT**\n"
        "\n"
        "| strategy | feature-loss | gamma | pairs | difference (points) | 95 % | p | Holm p |\n"
        "|---|---|---|---:|---:|---:|---:|---:|\n"
        "| Def-FD | l2 | 0.5 | 3 | +2.0 | +2.0 to +2.0 | 0.25 | 0.5 |\n"
        "| Def-FD | mse | 0.5 | 3 | −0.1 | −0.1 to −0.1 | 0.25 | 0.5 |\n"
        "\n" + "".join(f"* {note}\n" for note in footnotes(comparison))
    )


def test_csv_has_a_row_for_each_cell_and_metric_in_fractions(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert [(row["cell"], row["metric"]) for row in rows] == [
        (str(cell), metric) for cell in range(3) for metric in ("global_accuracy", "key_bits")
    ]
    row = rows[2]
    assert (row["strategy"], row["feature-loss"], row["gamma"]) == ("def-fd", "l2", "0.5")
    assert float(row["mean"]) == pytest.approx(0.52)
    assert float(row["high"]) - float(row["low"]) == pytest.approx(2 * 4.302653 * 0.1 / 3**0.5)
    assert (row["reference"], row["difference_n"], row["p"]) == ("0", "3", "0.25")
    assert float(row["difference_mean"]) == pytest.approx(0.02)
    assert float(row["bootstrap_low"]) == pytest.approx(0.02)
    assert rows[0]["reference"] == rows[0]["p"] == rows[1]["difference_mean"] == ""


def test_the_terminal_fits_80_columns(tmp_path: Path) -> None:
    metrics = "global_accuracy, best_global_accuracy, local_accuracy, bytes_sent, sim_time_s"
    text = SWEEP.replace("metrics: [global_accuracy, key_bits]", f"metrics: [{metrics}]")

    def more(config: RunConfig) -> dict[str, object]:
        accuracy = outcome(config)["global_accuracy"]
        others = {"best_global_accuracy": accuracy, "local_accuracy": accuracy}
        return {**outcome(config), **others, "bytes_sent": 11_709_400, "sim_time_s": 12_345.6}

    comparison = read_comparison([write_sweep(tmp_path / "s", text, more)])
    console = Console(width=80, file=io.StringIO(), record=True)
    print_tables(comparison, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for words in ("Def-KT", "feature-loss=l2,", "52.0 ± 24.8", "+2.0 to +2.0", "Holm p"):
        assert words in text
    assert "Global accuracy: difference to Def-KT" in text
    assert "Local accuracy: difference" not in text
    assert "table.md has the differences of the other metrics" in text
    assert "…" not in text


def test_the_notes_are_honest_about_three_seeds(comparison: Comparison) -> None:
    notes = " ".join(footnotes(comparison))
    assert "With 3 seeds the smallest possible p is 0.25, so none here can be below 0.05." in notes
    assert "Differences are to Def-KT with the same seed" in notes
    assert "which with 3 seeds covers their median in 75 %" in notes
    assert "sign-flip permutation test of the paired differences (exact)" in notes
    assert "corrected for all 2 comparisons of a metric" in notes
    assert "cannot give one below 0.5. Judge by the intervals." in notes
    assert "validation" not in notes


@pytest.mark.parametrize(("seeds", "p", "never"), [(5, "0.0625", True), (6, "0.03125", False)])
def test_the_notes_say_what_more_seeds_can_show(
    tmp_path: Path, seeds: int, p: str, never: bool
) -> None:
    text = SWEEP.replace("seeds: 3", f"seeds: {seeds}")
    notes = footnotes(read_comparison([write_sweep(tmp_path / "s", text, outcome)]))
    (note,) = [note for note in notes if "smallest possible" in note]
    assert f"With {seeds} seeds the smallest possible p is {p}" in note
    assert ("none here can be below 0.05" in note) == never


def test_the_notes_tell_of_validation_mean_and_missing_trials(tmp_path: Path) -> None:
    text = SWEEP.replace("rounds: 4", "rounds: 4, evaluate-on: validation, final-evaluations: 3")
    directory = write_sweep(
        tmp_path / "s", text, lambda config: None if config.seed == 2 else outcome(config)
    )
    notes = " ".join(footnotes(read_comparison([directory])))
    assert "validation split of the training set" in notes
    assert "mean of its last 3 evaluations" in notes
    assert "3 of 9 trials have no result" in notes


def test_one_seed_gets_no_interval_and_no_p_below_one(tmp_path: Path) -> None:
    text = SWEEP.replace("seeds: 3", "seeds: 1")
    comparison = read_comparison([write_sweep(tmp_path / "s", text, outcome)])
    (means,) = grids(comparison)
    assert means.rows[1][3:] == ["1", "42.0", "25,600"]
    assert footnotes(comparison)[0] == "One seed for each row: no interval can be given."


def test_many_keys_share_a_column(tmp_path: Path) -> None:
    text = SWEEP.replace(
        "- {feature-loss: [l2, mse], gamma: 0.5}",
        "- kd-weight: 0\n        - temperature: 2\n        - gamma: 0.5\n"
        "        - anchor: 1\n        - ce-weight: 0\n        - pairs: 1",
    )
    comparison = read_comparison([write_sweep(tmp_path / "s", text, outcome)])
    means, differences, *_ = grids(comparison)
    assert means.head[:2] == ["setting", "seeds"]
    names = [row[0] for row in means.rows]
    assert names == [
        *("Def-KT", "kd-weight=0", "temperature=2", "gamma=0.5", "anchor=1"),
        *("ce-weight=0", "pairs=1"),
    ]
    assert [row[0] for row in differences.rows] == names[1:]


def test_the_tables_of_equal_results_are_equal(tmp_path: Path) -> None:
    written = []
    for name in ("one", "other"):
        directory = write_sweep(tmp_path / name, SWEEP, outcome)
        paths = write_tables(read_comparison([directory]), directory)
        assert [path.name for path in paths] == ["table.csv", "table.md"]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_a_pipe_in_a_value_does_not_break_a_row(tmp_path: Path) -> None:
    text = SWEEP.replace("feature-loss: [l2, mse]", "feature-layers: [conv1, 'conv1|conv2']")
    comparison = read_comparison([write_sweep(tmp_path / "s", text, outcome)])
    columns = {
        len(re.split(r"(?<!\\)\|", line))
        for line in as_markdown(comparison).split("\n\n")[1].splitlines()
    }
    assert "conv1\\|conv2" in as_markdown(comparison)
    assert len(columns) == 1


@pytest.mark.parametrize(
    ("metric", "value", "written", "difference"),
    [
        ("global_accuracy", 0.4123, "41.2", "+41.2"),
        ("global_accuracy_std", 0.031, "3.1", "+3.1"),
        ("bytes_sent", 11_700_000, "11.7", "+11.7"),
        ("sim_time_s", 200.0, "3 min 20 s", "+3 min 20 s"),
        ("key_bits", 25_600, "25,600", "+25,600"),
        ("accuracy_per_key_bit", 0.45 / 25_600, "1,758", "+1,758"),
        ("accuracy_per_key_bit", 0.45 / 93_600_000, "0.481", "+0.481"),
        ("accuracy_per_simulated_hour", 0.45, "45.0", "+45.0"),
        ("loss_feature", 1.23456, "1.235", "+1.235"),
        ("global_accuracy", 0.00001, "0.0", "0.0"),
        ("global_accuracy", float("nan"), "–", "–"),
    ],
)
def test_values_and_differences_are_written_with_their_units(
    metric: str, value: float, written: str, difference: str
) -> None:
    assert (amount(metric, value), signed(metric, value)) == (written, difference)
    assert signed(metric, -value) == difference.replace("+", "−")


def test_percent_differ_by_points() -> None:
    assert heading("global_accuracy") == "Global accuracy (%)"
    assert difference_heading("global_accuracy") == "difference (points)"
    assert difference_heading("consensus_distance") == "difference"
    assert difference_heading("bytes_sent") == "difference (MB)"
