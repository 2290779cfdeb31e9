"""The window: few messages in flight, never two at one node."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.server.superlink.linkstate.utils import create_message_error_unavailable_res_message

from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.engine.windowed_grid import WindowedGrid

app = ClientApp()


@app.train()
def echo(message: Message, context: Context) -> Message:
    return Message(message.content, reply_to=message)


class CountingGrid(LocalGrid):
    """Counts what is in flight at each node; answers only when told to."""

    def __init__(self, nodes: int) -> None:
        super().__init__(app, nodes, {})
        self.flying: Counter[int] = Counter()
        self.most_at_once = 0
        self.answering = True

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            self.flying[message.metadata.dst_node_id] += 1
            assert self.flying[message.metadata.dst_node_id] == 1, "two messages at one node"
        self.most_at_once = max(self.most_at_once, self.flying.total())
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if not self.answering:
            return []
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            self.flying[reply.metadata.src_node_id] -= 1
        return replies


def letters(grid: CountingGrid, copies: int = 1) -> Iterator[Message]:
    for _ in range(copies):
        for node_id in grid.get_node_ids():
            yield Message(RecordDict(), node_id, "train")


def test_every_message_is_answered_within_the_window() -> None:
    inner = CountingGrid(50)
    grid = WindowedGrid(inner, window=8)
    replies = list(grid.send_and_receive(letters(inner)))
    assert sorted(r.metadata.src_node_id for r in replies) == sorted(inner.get_node_ids())
    assert inner.most_at_once == 8


def test_messages_are_drawn_only_when_there_is_room() -> None:
    inner = CountingGrid(50)
    drawn = 0

    def counted() -> Iterator[Message]:
        nonlocal drawn
        for message in letters(inner):
            drawn += 1
            yield message

    replies = iter(WindowedGrid(inner, window=5).send_and_receive(counted()))
    next(replies)
    assert drawn == 5


def test_a_node_is_never_given_two_messages_at_once() -> None:
    inner = CountingGrid(3)
    replies = list(WindowedGrid(inner, window=64).send_and_receive(letters(inner, copies=4)))
    assert len(replies) == 12


def test_a_node_that_is_late_gets_nothing_until_it_has_answered() -> None:
    inner = CountingGrid(2)
    grid = WindowedGrid(inner, poll=0.01)
    inner.answering = False
    assert list(grid.send_and_receive(letters(inner), timeout=0.05)) == []
    assert list(grid.send_and_receive(letters(inner), timeout=0.05)) == []
    inner.answering = True
    replies = list(grid.send_and_receive(letters(inner)))
    assert len(replies) == 2, "the late replies are dropped, the new messages answered"
    assert inner.flying.total() == 0


failing = ClientApp()


@failing.train()
def spoil_state_then_raise(message: Message, context: Context) -> Message:
    context.state["spoilt"] = ArrayRecord()
    raise ValueError("boom")


@pytest.mark.parametrize("isolate", [False, True])
def test_a_client_that_raises_keeps_its_state_and_answers_with_an_error(isolate: bool) -> None:
    grid = LocalGrid(failing, 1, {}, isolate)
    (node_id,) = grid.get_node_ids()
    message = Message(RecordDict(), node_id, "train")
    (reply,) = WindowedGrid(grid).send_and_receive([message])
    assert reply.error == Error(2, "ValueError('boom')")
    assert dict(grid.contexts[node_id].state) == {}


def test_messages_that_depend_on_replies_go_out_in_the_same_exchange() -> None:
    inner = CountingGrid(3)
    grid = WindowedGrid(inner, window=8)
    first, second, third = inner.get_node_ids()
    answered: list[int] = []

    def chain_of_letters() -> Iterator[Message | None]:
        yield Message(RecordDict(), first, "train")
        while first not in answered:
            yield None
        yield Message(RecordDict(), second, "train")
        yield Message(RecordDict(), third, "train")

    for reply in grid.send_and_receive(grid.paced(chain_of_letters())):
        answered.append(reply.metadata.src_node_id)
    assert answered == [first, second, third]


class Forsaken(LocalGrid):
    """Its nodes are gone: a SuperLink answers for them, as Flower's does, in its own name."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        sent = [self._pending.pop(message_id) for message_id in message_ids]
        return [
            create_message_error_unavailable_res_message(message.metadata, "node_unavail")
            for message in sent
        ]


def test_a_node_that_is_gone_is_known_by_the_message_it_was_sent() -> None:
    inner = Forsaken(app, 3, {})
    replies = list(
        WindowedGrid(inner).send_and_receive(
            [Message(RecordDict(), node_id, "train") for node_id in inner.get_node_ids()]
        )
    )
    assert {reply.error.code for reply in replies} == {ErrorCode.NODE_UNAVAILABLE}
    assert sorted(r.metadata.src_node_id for r in replies) == sorted(inner.get_node_ids())
