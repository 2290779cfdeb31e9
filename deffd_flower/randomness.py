"""Every random draw of a run, keyed by what it is for.

A draw depends on (seed, purpose, keys) alone: not on the process, thread or engine that makes
it, nor on the draws made before it.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, purpose: str, *keys: int) -> int:
    """Return a 63-bit seed for one purpose, independent of the seeds for all others."""
    text = "/".join([str(seed), purpose, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return NumPy's generator for (seed, purpose, keys)."""
    return np.random.default_rng(derived_seed(seed, purpose, *keys))


def torch_generator(seed: int, purpose: str, *keys: int) -> "torch.Generator":
    """Return a PyTorch CPU generator for (seed, purpose, keys)."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, purpose, *keys))


def seed_layers(seed: int, device: "torch.device") -> None:
    """Seed the generators from which layers such as Dropout draw on a device.

    `torch.manual_seed` takes a hundred times longer on a machine without CUDA: it files a note
    for every device that may yet appear, with a traceback, and never forgets it.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
