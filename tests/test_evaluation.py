"""Accuracies of one model against counting by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.data.client import ClientData, client_data
from deffd_flower.data.datasets import normalise
from deffd_flower.evaluation import evaluate
from deffd_flower.peer import Peer
from deffd_flower.request import resolve
from deffd_flower.training import Samples

Counted = list[tuple[Tensor, int]]


@pytest.fixture(scope="module")
def peer() -> Peer:
    config = resolve(
        {"dataset": "digits", "clients": 4, "classes-per-client": 5, "local-epochs": 3}
    )
    peer = Peer(1, client_data(config, 1), config)
    peer.train(1)
    return peer


@torch.no_grad()
def counted(model: nn.Module, samples: Samples) -> Counted:
    """Return the logits of each sample, one after the other, and its label."""
    model.eval()
    return [
        (model(normalise(image[None], samples.spec))[0], int(label))
        for image, label in zip(samples.images, samples.labels, strict=True)
    ]


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


@pytest.mark.parametrize("limit", [0, 200])
def test_accuracies_are_counts(peer: Peer, limit: int) -> None:
    data = peer.data
    found = evaluate(peer.model, data, limit)
    test = [(int(z.argmax()), y) for z, y in counted(peer.model, data.test)][: limit or None]
    held = set(data.label_counts.nonzero().flatten().tolist())
    own = counted(peer.model, data.held_out)
    prior = (data.label_counts / data.label_counts.sum()).log()
    assert found == pytest.approx(
        {
            "global_accuracy": share([guess == y for guess, y in test]),
            "held_accuracy": share([guess == y for guess, y in test if y in held]),
            "absent_accuracy": share([guess == y for guess, y in test if y not in held]),
            "local_accuracy": share([int(z.argmax()) == y for z, y in own]),
            "local_accuracy_prior": share([int((z + prior).argmax()) == y for z, y in own]),
        },
        abs=1e-6,
    )
    assert found["local_accuracy"] > 0.3


def test_each_image_goes_through_the_model_once(peer: Peer) -> None:
    seen: list[int] = []
    hook = peer.model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    evaluate(peer.model, peer.data, 200)
    hook.remove()
    assert sum(seen) == 200 + len(peer.data.held_out)


def test_what_cannot_be_counted_is_no_number(peer: Peer) -> None:
    data: ClientData = replace(peer.data, label_counts=torch.ones(10, dtype=torch.int64))
    found = evaluate(peer.model, data, 200)
    assert found["absent_accuracy"] != found["absent_accuracy"]
    assert found["held_accuracy"] == found["global_accuracy"]
