"""A relay that shows clients messages nobody has written, and notes what they make of them."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from flwr.app import Error, Message

from deffd_flower.engine.local_grid import LocalGrid
from tests.security.relay import (
    DROPPED,
    Knowledge,
    Relay,
    copy_of,
    error_reply,
    fingerprint,
    letters_of,
    orders_of,
)


class Forgery(NamedTuple):
    """A message nobody has written."""

    name: str
    message: Message


class Verdict(NamedTuple):
    """What a client made of a forgery."""

    name: str
    code: int | None
    reason: str
    untouched: bool


class Scene(NamedTuple):
    """The moment before a message is delivered."""

    message: Message
    receiver: int
    knowledge: Knowledge


Forge = Callable[[Scene], Iterator[Forgery]]
Target = Callable[[Message], bool]


def nothing(scene: Scene) -> Iterator[Forgery]:
    yield from ()


class Cheat(Relay):
    """Shows one client in each phase forgeries: before its true message, after it or instead of it.

    Args:
        inner: Where the clients are.
        target: The messages worth an attack; the first of each phase is attacked.
        forge: Makes the forgeries. With `nothing` and ``instead``, the message is just dropped.
        when: ``before`` the true message; ``after`` it; or ``instead`` of it, when the ServerApp
            gets the client's last refusal for an answer.
    """

    def __init__(
        self,
        inner: LocalGrid,
        target: Target,
        forge: Forge,
        when: Literal["before", "after", "instead"],
    ) -> None:
        super().__init__(inner)
        self.verdicts: list[Verdict] = []
        self.struck: set[tuple[str, str]] = set()
        self._target = target
        self._forge = forge
        self._when = when

    def carry(self, message: Message) -> Message:
        phase = message.metadata.message_type, message.metadata.group_id
        if phase in self.struck or not self._target(message):
            return self.deliver(message)
        self.struck.add(phase)
        scene = Scene(copy_of(message), self.partition(message), self.knowledge)
        if self._when == "after":
            reply = self.deliver(message)
            self._try_all(scene)
            return reply
        refusal = self._try_all(scene)
        return self.deliver(message) if self._when == "before" else error_reply(refusal, message)

    def _try_all(self, scene: Scene) -> Error:
        refusal = Error(DROPPED, "dropped")
        for forgery in self._forge(scene):
            before = fingerprint(self.context(scene.message))
            reply = self.deliver(forgery.message)
            untouched = fingerprint(self.context(scene.message)) == before
            if reply.has_error():
                refusal = reply.error
                verdict = Verdict(forgery.name, refusal.code, refusal.reason or "", untouched)
            else:
                verdict = Verdict(forgery.name, None, "", untouched)
            self.verdicts.append(verdict)
        return refusal


def has_mail(message_type: str) -> Target:
    """Return whether a message of this type carries sealed models."""
    return lambda message: (
        message.metadata.message_type == message_type and bool(letters_of(message, "inbox"))
    )


def has_parcels(message: Message) -> bool:
    """Say whether a message orders its receiver to send models."""
    orders = orders_of(message)
    return orders is not None and bool(orders.outbox)
