"""Clients that keep what they are sent and return it: messages and state with no work between."""

import json
import os
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from deffd_flower.engine.windowed_grid import WindowedGrid

PATIENCE_S = 60

server = ServerApp()
client = ClientApp()


@client.train()
def echo(message: Message, context: Context) -> Message:
    """Keep the model as state, count, and send it back."""
    model = message.content.array_records["model"]
    seen = context.state.metric_records.get("seen", MetricRecord({"n": 0}))
    context.state["model"] = model
    context.state["seen"] = count = MetricRecord({"n": int(str(seen["n"])) + 1})
    return Message(RecordDict({"model": model, "seen": count}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Time each size, and write ``{size: milliseconds per message}`` to the file ``out``."""
    config = context.run_config
    nodes, phases = int(config["nodes"]), int(config["phases"])
    wait_for_nodes(grid, nodes)
    sizes = map(int, str(config["sizes"]).split())
    Path(str(config["out"])).write_text(json.dumps(timed(grid, list(sizes), phases)))


def timed(grid: Grid, sizes: list[int], phases: int) -> dict[str, float]:
    """Return the milliseconds a message takes, by the size of its model.

    Args:
        grid: The engine, with all its nodes connected.
        sizes: Bytes of a model: it is sent, kept and returned.
        phases: How often every node is written to; one time more, first, to warm up.
    """
    windowed = WindowedGrid(grid)
    nodes = list(grid.get_node_ids())
    expected = 0
    taken = {}
    for size in sizes:
        blob = os.urandom(size)
        for phase in range(phases + 1):
            if phase == 1:
                started = time.perf_counter()
            expected += 1
            exchange(windowed, nodes, blob, expected)
        taken[str(size)] = 1e3 * (time.perf_counter() - started) / (phases * len(nodes))
    return taken


def exchange(grid: Grid, nodes: list[int], blob: bytes, expected: int) -> None:
    """Write to every node once, and check what comes back.

    Raises:
        RuntimeError: A reply is missing, is not what was sent, or a node has lost its state.
    """
    model = ArrayRecord({"weights": Array("uint8", (len(blob),), "deffd.echo.v1", blob)})
    messages = (Message(RecordDict({"model": model}), node, "train") for node in nodes)
    replies = list(grid.send_and_receive(messages))
    counts = [reply.content.metric_records["seen"]["n"] for reply in replies]
    if counts != [expected] * len(nodes):
        raise RuntimeError(f"after {expected} messages {len(nodes)} nodes have seen {counts}")
    if any(reply.content.array_records["model"]["weights"].data != blob for reply in replies):
        raise RuntimeError("a reply is not what was sent")


def wait_for_nodes(grid: Grid, nodes: int) -> None:
    """Wait until that many nodes are there.

    Raises:
        TimeoutError: They are not.
    """
    deadline = time.monotonic() + PATIENCE_S
    while len(list(grid.get_node_ids())) < nodes:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {nodes} nodes after {PATIENCE_S} s")
        time.sleep(0.1)
