"""Run directories with made-up accuracies but real key: pools, grants, seals and ledger."""

from pathlib import Path

from deffd_flower.config import RunConfig, parse
from deffd_flower.progress import LineProgress
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.results.recorder import Recorder
from deffd_flower.results.writer import RunWriter
from deffd_flower.strategy.dispatch import Consignment, Dispatcher
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import pairs
from deffd_flower.strategy.roster import Member, Roster
from deffd_flower.strategy.topology import topology
from deffd_flower.transport.envelope import Direction, Route
from deffd_flower.transport.kem import generate_kem_keypair
from deffd_flower.transport.keys import KeyMaterial
from deffd_flower.transport.sealing import seal
from deffd_flower.transport.suites import suites

KEM_PUBLIC = generate_kem_keypair(bytes(64)).public

INTERCEPTED: dict[str, object] = {
    "clients": 10,
    "rounds": 12,
    "suite": "otp",
    "link": "idq-class",
    "eve": "intercept fraction=0.5 rounds=5-8",
    "head-start-s": 600,
    "round-compute-s": 120,
}
"""One-time pads over 2 kb/s links; Eve listens in rounds 5 to 8, and the links run dry."""

DEGRADED: dict[str, object] = {
    "clients": 6,
    "rounds": 4,
    "suite": "otp",
    "min-suite": "pqc",
    "on-starved": "degrade",
    "qkd-network": "metro-ring",
    "link": "trieste",
    "head-start-s": 0,
}
"""A ring of six trusted nodes, at first with too little key for AES, later for most pads."""


def write_sealed_run(
    directory: Path, keys: dict[str, object], model_bytes: int = 97_000, *, finish: bool = True
) -> Path:
    """Write the run directory of a federation whose models have so many bytes."""
    config = parse(keys)
    graph, controller = topology(config), controller_of(config, directory / "keys.csv")
    sizes = dict.fromkeys(range(config.clients), model_bytes)
    dispatcher = Dispatcher(config, graph, controller, sizes)
    recorder = _recorder(directory, config, dispatcher)
    for server_round in range(1, config.rounds + 1):
        plan = pairs(Knowledge(config, graph, server_round))
        for consignment in dispatcher.begin_round(server_round, plan):
            blob = _sealed(consignment, server_round, model_bytes)
            dispatcher.sent(consignment, blob, 1.0)
            recorder.sent(consignment.transfer, len(blob), 1.0)
        dispatcher.end_round()
        recorder.round_sent(server_round)
        answers = {client: _metrics(server_round, client) for client in range(config.clients)}
        recorder.evaluated(server_round, answers)
    if finish:
        controller.close()
        recorder.finish(["00"] * config.clients)
    return directory


def _recorder(directory: Path, config: RunConfig, dispatcher: Dispatcher) -> Recorder:
    members = [
        Member(n, n, 480, 120, 10_000, 97_000, [48] * 10, KEM_PUBLIC, b"")
        for n in range(config.clients)
    ]
    writer = RunWriter(directory, config.values())
    return Recorder(writer, config, Roster(members), dispatcher, LineProgress(), "in-process")


def _metrics(server_round: int, client: int) -> dict[str, float]:
    accuracy = 0.9 - 0.6 / (1 + server_round / 3) + 0.02 * (client % 5 - 2)
    return {
        "global_accuracy": accuracy,
        "local_accuracy": accuracy + 0.06,
        "local_accuracy_prior": accuracy + 0.07,
        "held_accuracy": accuracy + 0.03,
        "absent_accuracy": accuracy - 0.1,
        "compute-s": 0.5,
    }


def _sealed(consignment: Consignment, server_round: int, model_bytes: int) -> bytes:
    suite = suites.get(consignment.suite)()
    transfer = consignment.transfer
    sender, receiver = f"client-{transfer.sender}", f"client-{transfer.receiver}"
    route = Route(1, sender, receiver, Direction.MODEL, server_round, 0)
    key = KeyMaterial(consignment.references, bytes(suite.key_bits(model_bytes) // 8))
    return seal(suite, route, bytes(model_bytes), key, KEM_PUBLIC)
