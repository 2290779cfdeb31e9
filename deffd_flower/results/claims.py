"""What a run guarantees, from what, and what breaks it: its claims table.

A claim goes no further than its weakest part. Integrity is the work of a message authentication
code, not of QKD; QKD notices who touches the quantum channel, and neither who touches Flower's
connections nor who reads a node's memory.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deffd_flower.config import label_counts_shared
from deffd_flower.results.situation import (
    NOT_JUDGED,
    SEALS,
    SIMULATED,
    Holds,
    Situation,
    situation,
    takes_key,
    weakest,
)
from deffd_flower.results.table import count
from deffd_flower.strategy.partners import partners


@dataclass(frozen=True)
class Claim:
    """One row of the claims table.

    Attributes:
        guarantee: What would be guaranteed.
        holds: How far it is; no further than its weakest part.
        source: What it rests on, or why it does not hold.
        breaks: What breaks it.
    """

    guarantee: str
    holds: Holds
    source: str
    breaks: str


def claims(config: Mapping[str, object], summary: Mapping[str, object]) -> list[Claim]:
    """Return a run's claims table.

    Args:
        config: Every config key, resolved.
        summary: The run's summary. What it does not tell, as that of an unfinished run, is taken
            for the worst that the config allows.

    Returns:
        A claim per guarantee, in the order to be shown. None about models where none is ever
        sent, and where the config does not say how one is sealed.
    """
    told = [_PROJECTIONS] if config.get("consensus-distance") else []
    if "suite" not in config or config.get("strategy") == "local":
        return told
    run = situation(config, summary)
    return [*(judge(run) for judge in _JUDGES), *_never(run), *_partners(config), *told]


def _secret_from_the_server(run: Situation) -> Claim:
    guarantee = "Models are secret from the relay server and whoever listens to it"
    return _least(run, guarantee, run.allowed, run.protection)


def _secret_for_good(run: Situation) -> Claim:
    guarantee = "Recorded traffic stays secret from a later quantum computer"
    return _least(run, guarantee, run.used, run.protection)


def _secret_from_nodes(run: Situation) -> Claim:
    guarantee = "Models are secret from trusted nodes that relay keys"
    unseen = run.takes_key and not run.relays and not run.unseen
    before = ["No key has passed a node between its two ends"] * unseen
    return _least(run, guarantee, run.used, run.secrecy_from_nodes, before)


def _unchanged(run: Situation) -> Claim:
    guarantee = "A model changed on its way is refused"
    before = ["The suite's message authentication code (MAC), not QKD"]
    return _least(run, guarantee, run.allowed, run.protection, before)


def _authentic(run: Situation) -> Claim:
    guarantee = "A model comes from the client it names"
    before = ["The key of the MAC, meant for the two clients alone"]
    suite = weakest(run.allowed, run.proof_of_sender)
    if suite == "pqc":
        after = ["ML-KEM does not prove who the sender is"]
        breaks = ["Sealing in another's name: the receiver's public key is enough"]
        return _least(run, guarantee, run.allowed, run.proof_of_sender, after=after, breaks=breaks)
    breaks = run.key_attacks() if takes_key(suite) else run.attacks(suite)
    return _least(run, guarantee, run.allowed, run.proof_of_sender, before, breaks)


def _fresh(run: Situation) -> Claim:
    guarantee = "No model is taken twice"
    before = ["Receivers open a sequence number and a key once, and the MAC covers both"]
    breaks = ["A receiver that loses its memory of what it has opened"]
    suite = weakest(run.allowed, run.protection)
    return _least(run, guarantee, run.allowed, run.protection, before, run.attacks(suite) + breaks)


def _eavesdropping(run: Situation) -> Claim:
    guarantee = "Eavesdropping on the quantum channel is noticed"
    if not run.takes_key:
        silent = "No quantum channel takes part, and on no other does listening leave a trace"
        source = silent if run.suite in SEALS else NOT_JUDGED
        return Claim(guarantee, Holds.NO, _text([source]), "Listening.")
    breaks = [
        "It goes unnoticed on Flower's connections and inside nodes; so little of it that a block"
        " passes counts as noise, and privacy amplification takes away what it gains"
    ]
    if run.simulated:
        blocks = f"Simulated blocks with more than {100 * run.abort_qber:.3g} % errors give no key"
        return Claim(guarantee, Holds.SIMULATED, _text([blocks, SIMULATED]), _text(breaks))
    source = "The QKD devices behind the key managers, block by block; this run sees keys alone."
    breaks.append("Key managers without QKD devices notice nothing")
    return Claim(guarantee, Holds.YES, source, _text(breaks))


def _available(run: Situation) -> Claim:
    parts = ["The server can drop any model"]
    if run.takes_key:
        parts.append("Whoever disturbs a quantum channel stops its key")
    if run.waits > 0:
        parts.append(f"Models that waited for key in this run: {count(run.waits)}")
    if run.skipped > 0:
        parts.append(f"Models not sent for want of key: {count(run.skipped)}")
    return Claim("Models get through", Holds.NO, _text(parts), "The server; Eve; a cut fibre.")


_JUDGES: Sequence[Callable[[Situation], Claim]] = (
    _secret_from_the_server,
    _secret_for_good,
    _secret_from_nodes,
    _unchanged,
    _authentic,
    _fresh,
    _eavesdropping,
    _available,
)


_PROJECTIONS = Claim(
    "The server learns nothing of the weights themselves",
    Holds.NO,
    "Each client tells the server a 64-number projection of its weights with every evaluation "
    "(consensus-distance=true): enough to see how far any two models are apart, and to confirm a "
    "guess of one; too little to work out a model of many more than 64 weights.",
    "Reading along on the server.",
)


def _partners(config: Mapping[str, object]) -> list[Claim]:
    """Return what the server learns of clients so that it can choose partners."""
    name = str(config.get("partner", "random"))
    if name == "random":
        return []
    guarantee = "Choosing partners tells the server nothing that it would not know otherwise"
    if name not in partners.names():
        source = f"{name} is a rule of your own, which this table does not judge."
        return [Claim(guarantee, Holds.NO, source, "Reading along on the server.")]
    rule = partners.get(name)
    source = f"Partners are chosen by partner={name}. {rule.reveals}"
    asked, key_source = config.get("share-label-counts", "auto"), config.get("key-source")
    if rule.nominates and not label_counts_shared(asked, key_source or "embedded"):
        return [Claim(guarantee, Holds.NO, source, "Reading along on the server.")]
    return [Claim(guarantee, Holds.YES, source, "A changed program on the clients.")]


def _never(run: Situation) -> list[Claim]:
    """Return what no suite can give."""
    file = " The secret file gives away all keys." if run.simulated and run.takes_key else ""
    rows = [
        (
            "Who writes to whom, how much and when stays hidden",
            "The server delivers the models: it sees senders, receivers, sizes and times.",
            "Reading along on the server.",
        ),
        (
            "Models are safe where a client is broken into",
            "A client holds its own model and those it receives as they are." + file,
            "Any code that runs as the client.",
        ),
        (
            "Poisoned models are kept out",
            "Sealing says who sent a model at most, never what it has learned.",
            "A client that trains on false data, or sends a false model.",
        ),
        (
            "Received models reveal nothing about data",
            "Receivers get models without differential privacy.",
            "Membership inference and model inversion by a receiver.",
        ),
    ]
    return [Claim(guarantee, Holds.NO, source, breaks) for guarantee, source, breaks in rows]


def _least(
    run: Situation,
    guarantee: str,
    names: Sequence[str],
    judge: Callable[[str], Holds],
    before: Sequence[str] = (),
    breaks: Sequence[str] = (),
    after: Sequence[str] = (),
) -> Claim:
    """Return the claim that the weakest of some suites allows; ``before`` is said if it holds."""
    suite = weakest(names, judge)
    holds = judge(suite)
    source = [*(before if holds is not Holds.NO else ()), *run.basis(suite), *after]
    return Claim(guarantee, holds, _text(source), _text(breaks or run.attacks(suite)))


def _text(parts: Sequence[str]) -> str:
    return " ".join(f"{part}." for part in parts)
