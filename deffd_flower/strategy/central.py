"""Flower's FedAvg on the same ClientApp: the central reference, whose server reads the models."""

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from deffd_flower.config import RunConfig
from deffd_flower.strategy.consignment import BaseDispatcher
from deffd_flower.strategy.evaluation import Patience, Phase, numbers, report_evaluation
from deffd_flower.strategy.observer import Observer
from deffd_flower.strategy.plans import Transfer
from deffd_flower.strategy.roster import Roster

SERVER = -1


class CentralAverage(FedAvg):
    """FedAvg over all clients, with replies added up in partition order.

    Flower adds them up as they come, which changes the last bits from run to run.

    Args:
        config: The run's keys.
        roster: The clients; all take part in every round.
        dispatcher: Lets simulated time pass.
        observer: Hears of everything that happens.
    """

    def __init__(
        self, config: RunConfig, roster: Roster, dispatcher: BaseDispatcher, observer: Observer
    ) -> None:
        super().__init__(min_available_nodes=len(roster))
        self.config = config
        self.roster = roster
        self.dispatcher = dispatcher
        self.observer = observer
        self._patience = Patience(2 * len(roster) + 8)
        self._phase: Phase

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the global model to everybody."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message in messages:
            transfer = Transfer(SERVER, self.roster.receiver(message))
            self.observer.sent(transfer, _size(arrays), 1.0)
        self._begin(server_round, "train", len(messages), 0.5 if self._due(server_round) else 1.0)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average what came back, in partition order."""
        good = dict(self._phase.good(replies))
        for partition, reply in sorted(good.items()):
            arrays = reply.content.array_records["arrays"]
            self.observer.sent(Transfer(partition, SERVER), _size(arrays), 1.0)
            self.dispatcher.carried(_size(arrays))
        self.dispatcher.end_round()
        self.observer.round_sent(server_round)
        return super().aggregate_train(
            server_round, [good[partition] for partition in sorted(good)]
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every ``eval-every`` rounds, and in the last, send the global model to everybody."""
        due = self._due(server_round)
        self._begin(server_round, "evaluate", len(self.roster) if due else 0, 0.5 if due else 0.0)
        return super().configure_evaluate(server_round, arrays, config, grid) if due else []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Collect every client's accuracies."""
        metrics = {partition: numbers(reply) for partition, reply in self._phase.good(replies)}
        return report_evaluation(server_round, metrics, self.observer) if metrics else None

    def _due(self, server_round: int) -> bool:
        return server_round % self.config.eval_every == 0 or server_round == self.config.rounds

    def _begin(self, server_round: int, name: str, messages: int, share: float) -> None:
        self._phase = Phase(server_round, self.roster, self.observer, self._patience)
        self._phase.expect(name, range(messages))
        self.observer.phase(server_round, name, messages, share)


def _size(arrays: ArrayRecord) -> int:
    return sum(len(array.data) for array in arrays.values())
