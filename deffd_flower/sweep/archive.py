"""A run directory as bytes, so that it can come back from another machine."""

import io
import shutil
import zipfile
from pathlib import Path


def packed(directory: Path) -> bytes:
    """Return all files below a directory, compressed."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(directory))
    return memory.getvalue()


def unpack(files: bytes, directory: Path) -> None:
    """Write a packed directory, whole or not at all, in the place of an older one.

    Args:
        files: As `packed` returned them.
        directory: Where; its parent must exist.
    """
    draft = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        archive.extractall(draft)
    shutil.rmtree(directory, ignore_errors=True)
    draft.replace(directory)
