"""What can go wrong with a sealed message, and how it is named."""

from enum import StrEnum

from deffd_flower.errors import DeffdError


class EnvelopeError(DeffdError):
    """These bytes are no envelope, or these fields do not fit in one."""


class KeyUnavailable(DeffdError):  # noqa: N818 - a state of the link, not a mistake
    """There is no such key, no more of it, or it has been used. Never names key bits."""


class NoKeyNow(KeyUnavailable):
    """The link is starved, or its key manager silent: later there may be key."""


class Reason(StrEnum):
    """Why a message was refused; short enough to count and to put in a table."""

    MALFORMED = "malformed"
    WRONG_RUN = "wrong-run"
    RUN_OVER = "run-over"
    STATE_LOST = "state-lost"
    REFLECTED = "reflected"
    WRONG_RECEIVER = "wrong-receiver"
    UNKNOWN_SENDER = "unknown-sender"
    WRONG_DIRECTION = "wrong-direction"
    WRONG_ROUND = "wrong-round"
    UNKNOWN_SUITE = "unknown-suite"
    DOWNGRADED = "downgraded"
    REPLAYED = "replayed"
    KEY_REUSED = "key-reused"
    NO_KEY = "no-key"
    TAMPERED = "tampered"


class Refused(DeffdError):  # noqa: N818 - an outcome the receiver counts, not a mistake
    """A received message was not opened.

    The text holds the reason and nothing of the message: what a stranger wrote has no place in
    a log, and key and plaintext bytes have none in an exception.

    Args:
        reason: Why.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(f"message refused: {reason}")
