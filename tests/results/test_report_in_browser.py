import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH")

# A browser window has a least width, a frame has none; the frame's own width is what the page's
# layout goes by. The page stays as it is, its content security policy included.
FRAME = """<!DOCTYPE html>
<iframe style="border: 0; width: {width}px; height: 3000px" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const height = element => element.getBoundingClientRect().height;
  const shown = selector => [...page.querySelectorAll(selector)].filter(e => height(e) > 0);
  document.body.dataset.measured = [
    page.documentElement.scrollWidth, shown("figure svg").length, shown("table").length,
    shown("#client-table tbody tr").length, shown("#claims tbody tr").length,
    shown("#link-table tbody tr").length,
    Math.floor(Math.min(...shown("figure svg text").map(height))),
  ].join(" ");
}};
</script>"""
"""Measures the page's width, figures, tables, rows of three tables, and its least text's height."""


def dumped(page: Path, profile: Path) -> str:
    """Load a page from disk, without a network, and return what the browser makes of it."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_report_opens_from_disk(finished: Path, tmp_path: Path) -> None:
    page = dumped(finished / "report.html", tmp_path)
    assert page.count("<svg") == 6
    assert page.count("<table") == 3
    assert "71.2 %" in page


@pytest.mark.parametrize(("width", "legible"), [(390, 9), (1280, 13)])
@pytest.mark.parametrize(
    ("run", "shown"),
    # Figures, tables; rows of clients, claims, links.
    [("finished", [6, 3, 10, 0, 0]), ("degraded", [8, 5, 6, 12, 6])],
)
def test_figures_and_tables_are_visible_and_the_page_never_scrolls_sideways(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    run: str,
    shown: list[int],
    width: int,
    legible: int,
) -> None:
    directory: Path = request.getfixturevalue(run)
    page = html.escape((directory / "report.html").read_text())
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=page))
    found = re.search(r'data-measured="([^"]*)"', dumped(tmp_path / "frame.html", tmp_path))
    assert found
    content, *counts, text = map(int, found[1].split())
    assert content <= width
    assert counts == shown
    assert text >= legible
