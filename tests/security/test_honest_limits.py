"""What a relay can do that sealing does not prevent: dropping and delaying, but not reordering."""

import pytest
from flwr.app import ArrayRecord, Message

from deffd_flower.transport.desk import sae_id
from tests.security.conftest import Federation, Honest, Outcome
from tests.security.relay import (
    Letter,
    Relay,
    copy_of,
    letters_of,
    orders_of,
    with_inbox,
)

SUITES = ["aes", "otp", "hybrid", "pqc"]


class Reordering(Relay):
    """Hands out the mail of each inbox from the last to the first."""

    reordered = 0

    def carry(self, message: Message) -> Message:
        letters = letters_of(message, "inbox")
        if len(letters) > 1:
            self.reordered += 1
            message = with_inbox(message, *(letter.blob for letter in reversed(letters)))
        return self.deliver(message)


@pytest.mark.parametrize("suite", SUITES)
def test_the_order_in_which_mail_lies_in_an_inbox_changes_no_weight(
    suite: str, federation: Federation
) -> None:
    keys = {"strategy": "combo", "clients": 6, "segment_peers": 3, "rounds": 2, "suite": suite}
    straight = federation(Relay, **keys)
    reordered: Outcome[Reordering] = federation(Reordering, **keys)
    assert reordered.relay.reordered >= 3
    assert reordered.summary["failures"] == 0
    assert reordered.state == straight.state


class Emptying(Relay):
    """Delivers every message without the mail that was in it."""

    def carry(self, message: Message) -> Message:
        if letters_of(message, "inbox"):
            message = copy_of(message, inbox=ArrayRecord())
        return self.deliver(message)


@pytest.mark.parametrize("suite", SUITES)
def test_emptied_inboxes_leave_what_each_client_has_learnt_by_itself(
    suite: str, federation: Federation
) -> None:
    emptied, alone = federation(Emptying, suite=suite), federation(Relay, strategy="local")
    assert emptied.summary["failures"] == 0
    assert emptied.summary["models_sent"] == 8
    assert emptied.state == alone.state


class Delaying(Relay):
    """Holds back the first mail, and delivers it with the receiver's next message."""

    held: Letter | None = None
    late = False

    def carry(self, message: Message) -> Message:
        letters = letters_of(message, "inbox")
        if letters and self.held is None:
            (self.held,) = letters
            message = copy_of(message, inbox=ArrayRecord())
        elif self.held and not self.late and self._is_for(self.held, message):
            self.late = True
            blobs = [self.held.blob, *(letter.blob for letter in letters)]
            message = with_inbox(message, *blobs)
        return self.deliver(message)

    def _is_for(self, letter: Letter, message: Message) -> bool:
        receiver = letter.header.route.receiver
        return orders_of(message) is not None and receiver == sae_id(self.partition(message))


@pytest.mark.parametrize("suite", SUITES)
def test_late_mail_is_opened(suite: str, federation: Federation, honest: Honest) -> None:
    delayed: Outcome[Delaying] = federation(Delaying, suite=suite)
    assert delayed.relay.late
    assert delayed.summary["failures"] == 0
    assert delayed.state != honest(suite).state
