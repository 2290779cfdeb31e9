"""The paper's protocol as a bare PyTorch loop: no Flower, no sealing, no keys, no bookkeeping.

It is written for one configuration, holds all clients in one list and hands models over by
copying them. Pairs, initial weights and the order of the batches are looked up as a run would, so
that both end with the same weights.
"""

import copy

import torch
from torch import Tensor, nn

from deffd_flower.config import RunConfig
from deffd_flower.data.client import client_data
from deffd_flower.data.datasets import normalise
from deffd_flower.peer import Peer
from deffd_flower.randomness import torch_generator
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import plans
from deffd_flower.strategy.topology import topology

cross_entropy = nn.functional.cross_entropy


class BareLoop:
    """Def-FD over all clients, with images as channels-last floats in memory from the start.

    Args:
        config: A resolved config with ``strategy=def-fd`` and the defaults for everything that
            says how to fuse.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.models: list[nn.Module] = []
        self._data: list[tuple[Tensor, Tensor]] = []
        for client in range(config.clients):
            data = client_data(config, client)
            images = normalise(data.train.images, data.train.spec)
            self._data.append((images, data.train.labels))
            self.models.append(Peer(client, data, config).model)
        # PyTorch's first optimiser imports its compiler, which is no part of any round.
        self._optimiser(self.models[0])
        graph = topology(config)
        rounds = range(1, config.rounds + 1)
        plan = plans.get("pairs")
        self._plans = {number: plan(Knowledge(config, graph, number)) for number in rounds}
        self._mail: dict[int, nn.Module] = {}

    def round(self, number: int) -> None:
        """Let every client with mail fuse, then the senders train and hand over."""
        self.deliver(number - 1)
        for transfer in self._plans[number].transfers:
            self._train(transfer.sender, number)
            self._mail[transfer.receiver] = copy.deepcopy(self.models[transfer.sender])

    def deliver(self, sent_in: int) -> None:
        """Let every client fuse what was sent to it in a round."""
        mail, self._mail = self._mail, {}
        for client, received in mail.items():
            self._fuse(client, received, sent_in)
            self.models[client] = received

    def _train(self, client: int, number: int) -> None:
        model = self.models[client].train()
        optimiser = self._optimiser(model)
        order = torch_generator(self.config.seed, "train", client, number)
        images, labels = self._data[client]
        for _ in range(self.config.local_epochs):
            shuffled = torch.randperm(len(labels), generator=order)
            for chosen in torch.split(shuffled, self.config.batch_size):
                loss = cross_entropy(model(images[chosen]), labels[chosen])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()

    def _fuse(self, client: int, received: nn.Module, sent_in: int) -> None:
        models = received.train(), self.models[client].train()
        optimisers = [self._optimiser(model) for model in models]
        order = torch_generator(self.config.seed, "fuse", client, sent_in, 0)
        images, labels = self._data[client]
        for _ in range(self.config.fusion_epochs):
            shuffled = torch.randperm(len(labels), generator=order)
            for chosen in torch.split(shuffled, self.config.batch_size):
                theirs, ours = (_predict(model, images[chosen]) for model in models)
                for optimiser, student, teacher in (
                    (optimisers[0], theirs, ours),
                    (optimisers[1], ours, theirs),
                ):
                    optimiser.zero_grad()
                    torch.autograd.backward(self._loss(student, teacher, labels[chosen]))
                for optimiser in optimisers:
                    optimiser.step()

    def _loss(self, student: list[Tensor], teacher: list[Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy, KL divergence and the feature maps' distances; last comes the logits."""
        *features, logits = student
        *targets, target = (output.detach() for output in teacher)
        divergence = nn.functional.kl_div(
            logits.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True
        )
        distances = [
            (mine - other).permute(0, 2, 3, 1).flatten(1).norm(dim=1).mean()
            for mine, other in zip(features, targets, strict=True)
        ]
        apart = torch.stack(distances).sum()
        weights = self.config.ce_weight, self.config.kd_weight, float(self.config.gamma)
        terms = cross_entropy(logits, labels), divergence, apart
        return torch.stack([w * term for w, term in zip(weights, terms, strict=True)]).sum()

    def _optimiser(self, model: nn.Module) -> torch.optim.SGD:
        return torch.optim.SGD(model.parameters(), lr=self.config.lr, momentum=self.config.momentum)


def _predict(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the feature maps of all convolutions, then the logits."""
    outputs = []
    for layer in model.children():
        images = layer(images)
        if isinstance(layer, nn.Conv2d):
            outputs.append(images)
    return [*outputs, images]
