"""Worker processes: the same weights whatever their number, and none left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.process_grid import WORKER_DIED, ProcessGrid
from deffd_flower.engine.windowed_grid import WindowedGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from tests.e2e.conftest import heed_interrupts

QUICK: dict[str, object] = {"dataset": "digits", "clients": 6, "rounds": 2, "local-epochs": 1}

app = ClientApp()


@app.train()
def count(message: Message, context: Context) -> Message:
    """Count the messages in the state; die of the third one at partition 1."""
    seen = int(context.state.metric_records.get("seen", MetricRecord({"n": 0}))["n"])  # type: ignore[arg-type]  # an int
    if context.node_config["partition-id"] == 1 and seen == 1 and "deadly" in message.content:
        os.kill(os.getpid(), signal.SIGKILL)
    context.state["seen"] = MetricRecord({"n": seen + 1})
    content = RecordDict({"seen": MetricRecord({"n": seen + 1, "pid": os.getpid()})})
    return Message(content, reply_to=message)


@app.evaluate()
def fail(message: Message, context: Context) -> Message:
    context.state["spoilt"] = MetricRecord({"n": 1})
    raise ValueError("boom")


def exchange(grid: ProcessGrid, kind: str = "train", deadly: bool = False) -> list[Message]:
    content = {"deadly": MetricRecord({"n": 1})} if deadly else {}
    messages = [Message(RecordDict(dict(content)), node, kind) for node in grid.get_node_ids()]
    return list(WindowedGrid(grid).send_and_receive(messages))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def summary_with(workers: int, directory: Path, **keys: object) -> dict[str, Any]:
    config = resolve({**QUICK, **keys})
    with ProcessGrid(client_app, config.clients, config.values(), workers) as grid:
        return federate(grid, config, directory, LineProgress())


@pytest.mark.parametrize("strategy", ["def-fd", "combo"])
def test_the_weights_do_not_depend_on_the_number_of_workers(strategy: str, tmp_path: Path) -> None:
    digests = {
        summary_with(workers, tmp_path / str(workers), strategy=strategy)["state_sha256"]
        for workers in (1, 2, 5)
    }
    assert len(digests) == 1


def test_clients_run_in_several_processes_and_keep_their_state() -> None:
    with ProcessGrid(app, 8, {}, workers=3) as grid:
        for turn in (1, 2):
            replies = exchange(grid)
            assert [r.content.metric_records["seen"]["n"] for r in replies] == [turn] * 8
        pids = {reply.content.metric_records["seen"]["pid"] for reply in replies}
        assert os.getpid() not in pids
        assert pids <= set(grid.worker_pids)


def test_a_client_that_raises_leaves_its_state_and_worker_as_they_were() -> None:
    with ProcessGrid(app, 2, {}, workers=2) as grid:
        pids = set(grid.worker_pids)
        replies = exchange(grid, "evaluate")
        assert [reply.error.reason for reply in replies] == ["ValueError('boom')"] * 2
        assert all(dict(context.state) == {} for context in grid.contexts.values())
        assert set(grid.worker_pids) == pids


def test_a_worker_that_dies_is_replaced_and_its_message_counted_as_failed() -> None:
    with ProcessGrid(app, 4, {}, workers=2) as grid:
        before = set(grid.worker_pids)
        exchange(grid)
        replies = exchange(grid, deadly=True)
        (failed,) = [reply for reply in replies if reply.has_error()]
        assert failed.error.code == WORKER_DIED
        assert failed.error.reason == "its worker process died (exit code -9)"
        after = exchange(grid)
        counts = sorted(int(r.content.metric_records["seen"]["n"]) for r in after)  # type: ignore[arg-type]  # ints
        assert counts == [2, 3, 3, 3], "the one that died has not counted its message"
        assert len(set(grid.worker_pids) - before) == 1
        assert len(grid.worker_pids) == 2


def test_an_idle_worker_that_dies_costs_one_message() -> None:
    with ProcessGrid(app, 4, {}, workers=2) as grid:
        os.kill(grid.worker_pids[0], signal.SIGKILL)
        time.sleep(0.2)
        replies = exchange(grid)
        assert sum(reply.has_error() for reply in replies) == 1
        assert not any(reply.has_error() for reply in exchange(grid))


def test_no_worker_outlives_its_grid() -> None:
    with ProcessGrid(app, 4, {}, workers=3) as grid:
        pids = grid.worker_pids
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_run_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    deffd = str(Path(sys.executable).parent / "deffd")
    words = [deffd, "run", "dataset=digits", "rounds=500", "workers=2", "out-dir=run"]
    running = subprocess.Popen(
        words, cwd=tmp_path, start_new_session=True, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "rounds.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = children(running.pid)
    assert len(workers) == 2
    os.killpg(running.pid, number) if number is signal.SIGINT else running.send_signal(number)
    running.wait(timeout=30)
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
