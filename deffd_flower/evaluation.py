"""How well one client's model does, on everybody's classes and on its own."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deffd_flower.data.client import ClientData
from deffd_flower.training import Samples

# Activations of about a hundred images stay in a core's cache; a thousand take five times longer.
BATCH = 125


def evaluate(model: nn.Module, data: ClientData, test_samples: int = 0) -> dict[str, float]:
    """Return the accuracies of one model, as fractions; NaN where there is nothing to count.

    Args:
        model: Left in evaluation mode.
        data: The client's samples and the global test set.
        test_samples: Global test images to use, the first of them; 0 for all.

    Returns:
        ``global_accuracy`` on the global test set; ``held_accuracy`` and ``absent_accuracy``
        on its images of classes the client does and does not train on; ``local_accuracy`` on the
        client's held-out samples, and ``local_accuracy_prior`` with the log of its label
        distribution added to the logits (Menon et al. 2021, reversed).
    """
    model.eval()
    counts = data.label_counts.to(data.device)
    held = counts > 0
    right, labels = _hits(model, data.test, test_samples)
    local_right, _ = _hits(model, data.held_out)
    prior_right, _ = _hits(model, data.held_out, log_prior=(counts / counts.sum()).log())
    return {
        "global_accuracy": _mean(right),
        "held_accuracy": _mean(right[held[labels]]),
        "absent_accuracy": _mean(right[~held[labels]]),
        "local_accuracy": _mean(local_right),
        "local_accuracy_prior": _mean(prior_right),
    }


@torch.inference_mode()
def _hits(
    model: nn.Module, samples: Samples, limit: int = 0, log_prior: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return whether each sample is classified correctly, and the labels, both [N]."""
    hits = []
    for images, labels in _first(samples, limit):
        logits = model(images).float()
        if log_prior is not None:
            logits = logits + log_prior
        hits.append(logits.argmax(1) == labels)
    right = torch.cat(hits)
    return right, samples.labels[: len(right)]


def _first(samples: Samples, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    chosen = slice(limit or None)
    part = Samples(samples.images[chosen], samples.labels[chosen], samples.spec)
    return part.batches(BATCH)


def _mean(right: Tensor) -> float:
    return right.float().mean().item() if len(right) else math.nan
