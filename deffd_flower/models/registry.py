"""From a name in the ``model`` key to a network with its initial weights.

A model of one's own is either registered, in a module named by the ``plugins`` key,

    @models.register("mine")
    def build(shape: tuple[int, int, int], classes: int) -> nn.Module: ...

or any ``nn.Module`` class or function at a dotted path, ``model=package.module:Net``, which needs
no change: see `call_builder` for how it is called.
"""

import inspect
from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn

from deffd_flower.errors import RequestError
from deffd_flower.registry import Registry

Shape = tuple[int, int, int]
ModelBuilder = Callable[..., nn.Module]

models: Registry[ModelBuilder] = Registry("model")

# Initial weights come from PyTorch's global generator, which all threads of a process share.
_building = Lock()


def build_model(name: str, shape: Shape, classes: int, seed: int) -> nn.Module:
    """Return a network on the CPU, in channels-last memory format, ready for taps.

    Args:
        name: A registered name, or ``package.module:ClassOrFunction``.
        shape: Channels, height and width of an image.
        classes: Number of logits.
        seed: Decides the initial weights; PyTorch's own generator is left as it was.

    Raises:
        RequestError: There is no such model, or it cannot be built for such images.
    """
    builder = models.get(name)
    with _building, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = call_builder(name, builder, shape, classes)
        # An in-place activation would overwrite the feature map a tap holds.
        for module in model.modules():
            if vars(module).get("inplace") is True:
                vars(module)["inplace"] = False
        _check_output(name, model, shape, classes)
    return model.to(memory_format=torch.channels_last)


def call_builder(name: str, builder: ModelBuilder, shape: Shape, classes: int) -> nn.Module:
    """Call a class or function with as much of (shape, classes) as it asks for.

    By name, if it has parameters called ``shape`` or ``input_shape`` (channels, height, width),
    ``in_channels`` (channels alone), ``classes`` or ``num_classes``. If it has none of them but
    takes ``**kwargs``, as torchvision's models do, with ``num_classes``. Otherwise by position:
    ``(shape, classes)`` if two parameters are without a default, ``(classes)`` if one is, ``()``
    if none is.

    Raises:
        RequestError: It cannot be called so, or what it returns is not an ``nn.Module``.
    """
    try:
        positional, named = _arguments(builder, shape, classes)
        model = builder(*positional, **named)
    except RequestError:
        raise
    except Exception as problem:  # whatever a user's code may raise
        advice = f"cannot be built for {classes} classes and images {shape} ({problem})"
        raise RequestError("model", name, advice) from problem
    if not isinstance(model, nn.Module):
        advice = f"must give a torch.nn.Module, gave {type(model).__name__}"
        raise RequestError("model", name, advice)
    return model


def _arguments(
    builder: ModelBuilder, shape: Shape, classes: int
) -> tuple[list[object], dict[str, object]]:
    parameters = inspect.signature(builder).parameters.values()
    known: dict[str, object] = {
        "shape": shape,
        "input_shape": shape,
        "in_channels": shape[0],
        "classes": classes,
        "num_classes": classes,
    }
    named = {p.name: known[p.name] for p in parameters if p.name in known}
    if named:
        return [], named
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return [], {"num_classes": classes}
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = sum(p.default is p.empty and p.kind in by_position for p in parameters)
    if required >= 2:
        return [shape, classes], {}
    return [classes] * required, {}


def _check_output(name: str, model: nn.Module, shape: Shape, classes: int) -> None:
    """Run two blank images through the model, which also settles the shapes of lazy layers."""
    model.eval()
    try:
        with torch.no_grad():
            output = model(torch.zeros(2, *shape))
    except Exception as problem:  # whatever a user's code may raise
        reason = " ".join(str(problem).split())
        raise RequestError("model", name, f"fails on images {shape} ({reason})") from problem
    model.train()
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != (2, classes):
        advice = f"must give [batch, {classes}] logits; a batch of 2 images {shape} gave {found}"
        raise RequestError("model", name, advice)
