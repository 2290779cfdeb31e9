"""Finds the numbers of a plan: sizes, loads of the links, and what the links give."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import combinations

from deffd_flower.config import DEFAULTS, RunConfig
from deffd_flower.errors import RequestError
from deffd_flower.qkd.attacks import LinkAttack
from deffd_flower.qkd.eve import parse_attacks
from deffd_flower.qkd.plan import DAY_S, LinkPlan, PackageSize, SuitePlan
from deffd_flower.qkd.pool import KeyPool, PoolSettings
from deffd_flower.qkd.production import CALM, BlockYield, block_yield
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.qkd.traffic import MOST_ROUNDS, Demand, Reuse, Traffic
from deffd_flower.strategy.partners import tells_classes
from deffd_flower.strategy.plans import Transfer
from deffd_flower.strategy.presets import strategies
from deffd_flower.transport.desk import sae_id
from deffd_flower.transport.rekeying import RekeyPolicy
from deffd_flower.transport.suite import Suite
from deffd_flower.transport.suites import suites

_PARTS_OVERHEAD, _PART_OVERHEAD = 128, 128


def package_sizes(config: RunConfig) -> list[PackageSize]:
    """Build each of the run's models and its packages once, and measure them.

    Needs PyTorch but no data.

    Raises:
        RequestError: There is no such model, or it does not fit the data set's images.
    """
    return [_package_size(config, place) for place in range(len(config.cast.names))]


def _package_size(config: RunConfig, place: int) -> PackageSize:
    import torch

    from deffd_flower.data.datasets import datasets
    from deffd_flower.fusion.package import pack
    from deffd_flower.models import build_model

    spec = datasets.get(config.dataset)
    model = build_model(config.cast.names[place], spec.shape, spec.classes, config.seed)
    parameters = sum(weights.numel() for weights in model.parameters())
    architecture = place if config.cast.several else None
    held = torch.ones(spec.classes, dtype=torch.bool) if tells_classes(config) else None
    packages = (pack(model, 1, part, config.segments) for part in ([], [0]))
    whole, segment = (
        replace(package, held=held, architecture=architecture).encode() for package in packages
    )
    return PackageSize(len(whole), parameters, len(segment))


def merged(links: Iterable[LinkPlan]) -> list[LinkPlan]:
    """Return one entry for all links that differ in nothing but their names."""
    groups: dict[LinkPlan, LinkPlan] = {}
    for link in links:
        first = groups.setdefault(alike := replace(link, link="", links=0), link)
        if first is not link:
            groups[alike] = replace(first, links=first.links + link.links)
    return list(groups.values())


class Planner:
    """Plans one request, suite by suite. Attacks count as if all were on all the time.

    Args:
        config: A resolved config.
        packages: What clients seal, for each of the run's models.

    Attributes:
        network: The QKD network.
        traffic: What the federation asks of it.

    Raises:
        RequestError: The strategy has no peers that write to each other, who writes to whom follows
            from what happens in the run, or a key is wrong.
    """

    def __init__(self, config: RunConfig, *packages: PackageSize) -> None:
        if not strategies.get(config.strategy)().plan:
            advice = "is a central server's; only peers that write to each other use QKD keys"
            raise RequestError("strategy", config.strategy, advice)
        if config.partner != DEFAULTS["partner"]:
            advice = "follows the run, while a plan reckons with random pairs; leave it out"
            raise RequestError("partner", config.partner, advice)
        self.network = controller_of(config).network
        self.traffic = Traffic(config, self.network)
        self.config = config
        self.packages = packages
        self._attacks = [a for a in parse_attacks(config.eve) if isinstance(a, LinkAttack)]
        self._settings = PoolSettings(
            capacity=config.pool_capacity or None,
            max_age_s=config.key_max_age_s or None,
            authentication_bits=config.authentication_bits,
        )
        self._policy = RekeyPolicy(config.rekey_messages, config.rekey_bytes, config.rekey_seconds)
        self._rate = lru_cache(maxsize=None)(self._bits_per_s)

    @cached_property
    def suites(self) -> dict[str, SuitePlan]:
        """The plans for all suites, the one that takes most key first."""
        strongest_first = sorted(suites.names(), key=lambda name: -suites.get(name).strength)
        return {name: self.suite(name) for name in strongest_first}

    def suite(self, name: str) -> SuitePlan:
        """Return the plan for one suite.

        Where keys are used again, waiting for key makes rounds longer, so that a key lives for
        fewer of them and more key is needed; that is followed until nothing changes.

        Raises:
            RequestError: There is no such suite, or no way for some client's keys.
        """
        suite = suites.get(name)()
        plan = self._without_key(name, suite)
        reuse = self._reuse(plan, suite)
        while True:
            plan = replace(plan, links=self._links(plan, suite, reuse))
            shorter = self._reuse(plan, suite)
            if shorter.rounds >= reuse.rounds:
                return plan
            reuse = shorter

    def _without_key(self, name: str, suite: Suite) -> SuitePlan:
        ends = sae_id(self.config.clients - 1), sae_id(self.config.clients - 2)
        more = suite.expansion(*ends)
        traffic = self.traffic
        largest = traffic.mean_largest(lambda t: self.message_bytes(t) + more)
        return SuitePlan(
            suite=name,
            messages=traffic.per_round,
            message_bytes=traffic.mean(self.message_bytes),
            key_bits=traffic.mean(lambda t: suite.key_bits(self.message_bytes(t))),
            wire_bytes=traffic.mean(lambda t: self.message_bytes(t) + more),
            compute_s=self.config.round_compute_s,
            transfer_s=8 * largest / (1e6 * self.config.transfer_mbps),
        )

    def message_bytes(self, transfer: Transfer) -> int:
        """Return what the dispatcher sets key aside for: exact but for segments, rounded up."""
        package = self.packages[self.config.cast.place(transfer.sender)]
        whole, count = package.bytes, len(transfer.segments)
        share = math.ceil(whole / self.config.segments) + _PART_OVERHEAD
        return _PARTS_OVERHEAD + count * share if count else whole

    def _reuse(self, plan: SuitePlan, suite: Suite) -> Reuse:
        policy = self._policy
        if not suite.reuses_keys or policy.messages == 1 or not plan.messages:
            return Reuse()
        messages = min(policy.messages, int(policy.bytes / plan.message_bytes))
        lived = policy.seconds * plan.rounds_per_day / DAY_S
        return Reuse(max(1, messages), max(0, math.ceil(min(lived, MOST_ROUNDS)) - 1))

    def _links(self, plan: SuitePlan, suite: Suite, reuse: Reuse) -> tuple[LinkPlan, ...]:
        def bits(transfer: Transfer) -> int:
            return suite.key_bits(self.message_bytes(transfer))

        demands = self.traffic.demands(bits, reuse, self._rate, plan.round_s)
        most = max(map(bits, self.traffic.transfers), default=0)
        apart = (each for name, demand in demands.items() for each in self._apart(name, demand))
        links = merged(self._link(name, demand, most) for name, demand in apart)
        return tuple(sorted(links, key=lambda link: link.rounds_per_day))

    def _apart(self, name: str, demand: Demand) -> Iterator[tuple[str, Demand]]:
        """Tell the links that Eve picks out from others of the same load."""
        picked = sorted(frozenset[str]().union(*(attack.links for attack in self._attacks)))
        if demand.links == 1 or not picked:
            yield name, demand
            return
        yield from ((link, demand._replace(links=1)) for link in picked)
        if demand.links > len(picked):
            links = (f"{one}-{two}" for one, two in combinations(range(self.config.clients), 2))
            calm = next(link for link in links if link not in picked)
            yield calm, demand._replace(links=demand.links - len(picked))

    def _link(self, name: str, demand: Demand, most: int) -> LinkPlan:
        block, settings = self._block(name), self._settings
        started = replace(settings, head_start_s=self.config.head_start_s)
        return LinkPlan(
            link=name,
            links=demand.links,
            loss_db=self.network.link(name).total_loss_db,
            qber=block.qber,
            bits_per_s=self._rate(name),
            storable_bits=self._storable(block),
            empty_s=KeyPool(lambda _: block, settings).seconds_until(most),
            first_s=KeyPool(lambda _: block, started).seconds_until(most),
            messages=demand.messages,
            bits=demand.bits,
        )

    def _block(self, link: str) -> BlockYield:
        """Return what a block of the link takes and gives under all attacks together."""
        on_it = (a.effect() for a in self._attacks if not a.links or link in a.links)
        disturbance = sum(on_it, CALM)
        if disturbance.silent:
            return BlockYield(math.inf, 0, math.nan)
        return block_yield(self.network.link(link), self.config.abort_qber, disturbance)

    def _net(self, block: BlockYield) -> int:
        return max(0, block.bits - self.config.authentication_bits)

    def _bits_per_s(self, link: str) -> float:
        block = self._block(link)
        return self._net(block) / block.seconds

    def _storable(self, block: BlockYield) -> float:
        capacity, age = self._settings.capacity, self._settings.max_age_s
        young = math.inf if age is None else math.ceil(age / block.seconds) * self._net(block)
        return min(young, math.inf if capacity is None else capacity)
