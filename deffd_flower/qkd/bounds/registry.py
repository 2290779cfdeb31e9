"""The named key-rate bounds: each maps a link to the block it can expect."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from deffd_flower.qkd.bounds.block import KeyBlock
from deffd_flower.registry import Registry

if TYPE_CHECKING:
    from deffd_flower.qkd.link import QuantumLink

Bound = Callable[["QuantumLink"], KeyBlock]

bounds: Registry[Bound] = Registry("qkd-bound")
