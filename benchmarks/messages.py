"""`messages`: what a message costs on each engine, with nothing to compute.

Every node is sent a model, keeps it as its state and sends it back. Time is per message, there
and back, in a steady phase in which every node is written to once. ``ray`` is `flwr run`;
``ray-inline`` is the same with the one setting of Ray's that only the user can make.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.echo.echo_app import client, timed
from benchmarks.harness import Options, Result, in_turn, ratio
from benchmarks.superlink import SuperLink
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.process_grid import ProcessGrid, usable_cores
from deffd_flower.errors import DeffdError

ECHO = Path(__file__).with_name("echo")
CNN = 116_000
SIZES = {"8kB": 8_000, "116kB": CNN, "1.6MB": 1_600_000}
NODES, PHASES, MANY = 100, 5, 1000
INLINE = {"RAY_max_direct_call_object_size": "4000000"}

Times = dict[str, float]


def measure(options: Options) -> Iterator[Result]:
    """Yield, per engine and model size, its milliseconds per message / those of LocalGrid."""
    nodes, phases = (4, 1) if options.quick else (NODES, PHASES)
    with ExitStack() as stack:
        plain, inline = (stack.enter_context(SuperLink(extra)) for extra in ({}, INLINE))
        arms: dict[str, Callable[[], Times]] = {
            "local": lambda: in_process(nodes, phases, workers=1),
            "processes": lambda: in_process(nodes, phases, workers=max(2, usable_cores())),
            "ray": lambda: on_ray(plain, nodes, phases, SIZES.values()),
            "ray-inline": lambda: on_ray(inline, nodes, phases, SIZES.values()),
        }
        measured = in_turn(arms, options)
        many: dict[str, float] = {}
        if options.full and not options.quick:
            options.tell(f"once: {MANY} nodes on Ray")
            for engine, superlink in (("ray", plain), ("ray-inline", inline)):
                many[engine] = on_ray(superlink, MANY, 2, [CNN])[str(CNN)]
    for engine in ("processes", "ray", "ray-inline"):
        for name, size in SIZES.items():
            extra = (
                {f"ms with {MANY} nodes": many[engine]} if size == CNN and engine in many else {}
            )
            yield _result(engine, name, size, measured, nodes=nodes, **extra)


def _result(
    engine: str, name: str, size: int, measured: dict[str, list[Times]], **detail: object
) -> Result:
    ms = {arm: [turn[str(size)] for turn in measured[arm]] for arm in (engine, "local")}
    listed = {arm: [round(value, 3) for value in values] for arm, values in ms.items()}
    title = f"messages:{engine}:{name}"
    what = f"{engine} / local, milliseconds per message"
    return ratio(title, ms[engine], ms["local"], of=what, ms=listed, bytes=size, **detail)


def in_process(nodes: int, phases: int, workers: int) -> Times:
    """Return milliseconds per message, by size, on the engine of `deffd run`."""
    sizes = list(SIZES.values())
    if workers == 1:
        return timed(LocalGrid(client, nodes, {}), sizes, phases)
    with ProcessGrid(client, nodes, {}, workers) as grid:
        return timed(grid, sizes, phases)


def on_ray(superlink: SuperLink, nodes: int, phases: int, sizes: Iterable[int]) -> Times:
    """Return milliseconds per message, by size, on Flower's simulation engine.

    Raises:
        DeffdError: The app wrote no result.
    """
    out = superlink.home / "ms.json"
    out.unlink(missing_ok=True)
    listed = " ".join(map(str, sizes))
    keys = f"nodes={nodes} phases={phases} sizes='{listed}' out='{out}'"
    said = superlink.run(ECHO, nodes, keys)
    if not out.exists():
        raise DeffdError(f"the echo app wrote no result; it said: {said.strip()[-300:]}")
    times: Times = json.loads(out.read_text())
    return times
