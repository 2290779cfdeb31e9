"""Where a client's desk keeps what it must not forget: in Flower's state, or on its own disk."""

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from flwr.app import ConfigRecord, Context

from deffd_flower.errors import DeffdError
from deffd_flower.transport.refusal import Reason, Refused
from deffd_flower.transport.wire import COUNT, Reader, pack_text

STATE_DIR = "state-dir"
_RECORD, _VERSION = "transport", "version"
_SIZE = struct.Struct(">Q")

Entries = Mapping[str, bytes]


class Memory(Protocol):
    """What a desk remembers from message to message."""

    def read(self) -> dict[str, bytes]:
        """Return what was written last; nothing before that."""

    def write(self, entries: Entries) -> None:
        """Remember this instead of all before."""


class StateMemory:
    """Keeps it in the client's Flower state, which goes to the client's node with the reply.

    Args:
        context: Flower's context of the client.
    """

    def __init__(self, context: Context) -> None:
        self._state = context.state

    def read(self) -> dict[str, bytes]:
        """Return what the state holds."""
        record = self._state.config_records.get(_RECORD, ConfigRecord())
        return {name: value for name, value in record.items() if isinstance(value, bytes)}

    def write(self, entries: Entries) -> None:
        """Replace the state's record."""
        self._state[_RECORD] = ConfigRecord(dict(entries))


class DiskMemory:
    """Keeps it in a file that is safe on disk before the reply leaves.

    A SuperNode keeps the state in memory, and gets it after the reply. A client that dies between
    the two would seal a second message under the same key and number. The file is replaced, never
    changed, so that a message that fails leaves it as it was.

    Args:
        context: Flower's context of the client; its state holds the file's version.
        folder: Where the files of all runs are.
        partition: The client's partition id.
    """

    def __init__(self, context: Context, folder: Path, partition: int) -> None:
        self._state = context.state
        self._path = folder / str(context.run_id) / str(partition)

    def read(self) -> dict[str, bytes]:
        """Return what the file holds.

        Raises:
            Refused: File and state have come apart: the node was started anew and has lost the
                client's model, or the file is gone.
        """
        version, entries = self._stored()
        known = self._known()
        if version < known or (version and not known):
            raise Refused(Reason.STATE_LOST)
        return entries

    def write(self, entries: Entries) -> None:
        """Replace the file, then note its version in the state.

        Raises:
            DeffdError: The disk does not take it.
        """
        version, _ = self._stored()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._path, _encoded(version + 1, entries))
        except OSError as problem:
            advice = f"{STATE_DIR} in the node's --node-config can name another folder"
            raise DeffdError(f"{self._path}: {problem.strerror}; {advice}") from problem
        self._state[_RECORD] = ConfigRecord({_VERSION: version + 1})

    def _stored(self) -> tuple[int, dict[str, bytes]]:
        data = self._path.read_bytes() if self._path.exists() else b""
        return _decoded(data) if data else (0, {})

    def _known(self) -> int:
        record = self._state.config_records.get(_RECORD, ConfigRecord())
        return int(str(record.get(_VERSION, 0)))


def state_folder(node_config: Mapping[str, object]) -> Path:
    """Return where a node's clients keep their files: its ``state-dir``, or the user's own."""
    if named := str(node_config.get(STATE_DIR, "")):
        return Path(named).expanduser() / "desks"
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "deffd-flower" / "desks"


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _encoded(version: int, entries: Entries) -> bytes:
    parts = [_SIZE.pack(version), COUNT.pack(len(entries))]
    for name, value in sorted(entries.items()):
        parts += [pack_text(name), _SIZE.pack(len(value)), value]
    return b"".join(parts)


def _decoded(data: bytes) -> tuple[int, dict[str, bytes]]:
    reader = Reader(data)
    (version,), (count,) = reader.unpack(_SIZE), reader.unpack(COUNT)
    entries = {}
    for _ in range(count):
        name, (size,) = reader.text(), reader.unpack(_SIZE)
        entries[name] = bytes(reader.take(size))
    reader.finish()
    return version, entries
