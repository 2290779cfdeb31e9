"""What a strategy tells the outside while it runs."""

from collections.abc import Mapping

from deffd_flower.strategy.plans import Transfer

Metrics = Mapping[str, float]


class Observer:
    """Hears of everything that happens in a federation; this one does nothing with it."""

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """A phase begins, with so many messages to be answered: this share of the round."""

    def replied(self, partition: int) -> None:
        """A client has answered."""

    def failed(self, server_round: int, name: str, partition: int, reason: str, code: int) -> None:
        """A client's message came to nothing: no reply (code 3) or an error reply."""

    def sent(self, transfer: Transfer, sealed_bytes: int, models: float) -> None:
        """A sealed model, or a part of one, has left its sender."""

    def round_sent(self, server_round: int) -> None:
        """All models of a round are in the mailboxes, and simulated time has passed."""

    def worked(self, server_round: int, partition: int, metrics: Metrics) -> None:
        """A client has fused, trained or evaluated, with these losses and seconds."""

    def evaluated(self, server_round: int, metrics: Mapping[int, Metrics]) -> None:
        """A round has been evaluated; every client's metrics by partition id."""
