"""A client's sealing desk: its name, its counters and what it has opened before."""

from collections.abc import Sequence

from flwr.app import ConfigRecord, Context

from deffd_flower.request import resolved
from deffd_flower.transport.envelope import Direction, Route
from deffd_flower.transport.keys import KeyMaterial, KeyReference, KeyUnavailable
from deffd_flower.transport.rekeying import KeySchedule, RekeyPolicy
from deffd_flower.transport.replay import ReplayGuard
from deffd_flower.transport.sealing import Expectation, open_sealed, seal
from deffd_flower.transport.suites import suites

_RECORD = "transport"
_GUARD = "replay-guard"
_SCHEDULE = "schedule/"


def sae_id(partition: int) -> str:
    """Return the name under which a client seals and opens (SAE id of ETSI GS QKD 014)."""
    return f"client-{partition}"


class NoKeys:
    """The key source of a federation that seals nothing."""

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        """Refuse."""
        raise KeyUnavailable("this federation has no source of keys")

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        """Refuse."""
        raise KeyUnavailable("this federation has no source of keys")


class Desk:
    """Seals and opens for one client; its state is saved last and whole.

    Args:
        context: Flower's context of the client.
    """

    def __init__(self, context: Context) -> None:
        config = resolved(context.run_config)
        self._run = context.run_id
        self._name = sae_id(int(context.node_config["partition-id"]))
        self._peers = {sae_id(partition) for partition in range(config.clients)} - {self._name}
        self._suite = suites.get(config.suite)
        self._policy = RekeyPolicy()
        self._keys = NoKeys()
        saved = context.state.config_records.get(_RECORD, ConfigRecord())
        self._saved = {name: value for name, value in saved.items() if isinstance(value, bytes)}
        guard = self._saved.get(_GUARD)
        self._guard = ReplayGuard.from_bytes(guard) if guard else ReplayGuard(self._run)

    def open(self, blob: bytes, last_round: int) -> bytes:
        """Return the plaintext of a sealed model.

        Args:
            blob: The envelope as the server handed it on.
            last_round: The newest round it may come from.

        Raises:
            Refused: It was not opened.
        """
        expect = Expectation(
            run=self._run,
            receiver=self._name,
            senders=self._peers,
            direction=Direction.MODEL,
            min_suite=self._suite,
            rounds=range(last_round + 1),
        )
        return open_sealed(blob, expect, self._keys, self._guard).plaintext

    def seal(self, plaintext: bytes, peer: int, server_round: int) -> bytes:
        """Return a model sealed for the peer with this partition id.

        Raises:
            EnvelopeError: The model is too large.
            KeyUnavailable: There is too little key.
        """
        suite, receiver = self._suite(), sae_id(peer)
        schedule = self._schedule(receiver)
        sequence, key = schedule.next_message(suite, len(plaintext), 0.0, self._keys)
        self._saved[_SCHEDULE + receiver] = schedule.to_bytes()
        route = Route(self._run, self._name, receiver, Direction.MODEL, server_round, sequence)
        return seal(suite, route, plaintext, key)

    def save(self, context: Context) -> None:
        """Write counters and replay window into the client's state."""
        context.state[_RECORD] = ConfigRecord({**self._saved, _GUARD: self._guard.to_bytes()})

    def _schedule(self, receiver: str) -> KeySchedule:
        saved = self._saved.get(_SCHEDULE + receiver)
        if saved is None:
            return KeySchedule(receiver, self._policy)
        return KeySchedule.from_bytes(saved, receiver, self._policy)
