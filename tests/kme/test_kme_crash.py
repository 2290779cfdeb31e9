"""kill -9 of KMEs under load: no key twice, the books add up, clients carry on."""

import base64
import http.client
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest
import yaml

from deffd_flower.kme.ledger import Ledger, read_ledger
from tests.kme.running import Site, described, sites, until, wait_for_key

KILLS = 50
PAIR = {"kme-a": ["alice"], "kme-b": ["bob"]}
LOST = (OSError, http.client.HTTPException, ssl.SSLError)


class Kmes:
    """KME processes that can be killed and started again."""

    def __init__(self, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        self.paths = {kme: folder / f"{kme}.yaml" for kme in files}
        for kme, file in files.items():
            self.paths[kme].write_text(yaml.safe_dump(dict(file)))
        self.stores = {kme: folder / str(file["store"]) for kme, file in files.items()}
        self.pids: dict[str, int] = {}
        self.nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.kme.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for kme in files:
            self.start(kme)

    def start(self, kme: str) -> None:
        assert self.nursery.stdin
        self.nursery.stdin.write(f"{self.paths[kme]}\n")
        self.nursery.stdin.flush()
        said = {self._line(), self._line()}
        assert f"ready {kme}" in said, self.problem(kme)
        (pid,) = said - {f"ready {kme}"}
        self.pids[kme] = int(pid.removeprefix("pid "))

    def kill(self, kme: str) -> Ledger:
        """Kill a KME; return what its store says then."""
        pid = self.pids.pop(kme)
        os.kill(pid, signal.SIGKILL)
        until(partial(is_gone, pid))
        return read_ledger(self.stores[kme])

    def close(self) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGTERM)
        for pid in self.pids.values():
            until(partial(is_gone, pid))
        if self.nursery.stdin and self.nursery.stdout:
            self.nursery.stdin.close()
            self.nursery.wait(10)
            self.nursery.stdout.close()

    def problem(self, kme: str) -> str:
        failed = self.paths[kme].with_suffix(".failed")
        return failed.read_text() if failed.exists() else "it says nothing"

    def _line(self) -> str:
        assert self.nursery.stdout
        return self.nursery.stdout.readline().strip()


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


class Books:
    """What all clients together have got."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.made: dict[str, bytes] = {}
        self.fetched: dict[str, bytes] = {}
        self.values: set[bytes] = set()
        self.wrong: list[str] = []
        self.round_trips = {"alice": 0, "bob": 0}
        self.broken = 0
        self.answers: dict[tuple[str, int], int] = {}

    def has_gone_on(self, before: Mapping[str, int]) -> bool:
        """Say whether keys have made their way in both directions since."""
        return all(self.round_trips[sae] > before[sae] for sae in before)

    def make(self, keys: Mapping[str, bytes]) -> None:
        with self.lock:
            for key_id, key in keys.items():
                if key_id in self.made or key in self.values:
                    self.wrong.append(f"made twice: {key_id}")
                self.made[key_id] = key
                self.values.add(key)

    def fetch(self, keys: Mapping[str, bytes]) -> None:
        with self.lock:
            for key_id, key in keys.items():
                if key_id in self.fetched:
                    self.wrong.append(f"fetched twice: {key_id}")
                if self.made[key_id] != key:
                    self.wrong.append(f"not the same at both ends: {key_id}")
                self.fetched[key_id] = key


class Client:
    """A master and a slave with a kept connection each, who never give up."""

    def __init__(self, master: Site, slave: Site, books: Books, seed: int) -> None:
        self.names = master.config.saes[0], slave.config.saes[0]
        self.sites = master, slave
        self.books = books
        self.random = random.Random(seed)
        self.connections: dict[str, http.client.HTTPSConnection] = {}
        self.contexts = [
            site.pki.context(sae) for site, sae in zip(self.sites, self.names, strict=True)
        ]

    def run(self, over: Event) -> None:
        while not over.is_set():
            made = self.ask(0, f"{self.names[1]}/enc_keys", {"number": self.random.randint(1, 9)})
            if made is None:
                time.sleep(0.01)
                continue
            self.books.make(made)
            ids = {"key_IDs": [{"key_ID": key_id} for key_id in made]}
            for _ in range(3):
                # Whoever got no answer asks again: the key is there if the question never came.
                fetched = self.ask(1, f"{self.names[0]}/dec_keys", ids)
                if fetched is not None:
                    self.books.fetch(fetched)
                    self.books.round_trips[self.names[0]] += 1
                    break
        for connection in self.connections.values():
            connection.close()

    def ask(self, who: int, path: str, body: object) -> dict[str, bytes] | None:
        sae, site = self.names[who], self.sites[who]
        if sae not in self.connections:
            self.connections[sae] = http.client.HTTPSConnection(
                "127.0.0.1", site.port, context=self.contexts[who], timeout=20
            )
        connection = self.connections[sae]
        try:
            connection.request("POST", f"/api/v1/keys/{path}", json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except LOST:
            self.books.broken += 1
            connection.close()
            return None
        place = path.partition("/")[2], response.status
        self.books.answers[place] = self.books.answers.get(place, 0) + 1
        if response.status != 200:
            return None
        return {each["key_ID"]: base64.b64decode(each["key"]) for each in answer["keys"]}


@pytest.fixture
def kmes(folder: Path) -> Iterator[tuple[Kmes, dict[str, Site]]]:
    files = described(folder, [("kme-a", "kme-b")], PAIR, limits={"requests-per-second": 1e6})
    placed = sites(folder, files)
    started = Kmes(folder, files)
    try:
        wait_for_key(placed)
        yield started, placed
    finally:
        started.close()


@pytest.mark.slow
def test_fifty_kills_under_load(kmes: tuple[Kmes, dict[str, Site]]) -> None:
    processes, placed = kmes
    a, b = placed.values()
    books, over, chance = Books(), Event(), random.Random(20261120)
    clients = [Client(*ends, books, seed) for seed, ends in enumerate([(a, b), (b, a)] * 2)]
    threads = [Thread(target=client.run, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    burnt = interrupted = 0
    try:
        for _ in range(KILLS):
            until(partial(books.has_gone_on, dict(books.round_trips)))
            time.sleep(chance.uniform(0, 0.1))
            victim = chance.choice(list(PAIR))
            ledger = processes.kill(victim)
            ledger.check()
            interrupted += sum(each.reserved > 0 for each in ledger.balances)
            processes.start(victim)
        until(partial(books.has_gone_on, dict(books.round_trips)))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    for kme in PAIR:
        ledger = processes.kill(kme)
        ledger.check()
        burnt += sum(each.burnt for each in ledger.balances)
    assert books.wrong == []
    assert len(books.values) == len(books.made) > KILLS
    # Kills did interrupt requests, and link key that had been taken for them.
    assert books.broken > KILLS / 2
    assert interrupted > 0
    assert burnt > 0
