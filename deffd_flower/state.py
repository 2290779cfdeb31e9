"""Where a client's model waits between two messages, and what it knows of its peers.

Flower keeps a client's state with the server's side of the engine and sends it along with every
message. Above a few megabytes that costs more than the work of a small client, and a file is
faster; the state then holds only the file's version. A file is never changed: a message that
fails leaves the old version current.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context

from deffd_flower.errors import DeffdError

DISK_ABOVE = 4_000_000
_RECORD, _WEIGHTS, _STYPE = "model", "weights", "deffd.weights.v1"
_ACQUAINTANCES = "acquaintances"


def load_weights(context: Context) -> bytes | None:
    """Return the client's saved model, or ``None`` before the first was saved.

    Raises:
        DeffdError: Its file is gone.
    """
    if _RECORD in context.state.array_records:
        return context.state.array_records[_RECORD][_WEIGHTS].data
    if _RECORD not in context.state.config_records:
        return None
    path = _folder(context) / str(context.state.config_records[_RECORD]["version"])
    try:
        return path.read_bytes()
    except OSError as problem:
        advice = "clients that hop between machines need client-state=message"
        raise DeffdError(f"{path}: {problem.strerror}; {advice}") from problem


def save_weights(context: Context, weights: bytes, where: str) -> None:
    """Make a model the client's state.

    Args:
        context: The client's context.
        weights: The model.
        where: ``message``, ``disk``, or ``auto`` to decide by size.
    """
    on_disk = where == "disk" or (where == "auto" and len(weights) > DISK_ABOVE and _one_machine())
    if on_disk:
        context.state[_RECORD] = ConfigRecord({"version": _write(context, weights)})
    else:
        array = Array("uint8", (len(weights),), _STYPE, weights)
        context.state[_RECORD] = ArrayRecord({_WEIGHTS: array})


def load_acquaintances(context: Context) -> dict[int, bytes]:
    """Return what the client has saved of its peers' classes, by partition id."""
    record = context.state.config_records.get(_ACQUAINTANCES, ConfigRecord())
    return {int(peer): held for peer, held in record.items() if isinstance(held, bytes)}


def save_acquaintances(context: Context, known: Mapping[int, bytes]) -> None:
    """Make what a client knows of its peers its state."""
    record = ConfigRecord({str(peer): held for peer, held in known.items()})
    context.state[_ACQUAINTANCES] = record


def forget_weights(context: Context) -> None:
    """Remove the client's files; those of a killed run are left in the user's cache."""
    shutil.rmtree(_folder(context), ignore_errors=True)


def _write(context: Context, weights: bytes) -> int:
    """Write the next version, and remove the one before the current: nobody can ask for it."""
    record = context.state.config_records.get(_RECORD, ConfigRecord({"version": 0}))
    version = int(str(record["version"])) + 1
    folder = _folder(context)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"{version}.part"
    draft.write_bytes(weights)
    draft.replace(folder / str(version))
    (folder / str(version - 2)).unlink(missing_ok=True)
    return version


def _folder(context: Context) -> Path:
    # In the user's own folder: others could lay out a predictable one in the shared temp first.
    own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "deffd-flower"
    return own / "state" / str(context.run_id) / str(context.node_id)


def _one_machine() -> bool:
    """Say whether all of a client's messages come to this machine.

    They may not on a Ray cluster, where a client is served by any actor.
    """
    try:
        import ray
    except ModuleNotFoundError:
        return True
    nodes: Callable[[], list[dict[str, bool]]] = ray.nodes
    return not ray.is_initialized() or sum(node["Alive"] for node in nodes()) == 1
