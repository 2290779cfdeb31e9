"""The in-process engine on all cores: worker processes that live as long as the run."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from deffd_flower.config import Value
from deffd_flower.engine.local_grid import APP_RAISED, LocalGrid, called

WORKER_DIED = 103
_STOP_S = 5.0
_WAIT_S = 0.5


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class ProcessGrid(LocalGrid):
    """A `LocalGrid` whose clients run in worker processes, one message each at a time.

    Workers are forked once, so they share what this process has read before: the data set is in
    memory once. Whichever worker is free takes the next message; as a client's draws depend on
    the client and the round alone, so do its weights. A worker that dies costs its message and is
    replaced. Use as a context manager: no worker outlives it.

    Args:
        client_app: The app every node runs.
        nodes: Number of nodes; node i has ``partition-id`` i.
        run_config: What the app finds in ``context.run_config``.
        workers: Number of processes.
    """

    def __init__(
        self, client_app: ClientApp, nodes: int, run_config: Mapping[str, Value], workers: int
    ) -> None:
        super().__init__(client_app, nodes, run_config)
        self._queue: deque[str] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, str] = {}
        for _ in range(workers):
            self._idle.append(self._fork())

    def __enter__(self) -> "ProcessGrid":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers()]

    def close(self) -> None:
        """Stop the workers, by force if they do not stop by themselves."""
        workers = self._workers()
        for worker in workers:
            worker.pipe.close()
            if worker in self._busy:
                worker.process.kill()
        for worker in workers:
            worker.process.join(_STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._idle.clear()
        self._busy.clear()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; idle workers take them at once."""
        ids = list(super().push_messages(messages))
        self._queue.extend(ids)
        self._hand_out()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Wait a moment for a worker to answer, and return all answers that are there.

        Answers are returned whether they were asked for or not: every message pushed is one that
        somebody waits for.
        """
        if not self._busy:
            return []
        by_pipe = {worker.pipe: worker for worker in self._busy}
        ready = wait(list(by_pipe), timeout=_WAIT_S)
        replies = [self._receive(worker) for pipe, worker in by_pipe.items() if pipe in ready]
        self._hand_out()
        return replies

    def _workers(self) -> list[_Worker]:
        return [*self._idle, *self._busy]

    def _fork(self) -> _Worker:
        # Forking keeps the data set, the imports and the app; spawning would repeat all three.
        forking = multiprocessing.get_context("fork")
        ours, theirs = forking.Pipe()
        others = [worker.pipe for worker in self._workers()]
        process = forking.Process(
            target=_serve, args=(self._app, theirs, [ours, *others]), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self) -> None:
        while self._idle and self._queue:
            worker, message_id = self._idle.pop(), self._queue.popleft()
            message = self._pending[message_id]
            self._busy[worker] = message_id
            try:
                worker.pipe.send((message, self._draft(message)))
            except OSError:
                # It died while idle: its answer, that it is gone, is found when asked for.
                continue

    def _receive(self, worker: _Worker) -> Message:
        message = self._pending.pop(self._busy.pop(worker))
        try:
            answer: tuple[Message, RecordDict] | str = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker, message)
        self._idle.append(worker)
        if isinstance(answer, str):
            return Message(Error(APP_RAISED, answer), reply_to=message)
        reply, self.contexts[message.metadata.dst_node_id].state = answer
        return reply

    def _bury(self, worker: _Worker, message: Message) -> Message:
        worker.pipe.close()
        worker.process.join(_STOP_S)
        self._idle.append(self._fork())
        reason = f"its worker process died (exit code {worker.process.exitcode})"
        return Message(Error(WORKER_DIED, reason), reply_to=message)


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(app: ClientApp, pipe: Connection, inherited: list[Connection]) -> None:
    """Answer messages until the other end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A pipe ends only when every copy of its other end is closed, these too.
    for copy in inherited:
        copy.close()
    while True:
        try:
            message, context = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_answer(app, message, context))


def _answer(app: ClientApp, message: Message, context: Context) -> tuple[Message, RecordDict] | str:
    try:
        return called(app, message, context)
    except Exception as problem:
        return repr(problem)
