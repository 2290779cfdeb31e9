"""The pages of a run and of a comparison in a real browser, from disk, on a desktop and a phone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from deffd_flower.results.comparison import write_comparison
from tests.results.made_courses import make_sweep

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH"),
]

WIDTHS = {"phone": 390, "desktop": 1280}
LEGIBLE = {"phone": 8.5, "desktop": 12}
"""Least font size in a figure, in CSS pixels."""

MEASURE = """
const box = element => element.getBoundingClientRect();
const drawn = [...document.querySelectorAll("figure svg")];
const texts = drawn.map(svg => [...svg.querySelectorAll("text")].filter(t => box(t).height > 0));
const apart = (a, b) =>
  a.right - b.left < 1 || b.right - a.left < 1 || a.bottom - b.top < 1 || b.bottom - a.top < 1;
const overlaps = [];
drawn.forEach((svg, n) => {
  const boxes = texts[n].map(text => [text.textContent.trim(), box(text)]);
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    if (!apart(a, b)) overlaps.push([svg.closest("figure").id, one, other]);
  }));
});
const rows = {};
document.querySelectorAll("table[id]").forEach(table => rows[table.id] =
  [...table.tBodies[0].rows].filter(row => row.checkVisibility()).length);
return {
  width: document.documentElement.scrollWidth,
  figures: drawn.filter(svg => box(svg).height > 100).map(svg => svg.closest("figure").id),
  rows: rows,
  overlaps: overlaps,
  outside: drawn.filter((svg, n) => texts[n].some(text =>
    box(text).left < box(svg).left - 1 || box(text).right > box(svg).right + 1
  )).map(svg => svg.closest("figure").id),
  smallest: Math.min(...texts.flat().map(text => parseFloat(getComputedStyle(text).fontSize)
    * box(text.ownerSVGElement).width / text.ownerSVGElement.viewBox.baseVal.width)),
  ink: getComputedStyle(drawn[0].querySelector("text")).fill,
  paper: getComputedStyle(document.querySelector("figure.card")).backgroundColor,
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Return a browser that tells what its pages log and load."""
    driver = shutil.which("chromedriver")
    assert driver, "there is a browser but no chromedriver; on Debian: apt install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, Selenium does not look for one on the net.
    with webdriver.Chrome(options, Service(driver)) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return sweeps of different shapes with their pages written."""
    parent = tmp_path_factory.mktemp("compared")
    sweeps = {shape: make_sweep(parent / shape, shape) for shape in COMPARISONS}
    for directory in sweeps.values():
        write_comparison(directory)
    return sweeps


def logged(browser: Any, kind: str) -> list[dict[str, str]]:
    """Return what has been logged since the last call; Selenium leaves this call untyped."""
    entries: list[dict[str, str]] = browser.get_log(kind)
    return entries


def look(browser: webdriver.Chrome, directory: Path, screen: str, scheme: str = "light") -> Any:
    """Open a page from disk as on some screen, and return what is to be seen there."""
    for kind in ("browser", "performance"):
        logged(browser, kind)
    size = {"width": WIDTHS[screen], "height": 844, "mobile": screen == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1})
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get((directory / "report.html").as_uri())
    return browser.execute_script(MEASURE)


def requested(browser: webdriver.Chrome) -> list[str]:
    """Return the addresses of everything that was asked for but is not in the page itself."""
    events = [json.loads(entry["message"])["message"] for entry in logged(browser, "performance")]
    requests = [event for event in events if event["method"] == "Network.requestWillBeSent"]
    addresses = [event["params"]["request"]["url"] for event in requests]
    return [address for address in addresses if not address.startswith("data:")]


RUNS = {
    "finished": {"client-table": 10},
    "sealed": {"client-table": 10, "claims": 12},
    "degraded": {"client-table": 6, "claims": 12, "link-table": 6},
}
"""Tables with an id on the page of each run, and their rows."""

COMPARISONS = {
    "grouped": {"table-1": 9, "table-2": 8, "table-3": 8, "trials": 0},
    "rows": {"table-1": 7, "table-2": 6, "table-3": 6, "trials": 0},
    "long": {"table-1": 3, "table-2": 2, "table-3": 2, "trials": 6},
}
"""The same of comparisons; the trials of large ones are folded away."""


def check(browser: webdriver.Chrome, directory: Path, screen: str, rows: dict[str, int]) -> None:
    seen = look(browser, directory, screen)
    assert seen["width"] <= WIDTHS[screen]
    assert seen["figures"]
    on_disk = {path.stem for path in (directory / "figures").glob("*.svg")}
    assert set(seen["figures"]) == on_disk
    assert {name: seen["rows"].get(name) for name in rows} == rows
    assert seen["overlaps"] == []
    assert seen["outside"] == []
    assert seen["smallest"] >= LEGIBLE[screen]
    assert logged(browser, "browser") == []
    assert requested(browser) == [(directory / "report.html").as_uri()]


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("run", RUNS)
def test_a_runs_page_opens_from_disk(
    request: pytest.FixtureRequest, browser: webdriver.Chrome, run: str, screen: str
) -> None:
    directory: Path = request.getfixturevalue(run)
    check(browser, directory, screen, RUNS[run])
    assert "Summary" in browser.page_source


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("shape", COMPARISONS)
def test_a_comparisons_page_opens_from_disk(
    browser: webdriver.Chrome, compared: dict[str, Path], shape: str, screen: str
) -> None:
    check(browser, compared[shape], screen, COMPARISONS[shape])


def test_in_the_dark_figures_are_drawn_in_the_pages_own_light_ink(
    browser: webdriver.Chrome, compared: dict[str, Path]
) -> None:
    light = look(browser, compared["grouped"], "desktop")
    dark = look(browser, compared["grouped"], "desktop", "dark")
    assert (light["ink"], light["paper"]) == ("rgb(27, 29, 34)", "rgb(255, 255, 255)")
    assert (dark["ink"], dark["paper"]) == ("rgb(232, 234, 238)", "rgb(27, 30, 36)")


def test_a_page_with_faults_would_be_noticed(
    browser: webdriver.Chrome, finished: Path, tmp_path: Path
) -> None:
    page = (finished / "report.html").read_text()
    faults = '<img src="https://example.invalid/x.png"><div style="width: 2000px">-</div>'
    page = page.replace("<h2>Figures</h2>", f"{faults}<h2>Figures</h2>")
    twice = '<text x="50" y="50">One</text><text x="52" y="52">Other</text>'
    (tmp_path / "report.html").write_text(page.replace("</svg>", f"{twice}</svg>", 1))
    seen = look(browser, tmp_path, "phone")
    assert seen["width"] > 390
    assert ["learning-curves", "One", "Other"] in seen["overlaps"]
    (refused,) = logged(browser, "browser")
    assert "Content Security Policy" in refused["message"]
