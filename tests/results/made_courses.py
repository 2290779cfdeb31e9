"""Sweeps of several shapes whose runs have a course: rounds and clients, with made-up numbers."""

from pathlib import Path

from deffd_flower.config import RunConfig
from deffd_flower.results.trials import read_trials
from deffd_flower.results.writer import RunWriter
from tests.results.made_sweeps import write_sweep

BASE = "base: {dataset: digits, clients: 12, rounds: 4, consensus-distance: true}"

SHAPES = {
    "grouped": """
        title: Loss and weight
        grid: {feature-loss: [l2, cos, mse], gamma: [0.01, 0.02, 0.03]}
        seeds: 3
        metrics: [global_accuracy, local_accuracy]
        reference: {feature-loss: l2, gamma: 0.01}
    """,
    "against": """
        title: Loss and weight against Def-KT
        grid:
          cells:
            - strategy: def-kt
            - {feature-loss: [l2, cos, mse], gamma: [0.01, 0.02, 0.03]}
        seeds: 2
        reference: {strategy: def-kt}
    """,
    "along": """
        title: Weight
        grid: {feature-loss: [l2, mse], gamma: [0.001, 0.01, 0.1, 1, 10]}
        seeds: 3
        reference: {gamma: 0.001}
    """,
    "rows": """
        title: Strategies
        grid:
          cells:
            - strategy: [def-fd, def-kt, hand-off, full-avg, combo, local]
            - {strategy: fedavg, suite: none}
        seeds: 3
        metrics: [global_accuracy, worst10_accuracy, key_bits]
        reference: {strategy: def-kt}
    """,
    "panels": """
        title: Three keys
        grid: {feature-loss: [l2, cos, mse], gamma: [0.01, 0.03], classes-per-client: [2, 5, 8]}
        seeds: 2
        reference: {feature-loss: mse}
    """,
    "many": """
        title: Twelve learning rates
        grid: {lr: {from: 0.001, to: 1, steps: 12, log: true}}
        seeds: 2
        reference: {lr: 0.001}
    """,
    "long": """
        title: Costs $5 or $6
        grid:
          eve:
            - ''
            - intercept fraction=0.40 rounds=5-12 links=0-1,0-2,0-3,1-2,1-3
            - intercept fraction=0.25 rounds=1-12 links=0-1,0-2,0-3,1-2,1-3
        seeds: 2
        reference: {eve: ''}
    """,
    "one": """
        title: One run
        seeds: 1
    """,
}
"""Sweep files without their base, by what is special about them."""


def accuracy(config: RunConfig, server_round: int = 4) -> float:
    """Return a run's global accuracy after a round: it depends on the cell, seed and round."""
    gamma = config.gamma if isinstance(config.gamma, float) else 0.0
    gain = {"l2": 0.02, "cos": 0.01}.get(config.feature_loss, 0.0) + gamma / 100
    gain += {"def-kt": 0.03, "fedavg": 0.2}.get(config.strategy, 0.0) + config.lr / 10
    return 0.3 + 0.05 * server_round + gain + 0.02 * config.seed


def outcome(config: RunConfig) -> dict[str, object]:
    """Return the summary of a run."""
    return {
        "global_accuracy": accuracy(config),
        "local_accuracy": accuracy(config) + 0.1,
        "held_accuracy": accuracy(config) + 0.05,
        "absent_accuracy": accuracy(config) - 0.2,
        "worst10_accuracy": accuracy(config) - 0.1,
        "key_bits": spent(config, 4, 1000),
    }


def spent(config: RunConfig, server_round: int, each: int) -> float:
    """Return what a run has spent after a round: FedAvg uses no key, and local sends nothing."""
    models = {"local": 0, "fedavg": 24 if each > 1000 else 0}.get(config.strategy, 6)
    return models * server_round * each


def make_sweep(directory: Path, shape: str) -> Path:
    """Write a sweep of some shape with a run directory for each trial."""
    write_sweep(directory, f"{SHAPES[shape].rstrip()}\n        {BASE}\n", outcome)
    for of_cell in read_trials([directory]).trials:
        for trial in of_cell:
            write_course(trial.directory, trial.config)
    return directory


def write_course(directory: Path, config: RunConfig) -> None:
    """Write the rounds and clients of a run."""
    writer = RunWriter(directory, config.values(), figures=False)
    for server_round in range(1, config.rounds + 1):
        middle = accuracy(config, server_round)
        writer.round_row(
            {
                "round": server_round,
                "global_accuracy": middle,
                "consensus_distance": 3.0 - middle,
                "bytes_sent": spent(config, server_round, 100_000),
                "key_bits": spent(config, server_round, 1000),
            }
        )
        writer.client_rows(
            [
                {"round": server_round, "client": client, "global_accuracy": middle + offset}
                for client, offset in enumerate(offsets(config))
            ]
        )
    writer.finish(outcome(config))


def offsets(config: RunConfig) -> list[float]:
    """Return by how much each client is better than the mean of all."""
    middle = (config.clients - 1) / 2
    return [0.01 * (client - middle) for client in range(config.clients)]
