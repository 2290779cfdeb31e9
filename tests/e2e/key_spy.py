"""A plugin of tests: each client that has it writes down every key it uses.

It stands in the ``plugins`` of a run whose clients find it on their path.
"""

import os
from pathlib import Path
from typing import Any

from deffd_flower.transport import keys

FILE_VARIABLE = "DEFFD_KEY_SPY_FILE"

_original = keys.KeyMaterial.__init__


def _spied(material: keys.KeyMaterial, *arguments: Any) -> None:
    _original(material, *arguments)
    if material.bits and (file := os.environ.get(FILE_VARIABLE)):
        with Path(file).open("ab") as book:
            book.write(bytes(material.secret))


keys.KeyMaterial.__init__ = _spied  # type: ignore[method-assign, assignment]
