"""The simulated QKD network that a run's keys ask for."""

from pathlib import Path

from deffd_flower.config import RunConfig
from deffd_flower.qkd.controller import QkdnController
from deffd_flower.qkd.eve import Eve, parse_attacks
from deffd_flower.qkd.ledger import Ledger
from deffd_flower.qkd.networks import NetworkRequest, qkd_network
from deffd_flower.qkd.pool import PoolSettings
from deffd_flower.qkd.presets import links
from deffd_flower.strategy.topology import topology


def controller_of(config: RunConfig, ledger: Path | None = None) -> QkdnController:
    """Return the controller of the network that ``config`` describes.

    Args:
        config: The run's keys.
        ledger: Where ``keys.csv`` goes; ``None`` writes none.

    Raises:
        RequestError: A link, network or attack that is not there.
    """
    request = NetworkRequest(config.clients, links.get(config.link), topology(config))
    settings = PoolSettings(
        capacity=config.pool_capacity or None,
        max_age_s=config.key_max_age_s or None,
        authentication_bits=config.authentication_bits,
        head_start_s=config.head_start_s,
        abort_qber=config.abort_qber,
    )
    return QkdnController(
        qkd_network(config.qkd_network, request),
        settings,
        Eve(parse_attacks(config.eve), config.seed),
        Ledger(ledger),
        config.seed,
    )
