"""Tables, links and names in the documentation are those of the program."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
import yaml
from flwr.app import Message

import deffd_flower
from deffd_flower.cast import cast_of
from deffd_flower.client_app import app as client_app
from deffd_flower.config import FIELDS, FLOWER_SPELLINGS, RunConfig, parse
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.federation import federate
from deffd_flower.kme.config import (
    KeyConfig,
    KmeConfig,
    LimitConfig,
    LinkConfig,
    PeerConfig,
    PoolConfig,
)
from deffd_flower.progress import LineProgress
from deffd_flower.qkd.attacks import attacks
from deffd_flower.qkd.eve import parse_attacks
from deffd_flower.qkd.ledger import COLUMNS, EVENTS
from deffd_flower.qkd.presets import links
from deffd_flower.request import resolve
from tests.docs.deployment_commands import NODE_KEYS
from tests.docs.pages import PAGES, ROOT, code_in, section, text_of
from tests.docs.tables import REGISTRIES

NOT_A_NAME = re.compile(r":|\.yaml|[A-Z]")
"""Values that are paths or placeholders, so that no registry knows them."""

SECTIONS = (KmeConfig, KeyConfig, LimitConfig, LinkConfig, PeerConfig, PoolConfig)
"""Of a key manager's file."""

SEEN = "## What the server sees"

OTHERS = {
    *("client-resources-num-cpus", "init-args-num-cpus", "init-args-num-gpus"),
    "dataset-fashion-mnist",
    "flwr-datasets",
    "scikit-learn",
}
"""Words with a hyphen that are names of packages, or keys of Flower's simulation."""


def test_the_tables_are_those_of_the_code() -> None:
    words = [sys.executable, "-m", "tests.docs.tables", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run python -m tests.docs.tables: {done.stdout}{done.stderr}"


def test_the_front_page_is_short() -> None:
    assert text_of("README.md").count("\n") <= 200


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", text_of(page))
    for target in (target for target in targets if not target.startswith("https://")):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_keys_and_their_values_are_those_of_the_schema(page: str) -> None:
    for code in code_in(text_of(page)):
        match = re.fullmatch(r"([a-z][a-z0-9-]*)=(\S+)", code)
        if match and match[1] not in of_attacks() and not NOT_A_NAME.search(match[2]):
            key, value = match[1], match[2].strip("'")
            assert getattr(parse({key: value}), key.replace("-", "_")) is not None
            if key in REGISTRIES and value != "auto":
                names = cast_of(value).names if key == "model" else (value,)
                assert all(REGISTRIES[key].get(name) for name in names)


def of_attacks() -> set[str]:
    """Return the words that the value of ``eve`` is made of, beside the kinds of attack."""
    kinds = [attacks.get(name) for name in attacks.names()]
    return {"seconds", *(field.name for kind in kinds for field in fields(kind))}


@pytest.mark.parametrize("page", PAGES)
def test_names_with_hyphens_in_code_exist(page: str) -> None:
    values = {name for registry in REGISTRIES.values() for name in registry.names()}
    known = {*FIELDS, *FLOWER_SPELLINGS, *links.names(), *values, *NODE_KEYS, *OTHERS}
    known |= {field.alias or name for part in SECTIONS for name, field in part.model_fields.items()}
    text = text_of(page)
    if page == "docs/security.md":
        text = text.replace(section(page, SEEN), "")
    assert set(re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", text)) <= known


@pytest.mark.parametrize("page", PAGES)
def test_files_and_extras_that_are_mentioned_exist(page: str) -> None:
    for code in code_in(text_of(page)):
        if re.fullmatch(r"deffd_flower/[\w/]+\.py", code):
            assert (ROOT / code).is_file(), code
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", text_of(page))) <= set(extras)


class ListeningGrid(LocalGrid):
    """Notes the names of all that passes between server and clients."""

    heard: frozenset[str] = frozenset()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return super().push_messages(map(self.listen, messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return map(self.listen, super().pull_messages(message_ids))

    def listen(self, message: Message) -> Message:
        """Note the names of the array records, and of the entries of all others."""
        content = message.content
        self.heard = self.heard.union(
            content.array_records,
            *content.config_records.values(),
            *content.metric_records.values(),
        )
        return message


class Heard(NamedTuple):
    """A run, and the names that its server and that of a shyer one have seen."""

    directory: Path
    names: frozenset[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    directory = tmp_path_factory.mktemp("run") / "run"
    keys = {"dataset": "digits", "clients": 4, "rounds": 2, "local-epochs": 1}
    config = resolve({**keys, "consensus-distance": True})
    shy = resolve({**keys, "partner": "complementary", "share-label-counts": False})
    names = [
        heard(config, directory),
        heard(shy, tmp_path_factory.mktemp("shy") / "run"),
    ]
    return Heard(directory, frozenset[str]().union(*names))


def heard(config: RunConfig, directory: Path) -> frozenset[str]:
    """Run a federation; return the names that its server has seen."""
    grid = ListeningGrid(client_app, config.clients, config.values())
    federate(grid, config, directory, LineProgress())
    return grid.heard


def test_the_front_page_names_every_file_of_a_run(run: Heard) -> None:
    files = {path.name + "/" * path.is_dir() for path in run.directory.iterdir()}
    assert files <= set(code_in(text_of("README.md")))


def test_the_security_page_names_exactly_what_the_server_sees(run: Heard) -> None:
    lines = section("docs/security.md", SEEN).splitlines()
    cells = [line.split("|")[2] for line in lines if line.startswith("| ")]
    assert set(code_in(" ".join(cells))) == run.names


def test_the_simulation_page_names_every_ledger_column_and_event() -> None:
    ledger = section("docs/qkd-simulation.md", "## What is written")
    assert set(code_in(ledger)) >= {*COLUMNS, *EVENTS}


def test_the_simulation_page_shows_every_attack() -> None:
    eve = section("docs/qkd-simulation.md", "## Eve")
    examples = re.findall(r"^\| `([^`]+)`", eve, re.MULTILINE)
    shown = {type(attack) for example in examples for attack in parse_attacks(example)}
    assert shown == {attacks.get(name) for name in attacks.names()}


def test_the_picture_is_readable_without_the_network_in_light_and_dark() -> None:
    picture = ElementTree.parse(ROOT / "docs/images/post-office.svg").getroot()
    assert {element.tag.rpartition("}")[2] for element in picture} >= {"title", "desc", "style"}
    text = ElementTree.tostring(picture, "unicode")
    assert "prefers-color-scheme: dark" in text
    references = re.findall(r'(?:href|src)="([^"]+)"|url\(([^)]+)\)', text)
    assert all(one.startswith("#") or other.startswith("#") for one, other in references)


def test_the_citation_is_that_of_this_version() -> None:
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == deffd_flower.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f"## {deffd_flower.__version__}" in text_of("CHANGELOG.md")


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_promised_that_no_cipher_can_keep(page: str) -> None:
    hype = re.compile(r"unconditional|(absolute|perfect|complete|total)(ly)? secur|unhackable")
    assert not hype.search(text_of(page).lower())
