"""The page of a comparison, and the command that makes it."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deffd_flower.cli import app
from deffd_flower.commands.report import report_command
from deffd_flower.errors import RequestError
from deffd_flower.results.cell_notes import footnotes
from deffd_flower.results.cell_tables import grids
from deffd_flower.results.cells import read_comparison
from deffd_flower.results.comparison import compare_runs, write_comparison
from deffd_flower.results.trials import read_trials
from tests.results.made_courses import make_sweep, outcome
from tests.results.made_sweeps import write_sweep


class Page(HTMLParser):
    """What a page holds: its tables cell by cell, its figures' names, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.figures: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self._table: list[list[str]] | None = None
        self._in_cell = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "table":
            self._table = self.tables.setdefault(found.get("id") or f"{len(self.tables)}", [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")
            self._in_cell = True
        elif tag == "figure":
            self.figures.append(str(found["id"]))
        elif tag == "a":
            self.links.append(str(found["href"]))
        self.loaded += [str(found[name]) for name in ("src", "srcset", "data") if name in found]
        self.loaded += [str(found["href"])] if tag == "link" else []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell and self._table is not None:
            self._table[-1][-1] += data.strip()
        self.text += data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sweep's directory with its page written."""
    directory = make_sweep(tmp_path_factory.mktemp("page") / "sweep", "grouped")
    assert write_comparison(directory) == directory / "report.html"
    return directory


def test_the_page_has_the_comparisons_tables_and_notes(sweep: Path) -> None:
    page, comparison = Page(sweep / "report.html"), read_comparison([sweep])
    for number, grid in enumerate(grids(comparison), start=1):
        assert page.tables[f"table-{number}"] == [list(grid.head), *map(list, grid.rows)]
        assert grid.title in page.text
    assert all(note in page.text for note in footnotes(comparison))


def test_the_page_names_what_was_compared(sweep: Path) -> None:
    text = Page(sweep / "report.html").text
    assert "Loss and weight" in text
    assert "Def-FD · Digits · 12 clients · 4 rounds · 9 settings · 3 seeds each · 27 trials" in text


def test_every_figure_is_on_the_page_and_on_disk(sweep: Path) -> None:
    page = Page(sweep / "report.html")
    assert page.figures == [
        "cells-global-accuracy",
        "differences-global-accuracy",
        "cells-local-accuracy",
        "differences-local-accuracy",
        "global-accuracy-by-round",
        "global-accuracy-by-traffic",
        "global-accuracy-by-key",
        "consensus",
        "clients",
        "gains-global-accuracy",
        "held-absent",
    ]
    for kind in ("svg", "png"):
        files = sorted(path.stem for path in (sweep / "figures").glob(f"*.{kind}"))
        assert files == sorted(page.figures)


def test_the_page_is_looked_at_before_it_is_read(sweep: Path) -> None:
    text = (sweep / "report.html").read_text()
    parts = ["Results", 'id="cells-global-accuracy"', 'id="table-1"', "More figures"]
    parts += ['id="held-absent"', "Differences", 'id="table-2"', "Client by client", 'id="gains-1"']
    parts += ["How to read the tables", "Trials"]
    body = text[text.index("<main>") :]
    places = [body.index(part if "id=" in part else f"<h2>{part}</h2>") for part in parts]
    assert places == sorted(places)


def test_the_page_loads_nothing(sweep: Path) -> None:
    page, text = Page(sweep / "report.html"), (sweep / "report.html").read_text()
    assert page.loaded == []
    assert "<script" not in text
    assert set(re.findall(r"""(?:url\(|@import)[^)\s]*""", text)) <= set(
        re.findall(r"url\(#[\w-]+", text)
    )
    assert "default-src 'none'" in text


def test_ids_are_unique_and_every_reference_within_the_page_has_its_target(sweep: Path) -> None:
    text = (sweep / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert wanted
    assert set(wanted) <= set(ids)


def test_the_same_files_give_the_same_page(sweep: Path, tmp_path: Path) -> None:
    copy = tmp_path / sweep.name
    shutil.copytree(sweep, copy)
    write_comparison(copy)
    assert (copy / "report.html").read_bytes() == (sweep / "report.html").read_bytes()


def test_the_tables_are_written_beside_the_page(sweep: Path) -> None:
    assert {path.name for path in sweep.iterdir()} >= {"report.html", "table.csv", "table.md"}


def test_every_trial_is_listed_and_linked_where_it_has_a_page_of_its_own(
    tmp_path: Path,
) -> None:
    directory = make_sweep(tmp_path / "sweep", "one")
    page = Page(write_comparison(directory))
    assert page.links == []
    ((trial,),) = read_trials([directory]).trials
    (trial.directory / "report.html").write_text("here")
    page = Page(write_comparison(directory))
    assert page.links == [f"runs/{trial.directory.name}/report.html"]
    assert page.tables["trials"] == [
        ["Trial", "seed", "status", "Global accuracy (%)", "Local accuracy (%)"],
        [trial.directory.name, "0", "finished", "52.1", "62.1"],
    ]


def test_failed_trials_are_announced(tmp_path: Path) -> None:
    text = """
        base: {dataset: digits, clients: 4}
        grid: {gamma: [0.01, 0.02]}
        seeds: 2
    """
    directory = write_sweep(tmp_path / "s", text, lambda c: outcome(c) if c.gamma == 0.01 else None)
    page = Page(write_comparison(directory))
    assert "2 of 4 trials have no results (2 pending)." in page.text
    assert len(page.tables["trials"]) == 1 + 4
    assert page.tables["table-1"][2][1:] == ["0", "–", "–"]


def test_without_run_directories_there_are_no_curves_and_the_page_says_why(tmp_path: Path) -> None:
    text = "base: {dataset: digits, clients: 4}\ngrid: {gamma: [0.01, 0.02]}\nseeds: 2\n"
    page = Page(write_comparison(write_sweep(tmp_path / "s", text, outcome)))
    assert page.figures == ["cells-global-accuracy", "cells-local-accuracy", "held-absent"]
    assert "the run directories are not here" in page.text


def test_a_sweep_without_any_result_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    text = "base: {dataset: digits, clients: 4}\n"
    directory = write_sweep(tmp_path / "s", text, lambda config: None)
    with pytest.raises(RequestError, match="no finished run"):
        write_comparison(directory)
    assert not (directory / "report.html").exists()
    assert not (directory / "figures").exists()


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no sweep\.yaml"):
        write_comparison(tmp_path)


def test_names_from_a_sweep_file_are_text_and_neither_markup_nor_formulas(tmp_path: Path) -> None:
    text = """
        title: <b>bold</b> & $x^2$
        description: <script>alert(1)</script>
        base: {dataset: digits, clients: 4}
        grid: {eve: ['', 'intercept fraction=0.5 rounds=1-2']}
        seeds: 2
    """
    path = write_comparison(write_sweep(tmp_path / "s", text, outcome))
    assert "<b>bold" not in path.read_text()
    assert "<script" not in path.read_text()
    assert "<b>bold</b> & $x^2$" in Page(path).text


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Return four run directories: two settings with two seeds each."""
    directory = make_sweep(tmp_path / "sweep", "grouped")
    trials = [trial for of_cell in read_trials([directory]).trials[:2] for trial in of_cell[:2]]
    return [trial.directory for trial in trials]


def test_several_runs_are_compared_by_the_keys_in_which_they_differ(
    runs: list[Path], tmp_path: Path
) -> None:
    path = compare_runs(runs, tmp_path / "out")
    page = Page(path)
    assert "2 settings compared" in page.text
    assert page.tables["table-1"] == [
        ["gamma", "seeds", "Global accuracy (%)", "Local accuracy (%)"],
        ["0.01", "2", "53.1 ± 12.7", "63.1 ± 12.7"],
        ["0.02", "2", "53.1 ± 12.7", "63.1 ± 12.7"],
    ]
    assert [row[0] for row in page.tables["trials"][1:]] == [run.name for run in runs]
    assert "global-accuracy-by-round" in page.figures
    assert f"deffd report ../sweep/runs/{runs[0].name}" in page.text


def test_the_command_draws_one_run_again_in_its_own_directory(runs: list[Path]) -> None:
    result = CliRunner().invoke(app, ["report", str(runs[0])])
    assert result.exit_code == 0
    assert Path(result.output.replace("\n", "")) == runs[0] / "report.html"
    assert (runs[0] / "figures" / "learning-curves.png").exists()


def test_the_command_compares_a_sweep_in_its_own_directory(tmp_path: Path) -> None:
    directory = make_sweep(tmp_path / "sweep", "one")
    assert report_command([directory], None) == directory / "report.html"


def test_the_command_compares_runs_in_a_new_directory_or_the_one_given(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = report_command(runs, None)
    assert path.parent.parent == tmp_path / "runs"
    assert path.parent.name.startswith("comparison-")
    assert report_command(runs, tmp_path / "here") == tmp_path / "here" / "report.html"
    # Drawn again, over what is there.
    assert report_command(runs, tmp_path / "here") == tmp_path / "here" / "report.html"


@pytest.mark.parametrize("case", ["out of one run", "out is a run", "out is a file", "no run"])
def test_the_command_refuses_what_it_cannot_do(runs: list[Path], tmp_path: Path, case: str) -> None:
    (tmp_path / "file").write_text("")
    words = {
        "out of one run": (runs[:1], tmp_path / "x", "goes into its own directory"),
        "out is a run": (runs, runs[0], "is a run's own directory"),
        "out is a file": (runs, tmp_path / "file", "cannot be written"),
        "no run": ([runs[0], tmp_path], tmp_path / "x", "config.yaml"),
    }
    directories, out, advice = words[case]
    before = sorted(runs[0].rglob("*"))
    with pytest.raises(RequestError, match=re.escape(advice)):
        report_command(directories, out)
    assert sorted(runs[0].rglob("*")) == before
    assert not (tmp_path / "x").exists()


def test_a_run_that_has_not_finished_is_listed_but_not_counted(
    runs: list[Path], tmp_path: Path
) -> None:
    (runs[0] / "summary.json").unlink()
    page = Page(compare_runs(runs, tmp_path / "out"))
    assert "1 of 4 trials have no results (1 interrupted)." in page.text
    assert page.tables["table-1"][1][1] == "1"


def test_other_metrics_of_a_sweep_have_figures_in_their_own_units(tmp_path: Path) -> None:
    directory = make_sweep(tmp_path / "sweep", "rows")
    page = Page(write_comparison(directory))
    assert {"cells-key-bits", "cells-worst10-accuracy"} <= set(page.figures)
    assert "Key used (bits)" in page.text
    assert page.tables["trials"][0][3:] == [
        "Global accuracy (%)",
        "Worst 10 % of clients (%)",
        "Key used (bits)",
    ]


def test_a_run_without_course_is_drawn_without_it(tmp_path: Path) -> None:
    directory = make_sweep(tmp_path / "sweep", "grouped")
    trials = [trial for of_cell in read_trials([directory]).trials for trial in of_cell]
    for trial in trials[1:]:
        shutil.rmtree(trial.directory)
    page = Page(write_comparison(directory))
    assert "global-accuracy-by-round" in page.figures
    assert len(page.tables["trials"]) == 1 + 27
