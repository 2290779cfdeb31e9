"""A request as typed: a YAML file, then key=value pairs."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from deffd_flower.errors import RequestError


def read_request(words: Sequence[str]) -> dict[str, object]:
    """Return keys and values from ``[FILE.yaml] [key=value ...]``; later words win.

    Raises:
        RequestError: A word is neither, or the file cannot be read as keys and values.
    """
    request: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            request[key.removeprefix("--")] = value
        elif word.endswith((".yaml", ".yml")):
            request |= read_yaml(word)
        else:
            raise RequestError(word, None, "must be a FILE.yaml or key=value")
    return request


def typed_keys(words: Sequence[str]) -> set[str]:
    """Return the keys of the ``key=value`` pairs among the words of a request."""
    return {word.partition("=")[0].removeprefix("--") for word in words if "=" in word}


def read_yaml(path: str) -> dict[str, object]:
    """Return the keys and values of a YAML file.

    Raises:
        RequestError: It cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).expanduser().read_text("utf-8"))
    except OSError as problem:
        raise RequestError(path, None, f"cannot be read ({problem.strerror})") from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        reason = " ".join(str(problem).split())
        raise RequestError(path, None, f"is no YAML file ({reason})") from problem
    if not isinstance(content, dict):
        raise RequestError(path, None, "must hold lines of the form key: value")
    return {str(key): value for key, value in content.items()}
