"""The post office: a Flower strategy that carries sealed models from client to client.

It decides who writes to whom and adds up metrics; there is no global model. Relaying clients'
ciphertexts through the ServerApp is what Flower's own secure aggregation does as well.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, groupby

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from deffd_flower.config import RunConfig
from deffd_flower.strategy.dispatch import Consignment, Dispatcher
from deffd_flower.strategy.evaluation import Patience, Phase, numbers, report_evaluation
from deffd_flower.strategy.observer import Metrics, Observer
from deffd_flower.strategy.orders import Orders, Parcel
from deffd_flower.strategy.plans import RoundPlan, plans
from deffd_flower.strategy.presets import strategies
from deffd_flower.strategy.roster import Roster
from deffd_flower.strategy.topology import topology

log = logging.getLogger("deffd")


@dataclass(frozen=True, order=True)
class Mail:
    """A sealed package waiting for its receiver, in arrival order."""

    server_round: int
    sender: int
    sealed: Array


class Gossip(Strategy):
    """Def-FD, Def-KT and every other strategy without a central model.

    Args:
        config: The run's keys; its strategy names the pairing plan.
        roster: The clients.
        dispatcher: Finds key for what is sent.
        observer: Hears of everything that happens.
    """

    def __init__(
        self, config: RunConfig, roster: Roster, dispatcher: Dispatcher, observer: Observer
    ) -> None:
        self.config = config
        self.roster = roster
        self.dispatcher = dispatcher
        self.observer = observer
        self._plan_round = plans.get(strategies.get(config.strategy)().plan)
        self._graph = topology(config)
        self._mailbox: defaultdict[int, list[Mail]] = defaultdict(list)
        self._plan = RoundPlan([], [])
        self._outgoing: dict[int, list[Consignment]] = {}
        self._receivers: set[int] = set()
        self._patience = Patience(2 * len(roster) + 8)
        self._phase: Phase
        # A model that has not changed since is not evaluated again.
        self._known: dict[int, Metrics] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the round's pairs; write to those that train, send, or have mail waiting."""
        self._plan = self._plan_round(self.config, self._graph, server_round)
        consigned = self.dispatcher.begin_round(server_round, self._plan)
        self._outgoing = {
            sender: list(own) for sender, own in groupby(consigned, key=lambda c: c.transfer.sender)
        }
        mail = self._take_mail()
        chosen = sorted({*self._plan.trainers, *self._outgoing, *mail})
        for partition in chosen:
            self._known.pop(partition, None)
        self._receivers = {consignment.transfer.receiver for consignment in consigned}
        self._begin(server_round, "train", chosen)
        # A generator, so that a thousand inboxes are not copied before the first is sent.
        return (self._train_message(server_round, p, mail.get(p, []), config) for p in chosen)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Put what the senders sealed into the receivers' mailboxes."""
        for partition, reply in self._phase.good(replies):
            self._note_evaluation(partition, reply)
            sealed = reply.content.array_records.get("outbox", ArrayRecord())
            if len(sealed) == len(self._outgoing.get(partition, [])):
                for consignment, array in zip(
                    self._outgoing.pop(partition, []), sealed.values(), strict=True
                ):
                    self._post(server_round, consignment, array)
        for consignment in chain.from_iterable(self._outgoing.values()):
            self.dispatcher.lost(consignment)
        self.dispatcher.end_round()
        self.observer.round_sent(server_round)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every ``eval-every`` rounds, and in the last, write to those not evaluated yet."""
        due = self._due(server_round)
        mail = self._take_mail() if due else {}
        everybody = range(len(self.roster)) if due else range(0)
        chosen = [p for p in everybody if p in mail or p not in self._known]
        for partition in chosen:
            self._known.pop(partition, None)
        self._begin(server_round, "evaluate", chosen)
        return (self._evaluate_message(server_round, p, mail.get(p, []), config) for p in chosen)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Collect every client's accuracies."""
        for partition, reply in self._phase.good(replies):
            self._note_evaluation(partition, reply)
        if not self._due(server_round) or not self._known:
            return None
        return report_evaluation(server_round, self._known, self.observer)

    def summary(self) -> None:
        """Log what is about to happen."""
        log.info(
            "%s: %d clients, %d pairs per round, topology %s",
            self.config.strategy,
            len(self.roster),
            self.config.pairs_per_round,
            self.config.topology,
        )

    def _due(self, server_round: int) -> bool:
        return server_round % self.config.eval_every == 0 or server_round == self.config.rounds

    def _note_evaluation(self, partition: int, reply: Message) -> None:
        metrics = numbers(reply)
        if "global_accuracy" in metrics:
            self._known[partition] = metrics

    def _post(self, server_round: int, consignment: Consignment, sealed: Array) -> None:
        transfer = consignment.transfer
        mail = Mail(server_round, transfer.sender, sealed)
        self._mailbox[transfer.receiver].append(mail)
        share = len(transfer.segments) / self.config.segments or 1.0
        self.dispatcher.sent(consignment, sealed.data, share)
        self.observer.sent(transfer, len(sealed.data), share)

    def _begin(self, server_round: int, name: str, chosen: Iterable[int]) -> None:
        self._phase = Phase(server_round, name, chosen, self.roster, self.observer, self._patience)

    def _take_mail(self) -> dict[int, list[Mail]]:
        """Empty all mailboxes at once: mail that comes during a phase waits for the next one."""
        mail = {
            receiver: sorted(waiting, key=lambda m: (m.server_round, m.sender))
            for receiver, waiting in self._mailbox.items()
        }
        self._mailbox.clear()
        return mail

    def _train_message(
        self, server_round: int, partition: int, mail: list[Mail], config: ConfigRecord
    ) -> Message:
        orders = Orders(
            server_round,
            mail_round=_round_of(mail),
            trains=partition in self._plan.trainers,
            evaluates=self._due(server_round) and partition not in self._receivers,
            clock=self.dispatcher.controller.now,
            outbox=tuple(self._parcel(each) for each in self._outgoing.get(partition, [])),
        )
        return self._message(partition, MessageType.TRAIN, orders, mail, config)

    def _parcel(self, consignment: Consignment) -> Parcel:
        transfer = consignment.transfer
        receiver = self.roster.members[transfer.receiver]
        return Parcel(
            receiver=transfer.receiver,
            suite=consignment.suite,
            segments=transfer.segments,
            references=consignment.references,
            kem_public=receiver.kem_public,
            kem_proof=receiver.kem_proof,
        )

    def _evaluate_message(
        self, server_round: int, partition: int, mail: list[Mail], config: ConfigRecord
    ) -> Message:
        orders = Orders(server_round, mail_round=_round_of(mail))
        return self._message(partition, MessageType.EVALUATE, orders, mail, config)

    def _message(
        self,
        partition: int,
        message_type: str,
        orders: Orders,
        mail: list[Mail],
        config: ConfigRecord,
    ) -> Message:
        content = RecordDict({"config": orders.record(config)})
        if mail:
            content["inbox"] = ArrayRecord({str(i): m.sealed for i, m in enumerate(mail)})
        node_id = self.roster.node_id(partition)
        return Message(content, node_id, message_type, group_id=str(orders.server_round))


def _round_of(mail: list[Mail]) -> int:
    return mail[0].server_round if mail else 0
