"""A client's sealing desk: its name, its keys, its counters and what it has opened before."""

from functools import cached_property

from flwr.app import ConfigRecord, Context

from deffd_flower.config import RunConfig
from deffd_flower.qkd.embedded import EmbeddedKeySource, load_secret, secret_file
from deffd_flower.request import resolved
from deffd_flower.strategy.orders import Parcel
from deffd_flower.transport.envelope import Direction, Route
from deffd_flower.transport.identity import SharedSecretIdentity
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

_RECORD, _SAE = "transport", "client-"
_GUARD, _KEPT, _SPENT, _OVER = "replay-guard", "kept-keys", "spent-keys", "run-over"
_KEM_PRIVATE, _SCHEDULE = "kem-private", "schedule/"


def sae_id(partition: int) -> str:
    """Return the name under which a client seals and opens (SAE id of ETSI GS QKD 014)."""
    return f"{_SAE}{partition}"


def sent_order(opened: Opened) -> tuple[int, int, int]:
    """Return what mail is sorted by: round, sender's partition id, and which of its messages.

    All three are authenticated, so that the order in which mail was carried changes nothing.
    """
    route = opened.header.route
    return route.round, int(route.sender.removeprefix(_SAE)), route.sequence


class Desk:
    """Seals and opens for one client; its state is saved last and whole.

    Args:
        context: Flower's context of the client. A ``min-suite`` in its node config is the node's
            own floor, below which no run config can go.

    Raises:
        RequestError: There is no such suite.
        Refused: The client has left this run.
    """

    def __init__(self, context: Context) -> None:
        config = resolved(context.run_config)
        self._run = context.run_id
        self._name = sae_id(int(context.node_config["partition-id"]))
        self._peers = {sae_id(partition) for partition in range(config.clients)} - {self._name}
        self._floor = _floor(config, str(context.node_config.get("min-suite", "")))
        self._policy = RekeyPolicy(config.rekey_messages, config.rekey_bytes, config.rekey_seconds)
        record = context.state.config_records.get(_RECORD, ConfigRecord())
        self._saved = {name: value for name, value in record.items() if isinstance(value, bytes)}
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
        """Draw an ML-KEM key pair for this run; return the public key with its proof."""
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
            suite, len(plaintext), clock, self._keys, parcel.references
        )
        self._saved[_SCHEDULE + receiver] = schedule.to_bytes()
        self._changed = True
        route = Route(self._run, self._name, receiver, Direction.MODEL, server_round, sequence)
        return seal(suite, route, plaintext, key, parcel.kem_public or None)

    def save(self, context: Context) -> None:
        """Write what has changed into the client's state, if anything has."""
        if self._changed:
            states = {
                _GUARD: self._guard.to_bytes(),
                _KEPT: self._kept.to_bytes(),
                _SPENT: self._spent.to_bytes(),
            }
            context.state[_RECORD] = ConfigRecord({**self._saved, **states})

    @staticmethod
    def close(context: Context) -> None:
        """Forget all secrets, and that for good: a client that could be made to start the run anew
        would take old messages for new ones, and seal under keys it has used."""
        context.state[_RECORD] = ConfigRecord({_OVER: b"\1"})

    @cached_property
    def _secret(self) -> bytes:
        return load_secret(secret_file())

    @cached_property
    def _keys(self) -> KeySource:
        return EmbeddedKeySource(self._name, self._run, self._secret)

    @cached_property
    def _identity(self) -> SharedSecretIdentity:
        return SharedSecretIdentity(self._secret, self._run)

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
