"""What decides about a run's claims: its suites, where its keys come from, and who has seen them.

The server says which suite seals a model, and a receiver opens every suite from ``min-suite`` up:
against the server the weakest suite let in counts, against those who only listen the weakest that
sealed a model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deffd_flower.results.table import number
from deffd_flower.transport.suites import suites


class Holds(StrEnum):
    """How far a guarantee holds, the least first."""

    NO = "no"
    SIMULATED = "simulated"
    COMPUTATIONAL = "computational"
    INFORMATION_THEORETIC = "information-theoretic"
    YES = "yes"


SEALS = {
    "otp": "A one-time pad and one-time Poly1305 keys, both from QKD",
    "aes": "AES-256-GCM under QKD keys",
    "hybrid": "AES-256-GCM under a QKD and an ML-KEM-768 key, of which one has to hold",
    "pqc": "AES-256-GCM under ML-KEM-768 keys, without QKD",
    "none": "Nothing: models travel as they are, and TLS, where Flower has it, ends at the server",
}
"""What each suite of this package rests on. Others are not judged: nothing is claimed for them."""

CIPHER_ATTACKS = {
    "otp": [],
    "aes": ["An attack on AES-256"],
    "hybrid": ["An attack on AES-256, or on both keys"],
    "pqc": ["An attack on ML-KEM-768 or AES-256", "A public key in another client's name"],
}
UNSEEN = "Which trusted nodes relay keys between the key managers, a run cannot see"
SIMULATED = "The QKD keys are simulated (key-source=embedded)"
NOT_JUDGED = "A suite of your own, which this table does not judge"
FEDAVG = "FedAvg's server averages the models, so it has to read them: nothing is sealed"
NODES_NAMED = 4


@dataclass(frozen=True)
class Situation:
    """What decides about the claims.

    Attributes:
        suite: The one the run wants.
        allowed: Those that a receiver opens, up to that one.
        used: Those that have sealed models.
        central: Whether the server works on the models.
        simulated: Whether the QKD keys are.
        relays: Trusted nodes that have seen keys, in words; empty for none.
        unseen: Whether there may be such nodes of which the run knows nothing.
        eavesdropped: Whether Eve has read keys at a node.
        abort_qber: The error rate above which a block is thrown away.
        skipped: Models not sent for want of key.
        waits: Models that waited for key.
    """

    suite: str
    allowed: Sequence[str]
    used: Sequence[str]
    central: bool
    simulated: bool
    relays: str
    unseen: bool
    eavesdropped: bool
    abort_qber: float
    skipped: float
    waits: float

    @property
    def takes_key(self) -> bool:
        """Whether QKD takes part."""
        return any(map(takes_key, self.allowed))

    def protection(self, suite: str) -> Holds:
        """Return how well a suite's message key is kept, and so what it encrypts and tags."""
        if suite not in CIPHER_ATTACKS:
            return Holds.NO
        return Holds.COMPUTATIONAL if suites.get(suite).uses_kem else self._key_secrecy(suite)

    def proof_of_sender(self, suite: str) -> Holds:
        """Return how well a suite tells its sender, which takes a key that two clients share."""
        return self._key_secrecy(suite) if takes_key(suite) else Holds.NO

    def secrecy_from_nodes(self, suite: str) -> Holds:
        """Return how well a suite keeps a model from the nodes between the two clients."""
        if suite not in CIPHER_ATTACKS or suites.get(suite).uses_kem:
            return self.protection(suite)
        if self.relays or self.unseen or self.eavesdropped:
            return Holds.NO
        return Holds.SIMULATED if self.simulated else Holds.YES

    def basis(self, suite: str) -> list[str]:
        """Return what a suite rests on, and what this run takes away from that."""
        if self.central:
            return [FEDAVG]
        parts = [SEALS.get(suite, NOT_JUDGED)]
        if suite != self.suite:
            parts.append(f"The run wants {self.suite}, and min-suite lets {suite} in")
        if takes_key(suite):
            parts += [SIMULATED] * self.simulated
            parts += [f"Trusted nodes have seen QKD keys: {self.relays}"] if self.relays else []
            parts += [UNSEEN] * self.unseen
            parts += ["Eve has read QKD keys at a node"] * self.eavesdropped
        return parts

    def attacks(self, suite: str) -> list[str]:
        """Return what breaks a suite's protection."""
        if suite not in CIPHER_ATTACKS:
            return ["Whoever carries a model can do it"]
        return CIPHER_ATTACKS[suite] + ([] if suites.get(suite).uses_kem else self.key_attacks())

    def key_attacks(self) -> list[str]:
        """Return how others come by the QKD keys of this run."""
        relayed = self.relays or self.unseen
        nodes = ["A trusted node that keeps what it sees"] if relayed else []
        nodes += ["Eve, with the keys she has read"] * self.eavesdropped
        if self.simulated:
            return ["Reading the clients' secret file", *nodes]
        return ["QKD devices or key managers that are not what they claim", *nodes]

    def _key_secrecy(self, suite: str) -> Holds:
        if self.eavesdropped:
            return Holds.NO
        if self.simulated:
            return Holds.SIMULATED
        once = suite == "otp" and not self.relays and not self.unseen
        return Holds.INFORMATION_THEORETIC if once else Holds.COMPUTATIONAL


def situation(config: Mapping[str, object], summary: Mapping[str, object]) -> Situation:
    """Return the situation of a run; what the summary leaves open is taken for the worst."""
    central = config.get("strategy") == "fedavg"
    suite = "none" if central else str(config["suite"])
    allowed = _allowed(suite, "" if central else str(config.get("min-suite", "")))
    sealed = summary.get("models_by_suite")
    used = list(map(str, sealed)) if isinstance(sealed, dict) and not central else []
    compromised = summary.get("compromised")
    attacks = str(config.get("eve", "")).replace(";", " ").split()
    return Situation(
        suite=suite,
        allowed=[*allowed, *used],
        used=used or allowed,
        central=central,
        simulated=config.get("key-source") != "etsi014",
        relays=_relays(config, summary),
        unseen=config.get("key-source") == "etsi014" and summary.get("relayed") is None,
        eavesdropped=bool("compromise" in attacks if compromised is None else compromised),
        abort_qber=number(config.get("abort-qber")),
        skipped=number(summary.get("skipped")),
        waits=number(summary.get("waits")),
    )


def takes_key(suite: str) -> bool:
    """Say whether a suite of this package takes QKD key."""
    return suite in CIPHER_ATTACKS and suites.get(suite)().key_bits(1) > 0


def weakest(names: Iterable[str], judge: Callable[[str], Holds]) -> str:
    """Return the suite for which least holds."""
    ranks = list(Holds)
    return min(names, key=lambda name: ranks.index(judge(name)))


def _allowed(suite: str, least: str) -> list[str]:
    strengths = {name: suites.get(name).strength for name in SEALS}
    least = least or suite
    if suite not in strengths or least not in strengths:
        return [suite, least]
    weaker = [name for name in SEALS if strengths[least] <= strengths[name] < strengths[suite]]
    return [suite, *weaker]


def _relays(config: Mapping[str, object], summary: Mapping[str, object]) -> str:
    relayed = summary.get("relayed", config.get("qkd-network") != "direct")
    nodes = summary.get("exposed_nodes")
    names = list(map(str, nodes)) if isinstance(nodes, list) else []
    if not relayed and not names:
        return ""
    if len(names) > NODES_NAMED:
        return f"{len(names)} of them"
    return ", ".join(names) or "those on the way"
