"""A client's sealing desk: its name, its keys, its counters and what it has opened before."""

from collections.abc import Container
from functools import cached_property, lru_cache

from flwr.app import ConfigRecord, Context

from deffd_flower.config import RunConfig
from deffd_flower.node import partition_id
from deffd_flower.request import resolved
from deffd_flower.strategy.orders import Parcel
from deffd_flower.transport.envelope import Direction, Route
from deffd_flower.transport.identity import Identity
from deffd_flower.transport.kem import generate_kem_keypair
from deffd_flower.transport.kept_keys import KeptKeys
from deffd_flower.transport.keys import KeySource
from deffd_flower.transport.refusal import Reason, Refused
from deffd_flower.transport.rekeying import KeySchedule, RekeyPolicy
from deffd_flower.transport.replay import ReplayGuard
from deffd_flower.transport.sealing import Expectation, Opened, open_sealed, seal
from deffd_flower.transport.spent_keys import SpentKeys
from deffd_flower.transport.suite import Suite
from deffd_flower.transport.suites import suites
from deffd_flower.transport.supply import partition_of, sae_id, supply_of

__all__ = ["Desk", "sae_id", "sent_order"]

_GUARD, _KEPT, _SPENT, _OVER = "replay-guard", "kept-keys", "spent-keys", "run-over"
_KEM_PRIVATE, _SCHEDULE = "kem-private", "schedule/"


def sent_order(opened: Opened) -> tuple[int, int, int]:
    """Return what mail is sorted by: round, sender's partition id, and which of its messages.

    All three are authenticated, so that the order in which mail was carried changes nothing.
    """
    route = opened.header.route
    return route.round, partition_of(route.sender), route.sequence


class _Peers(Container[str]):
    """The names of all clients but one; making a set of them for every message would tell."""

    def __init__(self, clients: int, name: str) -> None:
        self._clients = clients
        self._name = name

    def __contains__(self, name: object) -> bool:
        return name != self._name and name in _names(self._clients)


@lru_cache(maxsize=4)
def _names(clients: int) -> frozenset[str]:
    return frozenset(sae_id(partition) for partition in range(clients))


class Desk:
    """Seals and opens for one client; its state is saved last and whole.

    Args:
        context: Flower's context of the client. A ``min-suite`` in its node config is the node's
            own floor, below which no run config can go.

    Raises:
        RequestError: There is no such suite, or the node is not set up for the run's keys.
        Refused: The client has left this run, or lost its state.
    """

    def __init__(self, context: Context) -> None:
        config = resolved(context.run_config)
        partition = partition_id(context.node_config, config.clients)
        self._run = context.run_id
        self._name = sae_id(partition)
        self._peers = _Peers(config.clients, self._name)
        self._floor = _floor(config, str(context.node_config.get("min-suite", "")))
        self._policy = RekeyPolicy(config.rekey_messages, config.rekey_bytes, config.rekey_seconds)
        self._supply = supply_of(context, config, partition)
        self._saved = self._supply.memory.read()
        if _OVER in self._saved:
            raise Refused(Reason.RUN_OVER)
        self._changed = False
        guard, kept = self._saved.get(_GUARD), self._saved.get(_KEPT)
        self._guard = ReplayGuard.from_bytes(guard) if guard else ReplayGuard(self._run)
        self._kept = KeptKeys.from_bytes(kept, self._policy) if kept else KeptKeys(self._policy)
        self._spent = SpentKeys(self._saved.get(_SPENT, b""))

    @property
    def takes_plaintext(self) -> bool:
        """Whether models may travel unsealed, because the floor is the suite ``none``."""
        return self._floor is suites.get("none")

    def introduce(self) -> ConfigRecord:
        """Draw an ML-KEM key pair for this run; return the public key with its proof.

        Raises:
            DeffdError: The client would not get keys.
        """
        self._supply.check()
        pair = generate_kem_keypair()
        self._saved[_KEM_PRIVATE] = pair.private
        self._changed = True
        proof = self._identity.prove(self._name, pair.public)
        return ConfigRecord({"kem-public": pair.public, "kem-proof": proof})

    def open(self, blob: bytes, last_round: int) -> Opened:
        """Return a sealed model with its header.

        Args:
            blob: The envelope as the server handed it on.
            last_round: The newest round it may come from.

        Raises:
            NoKeyNow: Its key cannot be had; it may be later.
            Refused: It was not opened.
        """
        expect = Expectation(
            run=self._run,
            receiver=self._name,
            senders=self._peers,
            direction=Direction.MODEL,
            min_suite=self._floor,
            rounds=range(last_round + 1),
        )
        private = self._saved.get(_KEM_PRIVATE)
        opened = open_sealed(blob, expect, self._keys, self._guard, private, self._kept)
        self._changed = True
        return opened

    def seal(self, plaintext: bytes, parcel: Parcel, server_round: int, clock: float) -> bytes:
        """Return a model sealed as the parcel says.

        Raises:
            Refused: The server asks for a suite below the floor, or for one that is not there.
            EnvelopeError: The model is too large, or is to go to the client itself.
            NoKeyNow: There is too little key; there may be more later.
            KeyUnavailable: There is too little key, it has been granted before, or the receiver's
                ML-KEM key is not proven.
        """
        # A name that is not known yet may be a module's, and the server is not to have it imported.
        if parcel.suite not in suites.names():
            raise Refused(Reason.UNKNOWN_SUITE)
        suite, receiver = suites.get(parcel.suite)(), sae_id(parcel.receiver)
        if suite.strength < self._floor.strength:
            raise Refused(Reason.DOWNGRADED)
        self._spent.spend(parcel.references)
        if suite.uses_kem:
            self._identity.check(receiver, parcel.kem_public, parcel.kem_proof)
        schedule = self._schedule(receiver)
        sequence, key = schedule.next_message(
            suite, len(plaintext), self._supply.now(clock), self._keys, parcel.references
        )
        self._saved[_SCHEDULE + receiver] = schedule.to_bytes()
        self._changed = True
        route = Route(self._run, self._name, receiver, Direction.MODEL, server_round, sequence)
        return seal(suite, route, plaintext, key, parcel.kem_public or None)

    def save(self) -> None:
        """Write what has changed into the client's memory, if anything has."""
        if self._changed:
            states = {
                _GUARD: self._guard.to_bytes(),
                _KEPT: self._kept.to_bytes(),
                _SPENT: self._spent.to_bytes(),
            }
            self._supply.memory.write({**self._saved, **states})

    def close(self) -> None:
        """Forget all secrets, and that for good: a client that could be made to start the run anew
        would take old messages for new ones, and seal under keys it has used."""
        self._supply.memory.write({_OVER: b"\1"})

    @cached_property
    def _keys(self) -> KeySource:
        return self._supply.keys(self._spent)

    @property
    def _identity(self) -> Identity:
        return self._supply.identity

    def _schedule(self, receiver: str) -> KeySchedule:
        saved = self._saved.get(_SCHEDULE + receiver)
        if saved is None:
            return KeySchedule(receiver, self._policy)
        return KeySchedule.from_bytes(saved, receiver, self._policy)


def _floor(config: RunConfig, own: str) -> type[Suite]:
    """Return the weakest suite this client takes: the run's floor, or its node's if higher."""
    floors = [suites.get(config.min_suite or config.suite)]
    if own:
        floors.append(suites.get(own))
    return max(floors, key=lambda suite: suite.strength)
