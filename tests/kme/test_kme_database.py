"""One thread, group commit: jobs are whole or not at all, and nothing is told before the disk."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deffd_flower.errors import DeffdError
from deffd_flower.kme.database import Database, Job

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY);"


def insert(*values: int) -> Job[int]:
    def job(db: sqlite3.Connection) -> int:
        for value in values:
            db.execute("INSERT INTO t VALUES (?)", (value,))
        return len(values)

    return job


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT COUNT(*) FROM t").fetchone()[0])


def test_a_job_that_fails_leaves_the_others_of_its_commit_alone(folder: Path) -> None:
    async def run() -> None:
        jobs = [insert(1, 2), insert(3, 1), insert(4), insert(2), count]
        waiting = [database.run(job) for job in jobs]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results[0::2] == [2, 1, 3]
        assert isinstance(results[1], sqlite3.IntegrityError)
        assert isinstance(results[3], sqlite3.IntegrityError)

    database = Database(folder / "x.sqlite", SCHEMA)
    asyncio.run(run())
    database.close()


def test_a_job_is_run_even_if_nobody_waits_for_it(folder: Path) -> None:
    async def run() -> None:
        task = asyncio.create_task(database.run(insert(1)))
        await asyncio.sleep(0)
        task.cancel()
        assert await database.run(count) == 1

    database = Database(folder / "x.sqlite", SCHEMA)
    asyncio.run(run())
    database.close()


def test_what_was_told_survives_any_death(folder: Path) -> None:
    """A process commits numbers and tells them; it is killed at once."""
    program = f"""
import asyncio, os, sys
from pathlib import Path
from deffd_flower.kme.database import Database, Job

async def run():
    for number in range(1000):
        await database.run(lambda db: db.execute("INSERT INTO t VALUES (?)", (number,)))
        print(number, flush=True)
        if number == 25:
            os.kill(os.getpid(), 9)

database = Database(Path(sys.argv[1]), {SCHEMA!r})
asyncio.run(run())
"""
    path = folder / "x.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    told = [int(line) for line in done.stdout.split()]
    found = sqlite3.connect(path).execute("SELECT x FROM t ORDER BY x").fetchall()
    assert told == [row[0] for row in found] == list(range(26))


def test_the_file_is_private_and_in_use_by_one(folder: Path) -> None:
    path = folder / "x.sqlite"
    database = Database(path, SCHEMA)
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    with pytest.raises(DeffdError, match="another process uses it"):
        Database(path, SCHEMA)
    database.close()
    assert [file.name for file in folder.iterdir()] == ["x.sqlite"]
    Database(path, SCHEMA).close()


def test_what_is_deleted_is_not_left_in_the_file(folder: Path) -> None:
    secret = b"a key that nobody may find again"
    path = folder / "x.sqlite"

    async def run() -> None:
        schema_job = "INSERT INTO k VALUES (1, ?)"
        await database.run(lambda db: db.execute(schema_job, (secret,)).rowcount)
        await database.run(lambda db: db.execute("DELETE FROM k").rowcount)

    database = Database(path, "CREATE TABLE IF NOT EXISTS k (x INTEGER PRIMARY KEY, y BLOB);")
    asyncio.run(run())
    database.close()
    assert secret not in path.read_bytes()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(84)])
def test_a_file_that_is_no_database_is_named(folder: Path, content: bytes) -> None:
    path = folder / "x.sqlite"
    path.write_bytes(content)
    with pytest.raises(DeffdError, match=f"key store {path}"):
        Database(path, SCHEMA)


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DeffdError, match="no such place"):
        Database(folder / "no such place" / "x.sqlite", SCHEMA)
