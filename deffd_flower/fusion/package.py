"""What one peer sends another: a model or parts of it, and what its samples are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deffd_flower.transport.codec import CodecError, decode_tensors, encode_tensors

_MODEL, _SEGMENT = "model.", "segment."
_SAMPLES, _HELD, _ARCHITECTURE = "samples", "held", "architecture"


@dataclass(frozen=True)
class Package:
    """The plaintext of one transfer.

    Attributes:
        samples: Training samples of the sender.
        model: The sender's state dict; empty when segments travel.
        segments: Index -> slice of the sender's flattened parameters (1-D).
        held: The classes the sender has samples of, bool [C]; ``None`` unless the receiver needs
            to know: with ``teacher-weight=presence``, and where clients tell the server whom they
            prefer to meet. Sealed with the rest, so no relay can read it.
        architecture: Which of the run's models it is, as its place in ``RunConfig.cast.names``;
            ``None`` where there is but one.
    """

    samples: int
    model: Mapping[str, Tensor]
    segments: Mapping[int, Tensor]
    held: Tensor | None = None
    architecture: int | None = None

    def encode(self) -> bytes:
        """Return the package as safetensors bytes."""
        tensors = {_MODEL + name: value for name, value in self.model.items()}
        tensors |= {f"{_SEGMENT}{index}": value for index, value in self.segments.items()}
        tensors[_SAMPLES] = torch.tensor(self.samples)
        if self.held is not None:
            tensors[_HELD] = self.held
        if self.architecture is not None:
            tensors[_ARCHITECTURE] = torch.tensor(self.architecture)
        return encode_tensors(tensors)

    @classmethod
    def decode(cls, blob: bytes) -> "Package":
        """Read a package.

        Raises:
            CodecError: The bytes are no package.
        """
        tensors = decode_tensors(blob)
        try:
            return cls(
                samples=int(tensors[_SAMPLES]),
                model={
                    k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)
                },
                segments={
                    int(key.removeprefix(_SEGMENT)): value
                    for key, value in tensors.items()
                    if key.startswith(_SEGMENT)
                },
                held=tensors.get(_HELD),
                architecture=int(tensors[_ARCHITECTURE]) if _ARCHITECTURE in tensors else None,
            )
        except (KeyError, ValueError, RuntimeError, OverflowError) as problem:
            raise CodecError("not a model package") from problem


def pack(model: nn.Module, samples: int, segments: list[int], parts: int) -> Package:
    """Pack a whole model, or only the given segments of ``parts`` equal ones."""
    if not segments:
        return Package(samples, model.state_dict(), {})
    pieces = split(model, parts)
    return Package(samples, {}, {index: pieces[index] for index in segments})


def split(model: nn.Module, parts: int) -> tuple[Tensor, ...]:
    """Return the flattened parameters as ``parts`` slices of equal size, give or take one."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return flat.tensor_split(parts)


def join(model: nn.Module, pieces: Sequence[Tensor]) -> None:
    """Write the slices of `split` back into the model's parameters."""
    flat = torch.cat(list(pieces))
    sizes = [parameter.numel() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), torch.split(flat, sizes), strict=True):
            parameter.copy_(values.view(parameter.shape))
