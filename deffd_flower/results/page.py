"""What the page of a run and that of a comparison have in common."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from deffd_flower.results.chart import INK, PAPER
from deffd_flower.results.template import HEAD, STYLE


@dataclass(frozen=True)
class Shown:
    """One figure on the page."""

    name: str
    svg: Markup
    title: str
    caption: str


def shown(name: str, svg: str, title: str, caption: str) -> Shown:
    """Return a figure for the page from the text of its SVG file."""
    return Shown(name, _inlined(name, svg, title), title, caption)


def filled(template: str, **values: Any) -> str:
    """Return a self-contained page: what a template makes of some values, below the header."""
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return page.from_string(HEAD + template).render(style=Markup(STYLE), **values)


def as_typed(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return keys with their values the way they are written in a config file."""
    return [
        (key, value if isinstance(value, str) else json.dumps(value, default=str))
        for key, value in config.items()
    ]


def _inlined(name: str, svg: str, title: str) -> Markup:
    """Return an SVG file's text as an element of the page, in the page's own colours.

    Ids are prefixed: those of several figures must not meet in one page.
    """
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head = re.compile(r'<svg [^>]*viewBox="([^"]*)"[^>]*>')
    body = head.sub(lambda found: _head(found[1], title), body, count=1)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    return Markup(body.replace(PAPER, "none").replace(INK, "currentColor"))


def _head(box: str, title: str) -> str:
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}">'
