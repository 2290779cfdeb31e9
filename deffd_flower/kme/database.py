"""SQLite behind one thread, with group commit.

Every job is a transaction of its own in all that its caller can see: it is applied whole or not at
all, and its result is handed out only after a commit that is on the disk. Jobs that wait at the
same time share that commit.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from deffd_flower.errors import DeffdError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

_MOST_JOBS = 64


@dataclass(frozen=True)
class _Waiting:
    job: Job[Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Database:
    """A SQLite file that only this process uses (WAL, ``synchronous=FULL``).

    Deleted content is overwritten with zeros in the file (``secure_delete``), and the write-ahead
    log is emptied when it is closed.

    Args:
        path: The file; made if it is not there, with mode 0600.
        schema: Statements that make the tables, if they are not there.

    Raises:
        DeffdError: It is in use, cannot be written, or is no SQLite file.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=1.0
            )
            self._prepare(schema)
        except (OSError, sqlite3.Error) as problem:
            advice = "; another process uses it" if "locked" in str(problem) else ""
            raise DeffdError(f"key store {path}: {problem}{advice}") from problem
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="key-store", daemon=True)
        self._thread.start()

    async def run(self, job: Job[T]) -> T:
        """Return what a job returns, once that is on the disk.

        A job whose caller is cancelled meanwhile is run all the same.

        Raises:
            DeffdError: It could not be committed.
            Exception: Whatever the job raised; it has then changed nothing.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Waiting(job, future, loop))
        return await future

    def close(self) -> None:
        """Run the jobs that wait, then close the file."""
        self._queue.put(None)
        self._thread.join()
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _prepare(self, schema: str) -> None:
        for pragma in (
            # In this mode no other process can use the file, not even to read it.
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")

    def _work(self) -> None:
        for jobs in self._batches():
            results = self._commit(jobs)
            for loop in {waiting.loop for waiting, _, _ in results}:
                own = [each for each in results if each[0].loop is loop]
                # The loop is gone when its program ended without waiting; so is who asked.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_hand_out, own)

    def _batches(self) -> Iterator[list[_Waiting]]:
        """Yield the jobs that wait together, until the end mark."""
        while (first := self._queue.get()) is not None:
            batch, ended = [first], False
            while len(batch) < _MOST_JOBS and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    ended = True
                    break
                batch.append(following)
            yield batch
            if ended:
                return

    def _commit(self, jobs: list[_Waiting]) -> list[tuple[_Waiting, Any, Exception | None]]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [(waiting, *self._attempt(waiting.job)) for waiting in jobs]
            self._connection.execute("COMMIT")
        except sqlite3.Error as problem:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            failure = DeffdError(f"key store {self.path}: {problem}")
            return [(waiting, None, failure) for waiting in jobs]
        return results

    def _attempt(self, job: Job[Any]) -> tuple[Any, Exception | None]:
        self._connection.execute("SAVEPOINT job")
        try:
            result = job(self._connection)
        except Exception as problem:
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            return None, problem
        self._connection.execute("RELEASE job")
        return result, None


def _hand_out(results: list[tuple[_Waiting, Any, Exception | None]]) -> None:
    for waiting, result, problem in results:
        if waiting.future.done():
            continue
        if problem is None:
            waiting.future.set_result(result)
        else:
            waiting.future.set_exception(problem)
