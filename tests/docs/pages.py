"""The pages of the documentation, as text."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CHANGELOG.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def text_of(page: str) -> str:
    """Return a page, or any file of the project."""
    return (ROOT / page).read_text("utf-8")


def fences(page: str) -> list[tuple[str, str]]:
    """Return language and text of every code block, in order."""
    return _FENCE.findall(text_of(page))


def code_in(text: str) -> list[str]:
    """Return what a text sets as code within its lines."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


def section(page: str, heading: str) -> str:
    """Return a section of a page, without what follows under the next heading of its kind."""
    level = heading.partition(" ")[0]
    rest = text_of(page).partition(f"\n{heading}\n")[2]
    if not rest:
        raise ValueError(f"{page} has no section {heading}")
    return rest.partition(f"\n{level} ")[0]
