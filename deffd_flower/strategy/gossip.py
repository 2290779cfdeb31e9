"""The post office: a Flower strategy that carries sealed models from client to client.

It decides who writes to whom and adds up metrics; there is no global model. Relaying clients'
ciphertexts through the ServerApp is what Flower's own secure aggregation does as well.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from deffd_flower.config import RunConfig
from deffd_flower.engine.windowed_grid import WindowedGrid
from deffd_flower.strategy.consignment import BaseDispatcher, Consignment
from deffd_flower.strategy.evaluation import Patience, Phase, numbers, report_evaluation
from deffd_flower.strategy.letters import Letters
from deffd_flower.strategy.mailbox import Mail, Mailboxes, Readiness
from deffd_flower.strategy.notebook import Notebook
from deffd_flower.strategy.observer import Metrics, Observer
from deffd_flower.strategy.orders import Orders, Parcel, Refusals
from deffd_flower.strategy.plans import RoundPlan, plans
from deffd_flower.strategy.presets import strategies
from deffd_flower.strategy.roster import Roster
from deffd_flower.strategy.topology import topology

log = logging.getLogger("deffd")

REFUSED = 100


class Gossip(Strategy):
    """Def-FD, Def-KT and every other strategy without a central model.

    Args:
        config: The run's keys; its strategy names the pairing plan.
        roster: The clients.
        dispatcher: Finds key for what is sent.
        observer: Hears of everything that happens.
    """

    def __init__(
        self, config: RunConfig, roster: Roster, dispatcher: BaseDispatcher, observer: Observer
    ) -> None:
        self.config = config
        self.roster = roster
        self.dispatcher = dispatcher
        self.observer = observer
        self._plan_round = plans.get(strategies.get(config.strategy)().plan)
        self._notebook = Notebook(config, topology(config), roster, dispatcher.available)
        self._mail = Mailboxes()
        self._plan = RoundPlan([], [])
        self._outgoing: dict[int, list[Consignment]] = {}
        self._starved: list[Consignment] = []
        self._letters = Letters(roster)
        self._receivers: set[int] = set()
        self._readiness = Readiness([], [], [])
        self._evaluated: set[int] = set()
        self._patience = Patience(2 * len(roster) + 8)
        self._phase: Phase
        self._grid: Grid
        self._flower_config: ConfigRecord
        # A model that has not changed since is not evaluated again.
        self._known: dict[int, Metrics] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the round's pairs; write to those that train, send, or have mail waiting.

        In a round that is evaluated, clients whose models are final are written to in the same
        exchange, where the grid allows it, so that nobody waits for the slowest to train.
        """
        self._grid, self._flower_config = grid, config
        self._plan = self._plan_round(self._notebook.knowledge(server_round))
        consigned = self.dispatcher.begin_round(server_round, self._plan)
        self._outgoing = _by_sender(consigned)
        self._starved = []
        transfers = [(c.transfer.sender, c.transfer.receiver) for c in consigned]
        self._receivers = {receiver for _, receiver in transfers}
        mail = self._mail.take_all()
        # Those that train take longest, so they go first.
        trainers = sorted({*self._plan.trainers, *self._outgoing})
        chosen = [*trainers, *sorted(set(mail).difference(trainers))]
        for partition in chosen:
            self._known.pop(partition, None)
        # A generator, so that a thousand inboxes are not copied before the first is sent.
        training = (self._train_message(server_round, p, mail.get(p, []), config) for p in chosen)
        self._evaluated = set()
        self._readiness = Readiness(self._in_question(server_round), chosen, transfers)
        if not isinstance(grid, WindowedGrid):
            self._begin(server_round, "train", chosen, len(chosen), 0.5)
            return training
        unknown = set(self._in_question(server_round)).difference(chosen, self._known)
        later = len(unknown.union(self._receivers.intersection(self._in_question(server_round))))
        self._begin(server_round, "train", chosen, len(chosen) + later, 1.0)
        return grid.paced(chain(training, self._evaluations(server_round, config)))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Put what the senders sealed into the receivers' mailboxes."""
        for partition, reply in self._phase.all(replies):
            if reply is not None:
                self._note(partition, reply)
                self._take_outbox(server_round, partition, reply)
            self._readiness.answered(partition)
        self._lose_the_rest()
        self._order_again(server_round)
        self.dispatcher.end_round()
        self.observer.round_sent(server_round)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every ``eval-every`` rounds, and in the last, write to those not evaluated yet."""
        chosen = [p for p in self._in_question(server_round) if self._to_evaluate(p)]
        self._begin(server_round, "evaluate", [], len(chosen), 0.5 if chosen else 0.0)
        return (self._evaluate_message(server_round, p, config) for p in chosen)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Collect every client's accuracies."""
        for partition, reply in self._phase.good(replies):
            self._note(partition, reply)
        if not self._due(server_round) or not self._known:
            return None
        return report_evaluation(server_round, self._known, self.observer)

    def summary(self) -> None:
        """Log what is about to happen."""
        log.info(
            "%s: %d clients, %d pairs per round, topology %s, partner %s",
            self.config.strategy,
            len(self.roster),
            self.config.pairs_per_round,
            self.config.topology,
            self.config.partner,
        )

    def _due(self, server_round: int) -> bool:
        return server_round % self.config.eval_every == 0 or server_round == self.config.rounds

    def _note(self, partition: int, reply: Message) -> None:
        self._note_evaluation(partition, reply)
        self._note_unopened(partition, reply)
        self._notebook.heard(self._phase.server_round, partition, reply)

    def _note_evaluation(self, partition: int, reply: Message) -> None:
        metrics = numbers(reply)
        if "global_accuracy" in metrics:
            self._known[partition] = metrics

    def _evaluations(self, server_round: int, config: ConfigRecord) -> Iterator[Message | None]:
        for partition in self._readiness:
            if partition is None:
                yield None
            elif self._to_evaluate(partition):
                yield self._evaluate_message(server_round, partition, config)

    def _in_question(self, server_round: int) -> range:
        """Return the clients of which a round may have something to learn: all or none."""
        return range(len(self.roster) if self._due(server_round) else 0)

    def _to_evaluate(self, partition: int) -> bool:
        """Whether this round has still to learn how good a client's model is."""
        if partition in self._evaluated:
            return False
        return partition in self._mail or partition not in self._known

    def _take_outbox(self, server_round: int, partition: int, reply: Message) -> None:
        sealed = reply.content.array_records.get("outbox", ArrayRecord())
        starved = Refusals.read(reply.content).starved
        for place, consignment in enumerate(self._outgoing.pop(partition, [])):
            if str(place) in sealed:
                self._post(server_round, consignment, sealed[str(place)])
            elif place in starved:
                self._starved.append(consignment)
            else:
                self.dispatcher.lost(consignment)

    def _lose_the_rest(self) -> None:
        for consignment in chain.from_iterable(self._outgoing.values()):
            self.dispatcher.lost(consignment)
        self._outgoing = {}

    def _order_again(self, server_round: int) -> None:
        """Have the models sent for which there was no key, as far as the policy wants it."""
        while ordered := self.dispatcher.again(self._starved):
            log.warning("round %d: ordering %d models again", server_round, len(ordered))
            self._starved, self._outgoing = [], _by_sender(ordered)
            self._phase = Phase(server_round, self.roster, self.observer, self._patience)
            self._phase.expect("train", self._outgoing)
            messages = [self._reminder(server_round, partition) for partition in self._outgoing]
            replies = self._grid.send_and_receive(messages, timeout=self.config.message_timeout)
            for partition, reply in self._phase.good(replies):
                self._take_outbox(server_round, partition, reply)
            self._lose_the_rest()

    def _note_unopened(self, partition: int, reply: Message) -> None:
        """Deliver models again for which a client had no key, as far as the policy wants it."""
        server_round, name = self._phase.server_round, reply.metadata.message_type
        over = server_round == self.config.rounds and name == MessageType.EVALUATE
        for mail in self._letters.unopened(partition, reply):
            waits = self.dispatcher.delivers_again(mail.server_round, mail.sender, partition)
            if waits and not over:
                self._mail.post(partition, mail)
            else:
                reason = f"no key for the model of client {mail.sender}"
                self.observer.failed(server_round, name, partition, reason, REFUSED)

    def _post(self, server_round: int, consignment: Consignment, sealed: Array) -> None:
        transfer = consignment.transfer
        # Where a model took long to come, its receiver may have been evaluated without it.
        self._evaluated.discard(transfer.receiver)
        self._mail.post(transfer.receiver, Mail(server_round, transfer.sender, sealed))
        self._notebook.carried(server_round, transfer)
        share = len(transfer.segments) / self.config.segments or 1.0
        self.dispatcher.sent(consignment, sealed.data, share)
        self.observer.sent(transfer, len(sealed.data), share)

    def _begin(
        self, server_round: int, name: str, chosen: Iterable[int], messages: int, share: float
    ) -> None:
        self._phase = Phase(server_round, self.roster, self.observer, self._patience)
        self._phase.expect(name, chosen)
        self.observer.phase(server_round, name, messages, share)

    def _train_message(
        self, server_round: int, partition: int, mail: list[Mail], config: ConfigRecord
    ) -> Message:
        orders = Orders(
            server_round,
            mail_round=_round_of(mail),
            trains=partition in self._plan.trainers,
            evaluates=self._due(server_round) and partition not in self._receivers,
            clock=self.dispatcher.now,
            outbox=self._parcels(partition),
        )
        return self._letters.write(partition, MessageType.TRAIN, orders, mail, config)

    def _parcels(self, partition: int) -> tuple[Parcel, ...]:
        return self._letters.parcels(self._outgoing.get(partition, []))

    def _reminder(self, server_round: int, partition: int) -> Message:
        """Return an order to send what the client has trained already."""
        outbox = self._parcels(partition)
        orders = Orders(server_round, clock=self.dispatcher.now, outbox=outbox)
        return self._letters.write(partition, MessageType.TRAIN, orders, [], self._flower_config)

    def _evaluate_message(self, server_round: int, partition: int, config: ConfigRecord) -> Message:
        mail = self._mail.take(partition)
        self._known.pop(partition, None)
        self._evaluated.add(partition)
        self._phase.expect("evaluate", [partition])
        orders = Orders(server_round, mail_round=_round_of(mail))
        return self._letters.write(partition, MessageType.EVALUATE, orders, mail, config)


def _by_sender(consigned: Iterable[Consignment]) -> dict[int, list[Consignment]]:
    grouped = groupby(consigned, key=lambda consignment: consignment.transfer.sender)
    return {sender: list(own) for sender, own in grouped}


def _round_of(mail: list[Mail]) -> int:
    return mail[0].server_round if mail else 0
