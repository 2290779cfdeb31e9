"""Sealed models that wait for their receivers, and who has nothing left to wait for."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flwr.app import Array


@dataclass(frozen=True, order=True)
class Mail:
    """A sealed package waiting for its receiver, in arrival order."""

    server_round: int
    sender: int
    sealed: Array


class Mailboxes:
    """One mailbox per client."""

    def __init__(self) -> None:
        self._waiting: defaultdict[int, list[Mail]] = defaultdict(list)

    def __contains__(self, receiver: int) -> bool:
        return receiver in self._waiting

    def post(self, receiver: int, mail: Mail) -> None:
        """Put a package into a client's mailbox."""
        self._waiting[receiver].append(mail)

    def take(self, receiver: int) -> list[Mail]:
        """Empty one mailbox; its packages come in order of round, then sender."""
        return sorted(self._waiting.pop(receiver, []), key=lambda m: (m.server_round, m.sender))

    def take_all(self) -> dict[int, list[Mail]]:
        """Empty all mailboxes at once: mail that comes during a phase waits for the next one."""
        return {receiver: self.take(receiver) for receiver in list(self._waiting)}


class Readiness:
    """Who may be evaluated: a client whose own training and all of whose senders have answered.

    Args:
        clients: Partition ids of the clients in question.
        training: Those that are being written to.
        transfers: (sender, receiver) of every model on its way.
    """

    def __init__(
        self,
        clients: Iterable[int],
        training: Iterable[int],
        transfers: Iterable[tuple[int, int]],
    ) -> None:
        self._awaited: dict[int, set[int]] = {client: set() for client in clients}
        self._watchers: defaultdict[int, set[int]] = defaultdict(set)
        for awaited, client in [*((each, each) for each in training), *transfers]:
            if client in self._awaited:
                self._awaited[client].add(awaited)
                self._watchers[awaited].add(client)
        self._ready = deque(client for client, awaited in self._awaited.items() if not awaited)
        for client in self._ready:
            del self._awaited[client]

    def answered(self, client: int) -> None:
        """Note that a client's training has come to its end, good or bad."""
        for watcher in sorted(self._watchers.pop(client, set())):
            awaited = self._awaited[watcher]
            awaited.discard(client)
            if not awaited:
                del self._awaited[watcher]
                self._ready.append(watcher)

    def __iter__(self) -> Iterator[int | None]:
        """Yield clients as they get ready, ``None`` while the next one is not."""
        while self._ready or self._awaited:
            yield self._ready.popleft() if self._ready else None
