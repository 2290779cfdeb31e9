"""Adds up what a strategy reports, and writes it down round by round."""

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from statistics import fmean

from deffd_flower import __version__
from deffd_flower.config import RunConfig
from deffd_flower.consensus import consensus_distance
from deffd_flower.errors import DeffdError
from deffd_flower.progress import Progress
from deffd_flower.qkd.grant import Level
from deffd_flower.results.accuracy import ACCURACIES, Reached, accuracies, mean
from deffd_flower.results.table import LEFT_OVER, SET_ASIDE
from deffd_flower.results.traffic import TrafficLog
from deffd_flower.results.writer import RunWriter
from deffd_flower.strategy.consignment import BaseDispatcher
from deffd_flower.strategy.observer import Metrics, Observer
from deffd_flower.strategy.plans import Transfer
from deffd_flower.strategy.roster import Roster

log = logging.getLogger("deffd")

REFUSED = 100
TERMS = ("train", "ce", "kl", "feature", "anchor")
GAMMA = "gamma"


class Recorder(Observer):
    """Turns a federation's events into the rows and the summary of its run directory.

    Args:
        writer: The run directory.
        config: The run's keys.
        roster: The clients.
        dispatcher: Knows what key has been used.
        progress: Shows how far the run is.
        engine: Name of the engine it runs on.
    """

    def __init__(
        self,
        writer: RunWriter,
        config: RunConfig,
        roster: Roster,
        dispatcher: BaseDispatcher,
        progress: Progress,
        engine: str,
    ) -> None:
        self._writer = writer
        self._config = config
        self._roster = roster
        self._dispatcher = dispatcher
        self._traffic = TrafficLog(dispatcher)
        self._progress = progress
        self._engine = engine
        self._started = time.monotonic()
        self._models_sent = 0.0
        self._bytes_sent = 0
        self._compute_s = 0.0
        self._sealed_failures = 0
        self._failures = 0
        self._terms: defaultdict[str, list[float]] = defaultdict(list)
        self._last_row: dict[str, float] = {}
        self._reached = Reached(config.final_evaluations)
        counts = [member.label_counts for member in roster]
        if all(count is not None for count in counts):
            writer.partition([count for count in counts if count is not None])
        progress.begin(config)

    def phase(self, server_round: int, name: str, messages: int, share: float) -> None:
        """Tell the progress display what is coming."""
        self._progress.phase(server_round, name, messages, share)

    def replied(self, partition: int) -> None:
        """Advance the progress display."""
        self._progress.advance()

    def failed(self, server_round: int, name: str, partition: int, reason: str, code: int) -> None:
        """Count a failure and log its reason."""
        self._failures += 1
        self._sealed_failures += code == REFUSED
        log.warning("round %d, %s, client %d: %s", server_round, name, partition, reason)

    def sent(self, transfer: Transfer, sealed_bytes: int, models: float) -> None:
        """Count traffic."""
        self._traffic.sent(transfer, sealed_bytes, models)
        self._models_sent += models
        self._bytes_sent += sealed_bytes

    def round_sent(self, server_round: int) -> None:
        """Write what was sent in the round, and what every link holds after it."""
        self._writer.traffic_rows(self._traffic.close_round(server_round))
        self._writer.pool_rows(pool_rows(server_round, self._dispatcher))

    def worked(self, server_round: int, partition: int, metrics: Metrics) -> None:
        """Add up the time, and remember the mean losses until the round is evaluated."""
        self._compute_s += metrics["compute-s"]
        for term in (*TERMS, GAMMA):
            if term in metrics:
                self._terms[term].append(metrics[term])

    def evaluated(self, server_round: int, metrics: Mapping[int, Metrics]) -> None:
        """Write one row for the round and one for each client."""
        # Sums round by their order, and replies come in any.
        ordered = {partition: metrics[partition] for partition in sorted(metrics)}
        clients = [self._client_row(server_round, p, told) for p, told in ordered.items()]
        reached = accuracies(list(ordered.values()))
        if self._config.consensus_distance:
            reached["consensus_distance"] = consensus_distance(list(ordered.values()))
        self._reached.add(server_round, reached)
        row = {"round": server_round, "evaluated": len(clients), **reached, **self._totals()}
        row |= {f"loss_{term}": mean(self._terms[term]) for term in TERMS}
        row[GAMMA] = mean(self._terms[GAMMA])
        self._terms.clear()
        self._last_row = row
        self._writer.client_rows(clients)
        self._writer.round_row(row)
        self._progress.evaluated(row)

    def finish(self, digests: Sequence[str]) -> dict[str, object]:
        """Write summary and report; return the summary.

        Args:
            digests: SHA-256 of each client's final weights, in partition order; empty where
                unknown.

        Raises:
            DeffdError: There is nothing to report.
        """
        if not self._last_row:
            raise DeffdError("no client was ever evaluated")
        config = self._config
        summary: dict[str, object] = {
            "strategy": config.strategy,
            "dataset": config.dataset,
            "model": config.model,
            "seed": config.seed,
            "partition_seed": config.seed_of("partition"),
            "init_seed": config.seed_of("init"),
            "pairing_seed": config.seed_of("pairing"),
            "clients": config.clients,
            "rounds": config.rounds,
            **self._last_row,
            **self._reached.values(),
            **self._evaluation(),
            **self._totals(),
            **self._security(),
            "state_sha256": combined(digests),
            "engine": self._engine,
            "versions": versions(),
        }
        summary["last_evaluated_round"] = summary.pop("round")
        self._writer.finish(summary)
        return summary

    def _client_row(
        self, server_round: int, partition: int, metrics: Metrics
    ) -> dict[str, float | str]:
        member, cast = self._roster.members[partition], self._config.cast
        return {
            "round": server_round,
            "client": partition,
            **({"model": cast.name(partition)} if cast.several else {}),
            **{name: metrics[name] for name in ACCURACIES},
            "train_samples": member.train_samples,
            "test_samples": member.test_samples,
        }

    def _evaluation(self) -> dict[str, object]:
        """Return what the final values are values of."""
        config = self._config
        origin = LEFT_OVER if config.samples_per_client else SET_ASIDE
        return {
            "final_evaluations": config.final_evaluations,
            "evaluated_on": config.evaluate_on,
            "evaluation_samples": self._roster.members[0].evaluation_samples,
            **({"validation_split": origin} if config.evaluate_on == "validation" else {}),
        }

    def _totals(self) -> dict[str, float]:
        return {
            "models_sent": round(self._models_sent, 6),
            "bytes_sent": self._bytes_sent,
            **self._dispatcher.totals(),
            "failures": self._failures,
            "sealed_failures": self._sealed_failures,
            "wall_s": round(time.monotonic() - self._started, 3),
            "compute_s": round(self._compute_s, 3),
        }

    def _security(self) -> dict[str, object]:
        config, dispatcher = self._config, self._dispatcher
        tally = dispatcher.tally
        simulated = config.key_source == "embedded"
        return {
            "suite": config.suite,
            "min_suite": config.min_suite or config.suite,
            "key_source": config.key_source,
            "qkd_network": config.qkd_network if simulated else "",
            "link": config.link if simulated else "",
            "eve": config.eve,
            "bytes_by_suite": dict(dispatcher.bytes_by_suite),
            "models_by_suite": {
                suite: round(models, 6) for suite, models in dispatcher.models_by_suite.items()
            },
            "key_bits_per_model": tally.key_bits / self._models_sent if self._models_sent else 0,
            # Through which hands key managers pass keys is not for them to tell.
            "relayed": tally.relayed if simulated else None,
            "compromised": tally.compromised if simulated else None,
            "exposed_nodes": sorted(dispatcher.exposed),
        }


LINKS_SHOWN = 100


def pool_rows(server_round: int, dispatcher: BaseDispatcher) -> list[dict[str, float | str]]:
    """Return a row for each link, where they are not too many to show, and one for all."""
    levels = dispatcher.levels()
    if not levels:
        return []
    head: dict[str, float | str] = {
        "round": server_round,
        "time_s": round(dispatcher.now, 6),
    }
    starved = {"starved": dispatcher.counts["starved"]}
    each = [
        {**head, "link": link, "links": 1, **_as_cells(level), **starved}
        for link, level in sorted(levels.items())
    ]
    total = Level(
        sum(level.stored for level in levels.values()),
        sum(level.available for level in levels.values()),
        fmean(level.qber for level in levels.values()),
        sum(level.aborted for level in levels.values()),
    )
    every = {**head, "link": "all", "links": len(levels), **_as_cells(total), **starved}
    return [*(each if len(each) <= LINKS_SHOWN else []), every]


def _as_cells(level: Level) -> dict[str, float]:
    return {**level._asdict(), "qber": round(level.qber, 6)}


def combined(digests: Sequence[str]) -> str | None:
    """Return the hash over all clients' digests; ``None`` if one is unknown."""
    if not all(digests):
        return None
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers, as far as this process knows them."""
    known = {"deffd-flower": __version__, "python": python_version()}
    for package in ("flwr", "torch", "numpy"):
        with suppress(PackageNotFoundError):
            known[package] = version(package)
    return known
