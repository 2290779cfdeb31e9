"""A model as bytes and back: safetensors, so that no byte received is ever unpickled."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deffd_flower.errors import DeffdError

if TYPE_CHECKING:
    import torch


class CodecError(DeffdError):
    """These bytes are no model, or these tensors cannot be written as one."""


def encode_tensors(tensors: "Mapping[str, torch.Tensor]") -> bytes:
    """Return the tensors in the safetensors format; equal tensors give equal bytes.

    Values are kept to the bit, NaN and infinity included: a diverged model is its owner's
    business. Tensors that share memory (tied weights) are written once each.

    Args:
        tensors: Name to dense tensor, any shape, on any device.

    Raises:
        CodecError: A tensor is sparse or has a type that the format lacks.
    """
    from safetensors.torch import save

    try:
        return save(_separate(tensors))
    except Exception as problem:
        raise CodecError(f"the model cannot be written as safetensors: {problem}") from problem


def _separate(tensors: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    separate: dict[str, torch.Tensor] = {}
    owners: set[int] = set()
    for name, tensor in tensors.items():
        dense = tensor.detach().cpu().contiguous()
        memory = dense.untyped_storage().data_ptr()
        separate[name] = dense.clone() if memory in owners else dense
        owners.add(memory)
    return separate


def decode_tensors(data: bytes) -> "dict[str, torch.Tensor]":
    """Return the tensors that `encode_tensors` wrote, on the CPU, in the format's own order.

    Args:
        data: The bytes, of any origin.

    Raises:
        CodecError: The bytes are not in the safetensors format; nothing else is ever raised.
    """
    from safetensors.torch import load

    try:
        return load(data)
    except Exception as problem:  # a foreign parser on foreign bytes
        raise CodecError("the received bytes are not a model in safetensors format") from problem
