"""Secret-key bounds of decoy-state BB84, by name. Add one with ``@bounds.register(name)``."""

from deffd_flower.qkd.bounds import asymptotic, lim2014, rusca2018, tno
from deffd_flower.qkd.bounds.block import (
    BlockCounts,
    DecoySettings,
    KeyBlock,
    Security,
    binary_entropy,
    plob_bound,
    qber_threshold,
)
from deffd_flower.qkd.bounds.finite import FiniteBound
from deffd_flower.qkd.bounds.registry import Bound, bounds

__all__ = [
    "BlockCounts",
    "Bound",
    "DecoySettings",
    "FiniteBound",
    "KeyBlock",
    "Security",
    "asymptotic",
    "binary_entropy",
    "bounds",
    "lim2014",
    "plob_bound",
    "qber_threshold",
    "rusca2018",
    "tno",
]
