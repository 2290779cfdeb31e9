"""What every strategy does with replies: sort out failures, collect evaluations."""

from collections.abc import Iterable, Iterator

from flwr.app import Message, MetricRecord

from deffd_flower.errors import DeffdError
from deffd_flower.strategy.observer import Metrics, Observer
from deffd_flower.strategy.roster import Roster

NO_REPLY = 3


class Phase:
    """One exchange of messages with the clients.

    Args:
        server_round: The round it belongs to.
        name: ``train`` or ``evaluate``.
        expected: Partition ids that were written to.
    """

    def __init__(
        self,
        server_round: int,
        name: str,
        expected: Iterable[int],
        roster: Roster,
        observer: Observer,
    ) -> None:
        self.server_round = server_round
        self.name = name
        self._waiting = set(expected)
        self._roster = roster
        self._observer = observer
        observer.phase(server_round, name, len(self._waiting))

    def good(self, replies: Iterable[Message]) -> Iterator[tuple[int, Message]]:
        """Yield (partition id, reply) for each reply without error; report the others.

        Raises:
            DeffdError: All clients failed, so that going on would be pointless.
        """
        written_to = len(self._waiting)
        reasons: list[str] = []
        for reply in replies:
            partition = self._roster.sender(reply)
            self._waiting.discard(partition)
            self._observer.replied(partition)
            if reply.has_error():
                reasons.append(reply.error.reason or "no reason given")
                self._fail(partition, reasons[-1], reply.error.code)
            else:
                yield partition, reply
        for partition in sorted(self._waiting):
            reasons.append("no reply")
            self._fail(partition, reasons[-1], NO_REPLY)
        if written_to and len(reasons) == written_to:
            where = f"{self.name} phase of round {self.server_round}"
            raise DeffdError(f"every client failed in the {where}; the last said: {reasons[-1]}")

    def _fail(self, partition: int, reason: str, code: int) -> None:
        self._observer.failed(self.server_round, self.name, partition, reason, code)


def collect_evaluations(
    phase: Phase, replies: Iterable[Message], observer: Observer
) -> MetricRecord | None:
    """Hand all clients' metrics to the observer; return their plain means for Flower's log."""
    metrics: dict[int, Metrics] = {
        partition: numbers(reply) for partition, reply in phase.good(replies)
    }
    if not metrics:
        return None
    observer.evaluated(phase.server_round, metrics)
    accuracies = [of_client["global_accuracy"] for of_client in metrics.values()]
    return MetricRecord({"global_accuracy": sum(accuracies) / len(accuracies)})


def numbers(reply: Message) -> dict[str, float]:
    """Return the metrics of a reply as floats."""
    record = reply.content.metric_records["metrics"]
    return {name: float(value) for name, value in record.items() if not isinstance(value, list)}
