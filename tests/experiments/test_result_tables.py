"""How committed results become the tables of the experiments' page, with made-up results."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deffd_flower.config import RunConfig
from deffd_flower.sweep.load import load_sweep
from experiments import HERE, tables
from tests.results.made_sweeps import file_sweep

BEST = {"l2": 0.03, "cos": 0.02, "mse": 0.01}


def outcome(config: RunConfig) -> dict[str, object]:
    """Return accuracies with a best weight for each loss; 36 seconds each."""
    best = config.strategy == "def-fd" and config.gamma == BEST[config.feature_loss]
    accuracy = 0.4 + 0.01 * config.seed + 0.02 * best
    return {
        **dict.fromkeys(("global_accuracy", "held_accuracy", "absent_accuracy"), accuracy),
        **dict.fromkeys(("worst10_accuracy", "best_global_accuracy"), accuracy),
        "local_accuracy": 0.8,
        "wall_s": 36.0,
    }


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "README.md").touch()
    monkeypatch.setattr(tables, "HERE", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    for file in HERE.glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tables.result.cache_clear()
    yield tmp_path / "results"
    tables.result.cache_clear()


def commit(results: Path, name: str) -> None:
    directory = results / name
    directory.mkdir(parents=True)
    file_sweep(directory, load_sweep(HERE / f"{name}.yaml", {}), outcome)


def test_figure_3_chooses_the_weights_of_figure_4(results: Path) -> None:
    assert tables.chosen_weights() == {}
    commit(results, "fig3")
    tables.result.cache_clear()
    assert tables.chosen_weights() == BEST


def test_of_equally_good_weights_the_smallest_is_chosen(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BEST, "l2", -1.0)
    commit(results, "fig3")
    assert tables.chosen_weights() == {**BEST, "l2": 0.01}


def test_our_numbers_stand_beside_the_papers(results: Path) -> None:
    commit(results, "fig4")
    lines = tables.beside_the_paper().splitlines()
    # t(0.975, 4) = 2.776 and sd 1.58 give a margin of 2.0 points; the local ones do not vary.
    assert "| L2 | 0.01 | 40.95 | 42.0 ± 2.0 | 81.95 | 80.0 ± 0.0 |" in lines
    assert "| MSE | 0.03 | 42.32 | 42.0 ± 2.0 | 81.84 | 80.0 ± 0.0 |" in lines


def test_without_results_the_papers_numbers_stand_alone(results: Path) -> None:
    assert "| COS | 0.03 | 41.21 | – | 81.73 | – |" in tables.beside_the_paper()
    assert tables.result_table("fig4") == "No results yet.\n"


def test_the_page_shows_means_the_first_differences_and_links(results: Path) -> None:
    commit(results, "fig4")
    (results / "fig4" / "table.md").touch()
    (results / "fig4" / "figures").mkdir()
    (results / "fig4" / "figures" / "learning.svg").touch()
    text = tables.result_table("fig4")
    assert text.count("**Mean over seeds**") == 1
    assert "**Global accuracy: difference to Def-KT**" in text
    assert "**Local accuracy" not in text
    assert "smallest possible p is 0.0625" in text
    links = "[table.md](results/fig4/table.md), [sweep.csv](results/fig4/sweep.csv), "
    assert f"All of it: {links}[learning](results/fig4/figures/learning.svg)." in text
    assert text.startswith(
        "![cells global accuracy](results/fig4/figures/cells-global-accuracy.svg)\n\n**Mean"
    )


def test_times_are_those_of_the_runs_over_two_cores(results: Path) -> None:
    commit(results, "fig4")
    runs = len(load_sweep(HERE / "fig4.yaml", {}).trials)
    minutes, seconds = divmod(runs * 36 // 2, 60)
    assert f"| `fig4.yaml` | {runs} | 5 | {minutes} min {seconds:02d} s |" in tables.times_table()
    assert "| `fig3.yaml` | 50 | 5 | – |" in tables.times_table()
