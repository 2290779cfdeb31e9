"""What every strategy does with replies: sort out failures, collect evaluations."""

from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Message, MetricRecord

from deffd_flower.errors import DeffdError
from deffd_flower.strategy.observer import Metrics, Observer
from deffd_flower.strategy.roster import Roster

NO_REPLY = 3


class Patience:
    """Ends a run in which nothing works any more.

    Args:
        limit: Failed messages in a row that end it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures = 0

    def good(self) -> None:
        """Start counting anew."""
        self._failures = 0

    def failed(self, reason: str) -> None:
        """Count a failure.

        Raises:
            DeffdError: It was one too many.
        """
        self._failures += 1
        if self._failures >= self._limit:
            raise DeffdError(f"{self._limit} messages in a row failed; the last: {reason}")


class Phase:
    """Messages to the clients that are being answered.

    Args:
        server_round: The round they belong to.
    """

    def __init__(
        self, server_round: int, roster: Roster, observer: Observer, patience: Patience
    ) -> None:
        self.server_round = server_round
        self._waiting: set[tuple[str, int]] = set()
        self._roster = roster
        self._observer = observer
        self._patience = patience

    def expect(self, name: str, partitions: Iterable[int]) -> None:
        """Note that ``train`` or ``evaluate`` messages go to these clients."""
        self._waiting |= {(name, partition) for partition in partitions}

    def good(self, replies: Iterable[Message]) -> Iterator[tuple[int, Message]]:
        """Yield (partition id, reply) for each reply without error; report the others.

        Raises:
            DeffdError: So many failed in a row that going on would be pointless.
        """
        for partition, reply in self.all(replies):
            if reply is not None:
                yield partition, reply

    def all(self, replies: Iterable[Message]) -> Iterator[tuple[int, Message | None]]:
        """Yield as `good` does, with ``None`` for the reply of a client that failed."""
        for reply in replies:
            partition, name = self._roster.sender(reply), reply.metadata.message_type
            self._waiting.discard((name, partition))
            self._observer.replied(partition)
            if reply.has_error():
                reason = reply.error.reason or "no reason given"
                self._fail(name, partition, reason, reply.error.code)
                yield partition, None
                continue
            self._patience.good()
            self._observer.worked(self.server_round, partition, numbers(reply))
            yield partition, reply
        for name, partition in sorted(self._waiting):
            self._fail(name, partition, "no reply", NO_REPLY)

    def _fail(self, name: str, partition: int, reason: str, code: int) -> None:
        self._observer.failed(self.server_round, name, partition, reason, code)
        self._patience.failed(reason)


def report_evaluation(
    server_round: int, metrics: Mapping[int, Metrics], observer: Observer
) -> MetricRecord:
    """Hand all clients' metrics to the observer; return their plain mean for Flower's log."""
    observer.evaluated(server_round, metrics)
    accuracies = [of_client["global_accuracy"] for of_client in metrics.values()]
    return MetricRecord({"global_accuracy": sum(accuracies) / len(accuracies)})


def numbers(reply: Message) -> dict[str, float]:
    """Return the metrics of a reply as floats, those of a list as ``name-0``, ``name-1``, ..."""
    found: dict[str, float] = {}
    for name, value in reply.content.metric_records["metrics"].items():
        if isinstance(value, list):
            found |= {f"{name}-{place}": float(entry) for place, entry in enumerate(value)}
        else:
            found[name] = float(value)
    return found
