import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deffd_flower.errors import RequestError
from deffd_flower.results.report import render
from tests.results.sealed_runs import DEGRADED, write_sealed_run

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
MakeRun = Callable[..., Path]


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += [data.strip()] if data.strip() else []

    def values(self, *names: str) -> list[str]:
        return [value for name, value in self.attributes if name in names]


def test_the_page_holds_the_numbers(finished: Path) -> None:
    page = Page(finished / "report.html")
    assert "Def-FD on Fashion-MNIST" in page.words
    headline = [page.words[page.words.index(label) + 1] for label in ("Global", "Local")]
    assert headline == ["71.2 %", "82.3 %"]
    assert page.words[page.words.index("Local with prior") + 1] == "86.8 %"
    assert page.words[page.words.index("Worst tenth") + 1] == "63.5 %"
    assert "± 3.1 over clients; whole test set" in page.words
    facts = dict(zip(page.words, page.words[1:], strict=False))
    assert facts["Global accuracy (%)"] == "71.2 ± 3.1"
    assert facts["Sent (MB)"] == "2.3"
    assert facts["Key used (bits)"] == "5,120"
    assert facts["lr"] == "0.012345"
    assert "Made with flwr 1.41.0, torch 2.9.0" in page.words


def test_what_the_headline_is_a_number_of_stands_below_it(make_run: MakeRun) -> None:
    best: dict[str, Any] = {
        "best_global_accuracy": 0.75,
        "best_round": 3,
        "evaluation_samples": 9000,
    }
    tuned = {**best, "evaluated_on": "validation", "final_evaluations": 5}
    plain, tested, chosen, apart = (
        " ".join(Page(make_run(f"run{number}", **said) / "report.html").words)
        for number, said in enumerate([{}, best, tuned, {**tuned, "validation_split": "set aside"}])
    )
    assert "whole test set" in plain
    assert "The best single evaluation" not in plain
    assert "± 3.1 over clients; 9,000 test images" in tested
    assert "The best single evaluation had Global 75.0 %, after round 3." in tested
    assert "means of the last" not in tested
    assert "± 3.1 over clients; 9,000 validation images" in chosen
    assert "Global is measured on the 9,000 validation images" in chosen
    assert "Global is counted on training images that no client holds" in chosen
    assert "Values are means of the last 5 evaluations." in chosen
    assert "set aside first" not in chosen
    assert "They were set aside first: with evaluate-on=test, clients hold other images" in apart


def test_an_unfinished_run_says_what_it_is_judged_on(make_run: MakeRun) -> None:
    page = Page(render(make_run(finish=False, **{"evaluate-on": "validation"})))
    assert "± 3.1 over clients; validation split" in page.words


def test_the_table_of_clients_has_each_clients_last_values(finished: Path) -> None:
    words = Page(finished / "report.html").words
    start = words.index("Test samples") + 1
    first = ["0", "70.0", "80.0", "85.0", "75.0", "50.0", "480", "120"]
    second = ["1", "71.0", "81.0", "86.0", "76.0", "–", "480", "120"]
    assert words[start : start + 16] == first + second
    assert "Clients after round 4" in words


def test_several_architectures_are_told_apart(make_run: MakeRun) -> None:
    directory = make_run(clients=3, finish=False)
    lines = (directory / "clients.csv").read_text().splitlines()
    models = ["model", *["net", "mlp", "net"] * 4]
    mixed = [f"{line},{model}" for line, model in zip(lines, models, strict=True)]
    (directory / "clients.csv").write_text("\n".join(mixed) + "\n")
    words = Page(render(directory)).words
    start = words.index("net")
    # Accuracies after round 4 are 70.0, 73.3 and 76.7 %; client 1, the mlp, has no absent class.
    means = ["73.3", "83.3", "88.3", "78.3"]
    assert words[start : start + 14] == ["net", "2", *means, "53.3", "mlp", "1", *means, "–"]
    assert words[start + 14 :].count("net") == 2, "each client's row says what it has"


def test_one_architecture_needs_no_table_of_its_own(finished: Path) -> None:
    assert "model-table" not in Page(finished / "report.html").values("id")


def test_the_page_needs_no_network(finished: Path) -> None:
    page = Page(finished / "report.html")
    references = page.values("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    assert references
    assert [ref for ref in references if not ref.startswith(("#", "data:"))] == []
    assert {"script", "link", "iframe", "object", "base"} & set(page.tags) == set()
    assert re.findall(r"@import|url\((?!#)", page.source) == []
    assert "default-src 'none'" in page.source


def test_ids_of_the_inlined_figures_never_meet_and_every_reference_leads_somewhere(
    finished: Path,
) -> None:
    page = Page(finished / "report.html")
    ids = page.values("id")
    assert page.tags.count("svg") == 6
    assert len(ids) == len(set(ids)) > 100
    links = [ref[1:] for ref in page.values("href", "xlink:href") if ref.startswith("#")]
    clips = re.findall(r"url\(#([^)]+)\)", page.source)
    assert links
    assert clips
    assert set(links + clips) <= set(ids)


def test_figures_take_the_pages_colours(finished: Path) -> None:
    drawing = (finished / "figures" / "learning-curves.svg").read_text()
    assert "#1b1d22" in drawing
    assert "#ffffff" in drawing
    page = (finished / "report.html").read_text()
    body = page[page.index("<main>") :]
    assert "#1b1d22" not in body
    assert "#ffffff" not in body
    assert "currentColor" in body
    assert "prefers-color-scheme: dark" in page


def test_hostile_values_are_shown_as_text(make_run: MakeRun) -> None:
    page = Page(make_run(strategy=HOSTILE, model=HOSTILE, **{HOSTILE: HOSTILE}) / "report.html")
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert page.words.count(HOSTILE) >= 3
    assert f"{HOSTILE} on Fashion-MNIST" in page.words


def test_hostile_cells_and_columns_are_shown_as_text(make_run: MakeRun) -> None:
    directory = make_run(finish=False)
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    rows = f"round,client,{quoted}\n1,0,{quoted}\n"
    (directory / "clients.csv").write_text(rows)
    page = Page(render(directory))
    assert not {"script", "img"} & set(page.tags)
    assert HOSTILE in page.words


def test_an_interrupted_run_shows_what_was_finished_and_says_so(make_run: MakeRun) -> None:
    page = Page(render(make_run(rounds=3, finish=False)))
    notice = "The numbers are those after round 3 of 4."
    assert any(words.endswith(notice) for words in page.words)
    assert page.words[page.words.index("Global") + 1] == "66.2 %"
    assert page.tags.count("svg") == 6
    assert "Cross-entropy" not in page.words


def test_a_finished_run_has_no_such_notice(finished: Path) -> None:
    assert "has not finished" not in (finished / "report.html").read_text()


def test_a_run_stopped_before_its_first_evaluation_still_has_a_page(make_run: MakeRun) -> None:
    page = Page(render(make_run(rounds=0, finish=False)))
    assert any("No round has been evaluated." in words for words in page.words)
    assert page.tags.count("svg") == 1
    assert page.tags.count("table") == 2


def test_missing_columns_and_files_leave_gaps_not_errors(make_run: MakeRun) -> None:
    directory = make_run(finish=False)
    (directory / "partition.csv").unlink()
    (directory / "clients.csv").unlink()
    (directory / "rounds.csv").write_text("round,global_accuracy\n1,0.4321\n2,\n")
    page = Page(render(directory))
    assert page.tags.count("svg") == 1
    assert page.words.count("Summary") == 1
    (directory / "rounds.csv").write_text("round,global_accuracy\n1,0.4321\n")
    page = Page(render(directory))
    assert page.words[page.words.index("Global") + 1] == "43.2 %"
    assert "Local" not in page.words[: page.words.index("Figures")]


@pytest.mark.parametrize(
    ("out_dir", "line"),
    [("", "deffd run config.yaml"), ("runs/x", "deffd run config.yaml 'out-dir=../my run-again'")],
)
def test_the_command_to_repeat_the_run_does_not_point_at_this_directory(
    make_run: MakeRun, out_dir: str, line: str
) -> None:
    directory = make_run("my run", rounds=0, finish=False, **{"out-dir": out_dir})
    assert line in Page(render(directory)).words


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("deffd run gamma=0.03", "deffd run gamma=0.03"),
        (["deffd", "run", "data-dir=my data"], "deffd run 'data-dir=my data'"),
    ],
)
def test_the_summarys_command_is_shown_ready_to_paste(
    make_run: MakeRun, command: object, line: str
) -> None:
    directory = make_run(rounds=0, finish=False)
    (directory / "summary.json").write_text(json.dumps({"command": command}))
    lines = "\n".join(Page(render(directory)).words).splitlines()
    assert line in lines


def test_a_directory_without_a_run_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no config\.yaml"):
        render(tmp_path)
    assert list(tmp_path.iterdir()) == []


def section(page: Page, start: str, end: str) -> list[str]:
    words = page.words[page.words.index(start) :]
    return words[: words.index(end)]


def test_the_section_on_keys_holds_numbers_claims_and_the_effect_of_eve(sealed: Path) -> None:
    summary = json.loads((sealed / "summary.json").read_text())
    page = Page(sealed / "report.html")
    shown = section(page, "Keys and security", "Clients after round 12")
    facts = dict(pairwise(shown))
    assert facts["Suite"] == "One-time pad"
    assert facts["Key used (bits)"] == f"{summary['key_bits']:,}"
    assert facts["Key per model (bits)"] == "776,256"
    assert facts["Starved of key (models)"] == str(summary["starved"])
    assert facts["Not sent, lacking key"] == str(summary["skipped"])
    assert facts["Eve"] == "intercept fraction=0.5 rounds=5-8"
    assert "Weakest suite allowed" not in facts
    assert "Sent to another peer" not in facts
    assert facts["A model changed on its way is refused"] == "simulated"
    assert facts["Models get through"] == "no"
    assert any("key-source=embedded the secrecy of QKD keys is simulated" in w for w in shown)
    begin = "Eve began at 8 min 00 s; since then blocks were aborted by the end of round 5"
    assert any(begin in words for words in shown)
    assert "Key per model (bits)" not in section(page, "Summary", "Configuration")


def test_up_to_thirty_links_are_listed_with_their_totals(sealed: Path, degraded: Path) -> None:
    shown = section(Page(degraded / "report.html"), "Keys and security", "Clients after round 4")
    assert "6 quantum links, totals from keys.csv" in shown
    start = shown.index("Last QBER (%)") + 1
    names = shown[start : start + 9 * 6 : 9]
    assert names == ["0-1", "1-2", "2-3", "3-4", "4-5", "5-0"]
    last = [row for row in (degraded / "keys.csv").read_text().splitlines() if ",0-1," in row][-1]
    totals = [f"{int(cell):,}" for cell in last.split(",")[-5:]]
    produced, delivered, stored, expired, burnt = totals
    assert shown[start + 1 : start + 6] == [produced, delivered, stored, expired, burnt]
    many = section(Page(sealed / "report.html"), "Keys and security", "Clients after round 12")
    assert any(
        w.endswith("quantum links were used; keys.csv has the totals of each.") for w in many
    )
    assert "Last QBER (%)" not in many


def test_trusted_nodes_and_weaker_suites_are_named(degraded: Path) -> None:
    shown = section(Page(degraded / "report.html"), "Keys and security", "Clients after round 4")
    facts = dict(pairwise(shown))
    assert facts["Weakest suite allowed"] == "ML-KEM, no QKD"
    nodes = json.loads((degraded / "summary.json").read_text())["exposed_nodes"]
    assert facts["Trusted nodes that saw keys"] == ", ".join(nodes)
    assert facts["Models are secret from trusted nodes that relay keys"] == "no"
    assert facts["A model comes from the client it names"] == "no"
    shares = "One-time pad 25.0, AES-256-GCM 50.0, ML-KEM, no QKD 25.0"
    assert sorted(facts["Models by suite (%)"]) == sorted(shares)


@pytest.mark.parametrize(("suite", "secret"), [("pqc", "computational"), ("none", "no")])
def test_without_qkd_the_claims_stand_alone(tmp_path: Path, suite: str, secret: str) -> None:
    keys: dict[str, object] = {"clients": 4, "rounds": 2, "suite": suite}
    page = Page(write_sealed_run(tmp_path / "run", keys, 5000) / "report.html")
    shown = section(page, "Keys and security", "Clients after round 2")
    facts = dict(pairwise(shown))
    assert facts["Models are secret from the relay server and whoever listens to it"] == secret
    assert facts["Eavesdropping on the quantum channel is noticed"] == "no"
    assert not {"QKD network", "Key source", "Key used (bits)", "Accuracy by key."} & set(shown)
    assert not any("simulated" in words for words in shown if words != "Simulated time")


def test_an_unfinished_runs_section_assumes_no_more_than_is_known(tmp_path: Path) -> None:
    page = Page(render(write_sealed_run(tmp_path / "run", DEGRADED, finish=False)))
    shown = section(page, "Keys and security", "Clients after round 4")
    facts = dict(pairwise(shown))
    assert facts["Suite"] == "One-time pad"
    assert facts["Models are secret from trusted nodes that relay keys"] == "no"
    assert any("those on the way" in words for words in shown)


def test_hostile_names_of_links_nodes_and_attacks_are_shown_as_text(tmp_path: Path) -> None:
    directory = write_sealed_run(tmp_path / "run", DEGRADED)
    for name in ("keys.csv", "pools.csv"):
        text = (
            (directory / name)
            .read_text()
            .replace(",0-1,", f',"{HOSTILE.replace(chr(34), chr(34) * 2)}",')
        )
        (directory / name).write_text(text)
    summary = json.loads((directory / "summary.json").read_text())
    hostile = {"exposed_nodes": [HOSTILE], "bytes_by_suite": {HOSTILE: 1, "aes": 2}, "eve": HOSTILE}
    (directory / "summary.json").write_text(json.dumps({**summary, **hostile}))
    page = Page(render(directory))
    assert not {"script", "img"} & set(page.tags)
    assert page.words.count(HOSTILE) >= 2
