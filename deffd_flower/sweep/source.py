"""YAML files that know the line of each of their values, so that errors can name it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from deffd_flower.commands.request import read_yaml
from deffd_flower.errors import RequestError

Location = tuple[str | int, ...]
"""The way from the top of a file to a value: keys and indices."""


class Source:
    """A YAML file of keys and values.

    Args:
        path: The file.

    Raises:
        RequestError: It cannot be read, holds something else, or gives a key twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = read_yaml(str(path))
        self._root = yaml.compose(path.expanduser().read_text("utf-8"), yaml.SafeLoader)
        for key, line in _repeated(self._root):
            raise RequestError(f"{self.path.name}:{line}: {key}", None, "is given twice")

    def place(self, location: Sequence[str | int]) -> str:
        """Return ``file:line: dotted.key`` of a value.

        Parts of the location that the file does not have are skipped: pydantic puts in the names
        of alternatives.
        """
        node, line, found = self._root, 1, ""
        for part in location:
            step = _step(node, part)
            if step:
                node, line = step
                found += f"[{part}]" if isinstance(part, int) else f".{part}"
        return f"{self.path.name}:{line}: {found.removeprefix('.')}".removesuffix(": ")


def _step(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _repeated(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Yield keys that stand twice in one mapping, of which YAML would keep the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield str(key.value), key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated(value)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)
