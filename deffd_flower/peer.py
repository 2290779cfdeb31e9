"""A client as a peer: its data, its model, three verbs. It knows nothing of Flower."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from deffd_flower.acquaintances import Acquaintances
from deffd_flower.config import RunConfig
from deffd_flower.consensus import projection
from deffd_flower.data.client import ClientData
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.evaluation import evaluate
from deffd_flower.fusion import average, average_then_distil, distil
from deffd_flower.fusion.calibration import CrossEntropy, calibrations
from deffd_flower.fusion.package import Package, pack
from deffd_flower.fusion.rules import (
    Fusion,
    FusionRule,
    Orders,
    check_architecture,
    fusion_rules,
)
from deffd_flower.models import build_model
from deffd_flower.models.blueprint import Blueprint
from deffd_flower.models.registry import Shape
from deffd_flower.models.taps import feature_layers
from deffd_flower.randomness import derived_seed, seed_layers, torch_generator
from deffd_flower.strategy.partners import tells_classes
from deffd_flower.strategy.presets import strategies
from deffd_flower.training import Batch, Samples, arithmetic, least_batch, train
from deffd_flower.transport.codec import decode_tensors, encode_tensors

if TYPE_CHECKING:
    from deffd_flower.together import Pupil

BUILT_IN_RULES = (average, average_then_distil, distil)
DISTILLING = ("distil", "average-then-distil")
# What one client of a process has tried need not be tried by a thousand others: the run, its own
# architecture, and the one it may meet.
REHEARSED: set[tuple[RunConfig, int | None, int | None]] = set()


class Peer:
    """One client of the federation.

    Args:
        partition: Its number, 0..clients-1.
        data: Its own samples and the global test set.
        config: The run's keys.
        weights: Its model as `weights` gave it; ``None`` for the initial one.
        known: What it knew of its peers' classes before; see `Acquaintances`.

    Attributes:
        architecture: Which of the run's models it has, as its place in ``config.cast.names``;
            ``None`` where there is but one.
        model: Its model.
        changed: Whether the model is another than ``weights``.
        acquaintances: What it knows of its peers' classes.
    """

    def __init__(
        self,
        partition: int,
        data: ClientData,
        config: RunConfig,
        weights: bytes | None = None,
        known: Mapping[int, bytes] | None = None,
    ) -> None:
        self.partition = partition
        self.data = data
        self.config = config
        self.architecture = config.cast.place(partition) if config.cast.several else None
        self.model = self._blueprint(self.architecture).copy()
        self.changed = weights is None
        self.acquaintances = Acquaintances(data.label_counts > 0, known or {})
        if weights is not None:
            self.model.load_state_dict(decode_tensors(weights))

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take over a central model's weights."""
        self.model.load_state_dict(state)
        self.changed = True

    def check(self) -> None:
        """Look up everything the verbs will need.

        Raises:
            RequestError: A key names something that is not there.
        """
        fusion = strategies.get(self.config.strategy)().fusion
        met = self._architectures if fusion else [self.architecture]
        for architecture in met:
            self._check_batches(architecture)
        calibrations.get(self.config.calibrate)
        if fusion:
            fusion_rules.get(fusion)
        if fusion in DISTILLING:
            for architecture in met:
                self._rehearse(architecture)

    def _check_batches(self, architecture: int | None) -> None:
        name, least = self._name(architecture), self._least(architecture)
        if self.config.batch_size < least:
            advice = f"must be at least {least}: {name} normalises over the batch"
            raise RequestError("batch-size", self.config.batch_size, advice)
        if len(self.data.train) < least:
            advice = f"normalises over the batch, and client {self.partition} trains on one sample"
            raise RequestError("model", name, advice)

    def train(self, server_round: int) -> dict[str, float]:
        """Train for ``local-epochs`` passes over the own samples; return the mean loss."""
        batches = self._batches("train", server_round, self.config.local_epochs)
        with self._work("train", server_round):
            config = self.config.in_round(server_round)
            return train(self.model, batches, config, self._cross_entropy)

    def pupil(self, server_round: int) -> "Pupil":
        """Return what `train_together` needs to do what `train` does."""
        from deffd_flower.together import Pupil

        orders = self._orders("train", server_round, self.config.local_epochs)
        return Pupil(self.model, self.data.train, list(orders), self._cross_entropy)

    def fuse(self, received: Sequence[Package], server_round: int) -> dict[str, float]:
        """Fuse received packages with the own model by the strategy's rule.

        Args:
            received: Packages in arrival order.
            server_round: The round in which they were sent, which keys the shuffling.

        Returns:
            The mean of each term the rule minimised.

        Raises:
            DeffdError: A package is of none of the run's models, or the rule returned a model of
                another architecture.
        """

        def orders(epochs: int, index: int) -> Iterator[Tensor]:
            taking_part = [self.architecture, *map(self._checked, received[index : index + 1])]
            least = max(map(self._least, taking_part))
            return self._orders("fuse", server_round, epochs, index, least=least)

        with self._work("fuse", server_round):
            fusion = self._fusion(self.model, received, self.data.train, orders, server_round)
            fused, terms = self._rule(fusion)
        rule = strategies.get(self.config.strategy)().fusion
        check_architecture(rule, fused, self._blueprint(self.architecture).model)
        self.model = fused
        return terms

    def _rehearse(self, architecture: int | None) -> None:
        """Fuse with a model that has just begun, so that what does not fit fails early.

        Two samples will do, and nothing is left of it.

        Args:
            architecture: That of the other model.
        """
        scene = (self.config, self.architecture, architecture)
        if scene in REHEARSED:
            return
        if self.config.gamma != 0:
            other, name = self._blueprint(architecture).model, self._name(architecture)
            called = name if self.config.cast.several else "the model"
            feature_layers(other, self.config.feature_layers, called)
        few = Samples(self.data.train.images[:2], self.data.train.labels[:2], self.data.train.spec)
        mail = Package.decode(self._packed(self._blueprint(architecture).copy(), architecture, []))
        fusion = self._fusion(copy.deepcopy(self.model), [mail], few, lambda *_: few.orders(2))
        with torch.random.fork_rng(self._cuda), arithmetic(self.config.precision, self.data.device):
            self._rule(fusion)
        REHEARSED.add(scene)

    @property
    def _rule(self) -> FusionRule:
        return fusion_rules.get(strategies.get(self.config.strategy)().fusion)

    def _fusion(
        self,
        own: nn.Module,
        received: Sequence[Package],
        samples: Samples,
        orders: Orders,
        server_round: int = 0,
    ) -> Fusion:
        keys = self.config.seed, "adapters", self.partition, server_round
        return Fusion(
            own=own,
            received=received,
            model_of=self._model_of,
            batches=lambda epochs, index: map(samples.batch, orders(epochs, index)),
            samples=len(self.data.train),
            config=self.config.in_round(server_round),
            cross_entropy=self._cross_entropy,
            held=self._held,
            everything=samples,
            orders=orders,
            architecture=self.architecture,
            generators=lambda index: torch_generator(*keys, index),
        )

    def evaluate(self) -> dict[str, float]:
        """Return accuracies on everybody's and on the own held-out samples."""
        with arithmetic(self.config.precision, self.data.device):
            return evaluate(self.model, self.data, self.config.test_samples)

    def projection(self) -> list[float]:
        """Return what tells how far this model is from others, and not what it is."""
        return projection(self.model, self.config.seed)

    @property
    def evaluation_samples(self) -> int:
        """Samples that the global accuracy is counted on."""
        return len(self.data.test.labels[: self.config.test_samples or None])

    def package(self, segments: Sequence[int]) -> bytes:
        """Return the model, or some of its segments, as bytes for a peer."""
        return self._packed(self.model, self.architecture, segments)

    def _packed(self, model: nn.Module, architecture: int | None, segments: Sequence[int]) -> bytes:
        parts = self.config.segments
        package = pack(model, len(self.data.train), list(segments), parts)
        return replace(package, held=self._held, architecture=architecture).encode()

    def weights(self) -> bytes:
        """Return the model's state as bytes, equal for equal weights."""
        return encode_tensors(self.model.state_dict())

    def digest(self) -> str:
        """Return the SHA-256 of `weights`, in hexadecimal."""
        return hashlib.sha256(self.weights()).hexdigest()

    @cached_property
    def _cross_entropy(self) -> CrossEntropy:
        counts = self.data.label_counts.to(self.data.device)
        return calibrations.get(self.config.calibrate)(counts, self.config)

    @property
    def _held(self) -> Tensor | None:
        """Which classes it has samples of, bool [C], where peers are to know."""
        return self.data.label_counts > 0 if tells_classes(self.config) else None

    @property
    def _cuda(self) -> list[torch.device]:
        return [self.data.device] if self.data.device.type == "cuda" else []

    @contextmanager
    def _work(self, purpose: str, server_round: int) -> Iterator[None]:
        """Compute in the run's precision, and draw what layers such as Dropout draw by key."""
        device = self.data.device
        seed = derived_seed(self.config.seed, "layers/" + purpose, self.partition, server_round)
        with torch.random.fork_rng(self._cuda), arithmetic(self.config.precision, device):
            seed_layers(seed, device)
            self.changed = True
            yield

    @property
    def _architectures(self) -> Sequence[int | None]:
        """All there are in the run, as packages tell them."""
        cast = self.config.cast
        return range(len(cast.names)) if cast.several else [None]

    def _name(self, architecture: int | None) -> str:
        return self.config.cast.names[architecture or 0]

    def _least(self, architecture: int | None) -> int:
        return least_batch(self._blueprint(architecture).model)

    def _blueprint(self, architecture: int | None) -> Blueprint:
        """Return how one of the run's models begins at this client."""
        spec = self.data.train.spec
        own_start = () if self.config.common_init else (self.partition,)
        seed = derived_seed(self.config.seed_of("init"), "initial-weights", *own_start)
        name, device = self._name(architecture), self.data.device
        return _blueprint(name, spec.shape, spec.classes, seed, device)

    def _checked(self, package: Package) -> int | None:
        """Return a package's architecture, which its sender may have made up."""
        if package.architecture not in self._architectures:
            raise DeffdError("a received model is of none of the run's architectures")
        return package.architecture

    def _model_of(self, package: Package) -> nn.Module:
        architecture = self._checked(package)
        model = self._blueprint(architecture).copy()
        try:
            model.load_state_dict(dict(package.model))
        except RuntimeError as problem:
            name = self._name(architecture)
            raise DeffdError(f"a received model does not fit {name}") from problem
        return model

    def _batches(self, purpose: str, server_round: int, epochs: int) -> Iterator[Batch]:
        return map(self.data.train.batch, self._orders(purpose, server_round, epochs))

    def _orders(
        self, purpose: str, server_round: int, epochs: int, *keys: int, least: int | None = None
    ) -> Iterator[Tensor]:
        generator = torch_generator(self.config.seed, purpose, self.partition, server_round, *keys)
        least = least or self._least(self.architecture)
        return self.data.train.orders(self.config.batch_size, epochs, generator, least)


@lru_cache(maxsize=4)  # a few architectures, in a process that serves many clients
def _blueprint(name: str, shape: Shape, classes: int, seed: int, device: torch.device) -> Blueprint:
    """Return the initial model: to be copied, which costs less than drawing it again."""
    return Blueprint(build_model(name, shape, classes, seed).to(device))
