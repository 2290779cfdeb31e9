"""The in-process engine for a GPU: several clients' training in one."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from deffd_flower.ahead import TRAINED, Letter, can_be_trained_ahead, train_ahead
from deffd_flower.config import Value
from deffd_flower.engine.local_grid import LocalGrid

log = logging.getLogger("deffd")


class BatchedGrid(LocalGrid):
    """A `LocalGrid` that looks ahead: it trains the clients of the next messages at once.

    Args:
        client_app: The app every node runs.
        nodes: Number of nodes; node i has ``partition-id`` i.
        run_config: What the app finds in ``context.run_config``.
        most: Clients to train at once.

    Attributes:
        groups: How many clients were trained together, each time.
    """

    def __init__(
        self, client_app: ClientApp, nodes: int, run_config: Mapping[str, Value], most: int
    ) -> None:
        super().__init__(client_app, nodes, run_config)
        self._most = most
        self._learnt: dict[str, ConfigRecord | None] = {}
        self.groups: list[int] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the first client whose reply is asked for; train others with it if it trains."""
        waiting = [each for each in message_ids if each in self._pending]
        if waiting and waiting[0] not in self._learnt:
            self._look_ahead(waiting)
        return super().pull_messages(waiting)

    def _look_ahead(self, waiting: list[str]) -> None:
        if not can_be_trained_ahead(self._pending[waiting[0]]):
            return
        trainable = [each for each in waiting if can_be_trained_ahead(self._pending[each])]
        group = trainable[: self._most]
        letters = [(self._pending[each], self._draft(self._pending[each])) for each in group]
        learnt = self._learn(letters)
        self._learnt |= dict(zip(group, learnt, strict=True))
        self.groups.append(sum(record is not None for record in learnt))

    def _learn(self, letters: Sequence[Letter]) -> Sequence[ConfigRecord | None]:
        try:
            return train_ahead(letters)
        except Exception as problem:  # the clients run into it, too, and answer with it
            log.warning("%d clients train one by one: %s", len(letters), problem)
            return [None] * len(letters)

    def _draft(self, message: Message) -> Context:
        draft = super()._draft(message)
        learnt = self._learnt.pop(message.metadata.message_id, None)
        if learnt is not None:
            draft.state[TRAINED] = learnt
        return draft

    def _deliver(self, message: Message) -> Message:
        reply = super()._deliver(message)
        # A message that was refused has not used what was learnt for it.
        self.contexts[message.metadata.dst_node_id].state.pop(TRAINED, None)
        return reply
