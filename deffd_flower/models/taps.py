"""Reading a model's feature maps while it runs, with no change to the model."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deffd_flower.errors import RequestError, did_you_mean

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardtanh, nn.Softplus, nn.Tanh, nn.Sigmoid),
)


def feature_layers(model: nn.Module, choice: str, called: str = "the model") -> list[str]:
    """Return the module names whose outputs are the feature maps to distil.

    Args:
        model: Any network.
        choice: ``convolutions``: every ``nn.Conv2d`` in the order of definition or, without any,
            every ``nn.Linear`` but the last, which gives the logits. ``activations``: every
            activation module. Otherwise module names, separated by commas, in the order given.
        called: What an error calls the model.

    Raises:
        RequestError: The model has no such layer; lists those it has.
    """
    if choice == "convolutions":
        layers = _of_type(model, nn.Conv2d) or _of_type(model, nn.Linear)[:-1]
    elif choice == "activations":
        layers = _of_type(model, ACTIVATIONS)
    else:
        layers = [name.strip() for name in choice.split(",") if name.strip()]
    known = [name for name, _ in model.named_modules() if name]
    unknown = [name for name in layers if name not in known]
    if unknown or not layers:
        near = did_you_mean(unknown[0], known) if unknown else ""
        missing = f"{called} has no {unknown[0] if unknown else 'such layer'}"
        raise RequestError(
            "feature-layers", choice, f"{missing}; its layers are {', '.join(known)}.{near}"
        )
    return layers


def _of_type(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


class Tap:
    """Runs a model and hands out its feature maps beside its logits.

    Forward hooks are in place while the ``with`` block lasts. A layer that runs more than once in
    a forward pass, such as a shared activation, gives its last output.

    Example:
        >>> with Tap(model, ["conv1", "conv2"]) as tap:
        ...     logits, (first, second) = tap(images)

    Args:
        model: Any network.
        layers: Module names; none registers no hook.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self.model = model
        self.layers = list(layers)
        self._outputs: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> "Tap":
        for name in self.layers:
            module = self.model.get_submodule(name)
            self._hooks.append(module.register_forward_hook(partial(self._record, name)))
        return self

    def __exit__(self, *problem: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def __call__(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the model.

        Args:
            images: A batch, [B, C, H, W].

        Returns:
            Logits [B, classes] and one feature map per layer, in the order of ``layers``, each
            part of the autograd graph.

        Raises:
            RequestError: A layer did not run, gave no tensor, or was overwritten in place.
            RuntimeError: There are layers to tap, but no ``with`` block around the call.
        """
        if self.layers and not self._hooks:
            raise RuntimeError("a Tap works inside its with block only")
        try:
            logits = self.model(images)
            return logits, [self._output(name) for name in self.layers]
        finally:
            self._outputs.clear()
            self._versions.clear()

    def shapes(self, images: Tensor) -> list[torch.Size]:
        """Return the shape of each layer's map of one image, without a trace in the model.

        Args:
            images: A batch to try, [B, C, H, W].
        """
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), self:
            _, maps = self(images[:1])
        self.model.train(training)
        return [map_.shape[1:] for map_ in maps]

    def _record(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            advice = f"gives a {type(output).__name__}, not a tensor; name another layer"
            raise RequestError("feature-layers", name, advice)
        self._outputs[name] = output
        # Tensors made in inference mode count no versions.
        self._versions[name] = 0 if output.is_inference() else output._version

    def _output(self, name: str) -> Tensor:
        if name not in self._outputs:
            advice = "takes no part in the forward pass; name another layer"
            raise RequestError("feature-layers", name, advice)
        output = self._outputs[name]
        if not output.is_inference() and output._version != self._versions[name]:
            advice = (
                "is overwritten by a later in-place operation; take that out of the model's "
                "forward, or name a later layer"
            )
            raise RequestError("feature-layers", name, advice)
        return output
