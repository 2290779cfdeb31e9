"""A grid that keeps few messages in flight, and never two at one node."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import cast

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class WindowedGrid(Grid):
    """Streams messages through another grid.

    Flower's simulation runs two messages to one node side by side on copies of its state and
    loses one of the two updates, so a node with a message in flight gets no other: not even
    after a time-out, until its late reply has come. The window bounds memory, and messages are
    drawn from their iterable only when there is room.

    Args:
        grid: The grid that does the work.
        window: Messages in flight at most.
        poll: Seconds between looks for replies, when there were none.
    """

    def __init__(self, grid: Grid, window: int = 64, poll: float = 0.1) -> None:
        self._grid = grid
        self._window = window
        self._poll = poll
        self._late: dict[str, int] = {}

    @property
    def inner(self) -> Grid:
        """The grid that does the work."""
        return self._grid

    def paced(self, messages: Iterable[Message | None]) -> Iterable[Message]:
        """Return messages for `send_and_receive`, which asks again later whenever one is None.

        So messages that depend on replies can go out in the same exchange. While ``None`` comes
        at least one message must be on its way.
        """
        return cast("Iterable[Message]", messages)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yield replies as they come, in no particular order.

        Ends when all have come or ``timeout`` seconds have passed; what was not sent by then is
        dropped, what was not answered is left to be answered late and ignored.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting: Iterator[Message | None] = iter(messages)
        held: deque[Message] = deque()
        flying: dict[str, int] = {}
        while True:
            drawn = self._send(waiting, held, flying)
            if not flying and not held and not drawn:
                return
            replies = self._collect(flying)
            yield from replies
            if deadline is not None and time.monotonic() > deadline:
                break
            if not replies:
                time.sleep(self._poll)
        self._late.update(flying)

    def _send(
        self, waiting: Iterator[Message | None], held: deque[Message], flying: dict[str, int]
    ) -> int:
        """Send what fits: first the messages held back for busy nodes, then new ones.

        Returns:
            How many messages were looked at; a grid may drop those for nodes it does not know.
        """
        busy = {*flying.values(), *self._late.values()}
        room = self._window - len(flying)
        candidates = [*held, *_ready(waiting, room - len(held))]
        held.clear()
        for message in candidates:
            node = message.metadata.dst_node_id
            if node in busy or room == 0:
                held.append(message)
                continue
            busy.add(node)
            room -= 1
            for message_id in self._grid.push_messages([message]):
                flying[message_id] = node
        return len(candidates)

    def _collect(self, flying: dict[str, int]) -> list[Message]:
        arrived = list(self._grid.pull_messages([*flying, *self._late]))
        wanted = []
        for reply in arrived:
            self._late.pop(reply.metadata.reply_to_message_id, None)
            node = flying.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:
                # For a node that is gone, Flower's SuperLink answers in its own name.
                reply.metadata.__dict__["_src_node_id"] = node
                wanted.append(reply)
        return wanted

    def set_run(self, run: Run) -> None:
        """Pass on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The inner grid's run."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Pass on."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Pass on."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on, outside the window."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self._grid.pull_messages(message_ids)


def _ready(waiting: Iterator[Message | None], most: int) -> Iterator[Message]:
    for _ in range(most):
        message = next(waiting, None)
        if message is None:
            return
        yield message
