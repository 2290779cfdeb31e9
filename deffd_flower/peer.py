"""A client as a peer: its data, its model, three verbs. It knows nothing of Flower."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.data.client import ClientData
from deffd_flower.errors import DeffdError
from deffd_flower.evaluation import evaluate
from deffd_flower.fusion import average, distil
from deffd_flower.fusion.objective import Objective
from deffd_flower.fusion.package import Package, pack
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.models import build_model
from deffd_flower.models.taps import feature_layers
from deffd_flower.randomness import derived_seed, torch_generator
from deffd_flower.strategy.presets import strategies
from deffd_flower.training import Batch, arithmetic, sgd, train
from deffd_flower.transport.codec import decode_tensors, encode_tensors

BUILT_IN_RULES = (average, distil)


class Peer:
    """One client of the federation.

    Args:
        partition: Its number, 0..clients-1.
        data: Its own samples and the global test set.
        config: The run's keys.
        weights: Its model as `weights` gave it; ``None`` for the initial one.

    Attributes:
        model: Its model.
        changed: Whether the model is another than ``weights``.
    """

    def __init__(
        self, partition: int, data: ClientData, config: RunConfig, weights: bytes | None = None
    ) -> None:
        self.partition = partition
        self.data = data
        self.config = config
        self.model = self._initial_model()
        self.changed = weights is None
        if weights is not None:
            self.model.load_state_dict(decode_tensors(weights))

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take over a central model's weights."""
        self.model.load_state_dict(state)
        self.changed = True

    def check(self) -> None:
        """Look up everything the verbs will need, the optimiser included.

        PyTorch's first optimiser imports for a second: better once here than in every worker.

        Raises:
            RequestError: A key names something that is not there.
        """
        sgd(self.model, self.config)
        fusion = strategies.get(self.config.strategy)().fusion
        if fusion:
            fusion_rules.get(fusion)
        if fusion == "distil" and Objective(self.config).needs_features:
            feature_layers(self.model, self.config.feature_layers)

    def train(self, server_round: int) -> dict[str, float]:
        """Train for ``local-epochs`` passes over the own samples; return the mean loss."""
        batches = self._batches("train", server_round, self.config.local_epochs)
        with self._work("train", server_round):
            return train(self.model, batches, self.config)

    def fuse(self, received: Sequence[Package], server_round: int) -> dict[str, float]:
        """Fuse received packages with the own model by the strategy's rule.

        Args:
            received: Packages in arrival order.
            server_round: The round in which they were sent, which keys the shuffling.

        Returns:
            The mean of each term the rule minimised.

        Raises:
            DeffdError: A package does not fit this peer's architecture.
        """

        def batches(epochs: int, index: int) -> Iterator[Batch]:
            return self._batches("fuse", server_round, epochs, index)

        rule = fusion_rules.get(strategies.get(self.config.strategy)().fusion)
        own = len(self.data.train)
        fusion = Fusion(self.model, received, self._model_of, batches, own, self.config)
        with self._work("fuse", server_round):
            self.model, terms = rule(fusion)
        return terms

    def evaluate(self) -> dict[str, float]:
        """Return accuracies on the global test set and on the own held-out samples."""
        with arithmetic(self.config.precision, self.data.device):
            return evaluate(self.model, self.data, self.config.test_samples)

    def package(self, segments: Sequence[int]) -> bytes:
        """Return the model, or some of its segments, as bytes for a peer."""
        parts = self.config.segments
        return pack(self.model, len(self.data.train), list(segments), parts).encode()

    def weights(self) -> bytes:
        """Return the model's state as bytes, equal for equal weights."""
        return encode_tensors(self.model.state_dict())

    def digest(self) -> str:
        """Return the SHA-256 of `weights`, in hexadecimal."""
        return hashlib.sha256(self.weights()).hexdigest()

    @contextmanager
    def _work(self, purpose: str, server_round: int) -> Iterator[None]:
        """Compute in the run's precision, and draw what layers such as Dropout draw by key."""
        device = self.data.device
        devices = [device] if device.type == "cuda" else []
        seed = derived_seed(self.config.seed, "layers/" + purpose, self.partition, server_round)
        with torch.random.fork_rng(devices), arithmetic(self.config.precision, device):
            torch.manual_seed(seed)
            self.changed = True
            yield

    def _initial_model(self) -> nn.Module:
        spec = self.data.train.spec
        own_start = () if self.config.common_init else (self.partition,)
        seed = derived_seed(self.config.seed, "initial-weights", *own_start)
        model = _built(self.config.model, spec.shape, spec.classes, seed)
        return copy.deepcopy(model).to(self.data.device)

    def _model_of(self, package: Package) -> nn.Module:
        model = self._initial_model()
        try:
            model.load_state_dict(dict(package.model))
        except RuntimeError as problem:
            raise DeffdError(f"a received model does not fit {self.config.model}") from problem
        return model

    def _batches(self, purpose: str, server_round: int, epochs: int, *keys: int) -> Iterator[Batch]:
        generator = torch_generator(self.config.seed, purpose, self.partition, server_round, *keys)
        return self.data.train.batches(self.config.batch_size, epochs, generator)


@lru_cache(maxsize=2)
def _built(name: str, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Return the initial model: to be copied, which costs less than drawing it again."""
    return build_model(name, shape, classes, seed)
