"""The same ServerApp and ClientApp in one process, without Ray.

Uses two of Flower's non-public names: `Run`, which every grid has, and `TaskIdentity`, from which
`Message` takes the ids of its sender.
"""

import pickle
import secrets
from collections.abc import Iterable, Mapping
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from deffd_flower.config import Value
from deffd_flower.randomness import derived_seed

APP_RAISED = 2


class LocalGrid(Grid):
    """Delivers messages to a ClientApp by calling it.

    A client runs when its reply is pulled, one at a time. As on Flower's own engines, its state
    changes only if the app returns; an exception becomes an error reply.

    Args:
        client_app: The app every node runs.
        nodes: Number of nodes; node i has ``partition-id`` i.
        run_config: What the app finds in ``context.run_config``.
        isolate: Pickle everything that crosses between server and client, as Ray does, so that
            neither can hold on to the other's objects.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        run_config: Mapping[str, Value],
        isolate: bool = False,
    ) -> None:
        self._app = client_app
        self._isolate = isolate
        # As on Flower's engines no two runs share an id, because keys are bound to it.
        self._run = Run.create_empty(secrets.randbits(63))
        self._pending: dict[str, Message] = {}
        self.contexts: dict[int, Context] = {}
        for partition in range(nodes):
            node_id = derived_seed(self._run.run_id, "node-id", partition)
            node_config: dict[str, Value] = {"partition-id": partition, "num-partitions": nodes}
            self.contexts[node_id] = Context(
                self._run.run_id, node_id, node_config, RecordDict(), dict(run_config)
            )
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = (
            self._run.run_id,
            SUPERLINK_NODE_ID,
            0,
        )

    def set_run(self, run: Run) -> None:
        """Take over another run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this grid serves."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message, as the `Message` constructor does."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes: numbers without meaning, as elsewhere."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; the clients run when their replies are pulled."""
        ids = []
        for message in messages:
            message_id = str(uuid4())
            message.metadata.__dict__["_message_id"] = message_id
            self._pending[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the first client whose reply is asked for, and return that reply."""
        for message_id in message_ids:
            message = self._pending.pop(message_id, None)
            if message is not None:
                return [self._deliver(message)]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Yield each message's reply in turn; nothing takes time that a time-out could bound."""
        for message in messages:
            yield from self.pull_messages(self.push_messages([message]))

    def _draft(self, message: Message) -> Context:
        """Return a copy of the receiver's context, for the app to change."""
        context = self.contexts[message.metadata.dst_node_id]
        return Context(
            context.run_id,
            context.node_id,
            dict(context.node_config),
            RecordDict(dict(context.state)),
            dict(context.run_config),
        )

    def _deliver(self, message: Message) -> Message:
        letter = (message, self._draft(message))
        answer: tuple[Message, RecordDict]
        try:
            if self._isolate:
                answer = called(self._app, *pickle.loads(pickle.dumps(letter)))
                answer = pickle.loads(pickle.dumps(answer))
            else:
                answer = called(self._app, *letter)
        except Exception as problem:
            return Message(Error(APP_RAISED, repr(problem)), reply_to=message)
        reply, self.contexts[message.metadata.dst_node_id].state = answer
        return reply


def called(app: ClientApp, message: Message, context: Context) -> tuple[Message, RecordDict]:
    """Call an app; return its reply and the state it leaves."""
    reply = app(message, context)
    return reply, context.state


def run_local(
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: int,
    run_config: Mapping[str, Value],
    isolate: bool = False,
) -> None:
    """Run any ServerApp with any ClientApp on a `LocalGrid`."""
    grid = LocalGrid(client_app, nodes, run_config, isolate)
    server_app(
        grid, Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), dict(run_config))
    )
