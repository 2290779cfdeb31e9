"""How well one client's model does, on everybody's classes and on its own."""

import math

import torch
from torch import Tensor, nn

from deffd_flower.data.client import ClientData
from deffd_flower.training import Samples


def batch_size(device: torch.device) -> int:
    """Return how many images to put through a model at once when nothing is to be learnt.

    The activations of about a hundred images stay in a core's cache; a thousand take five times
    longer. A GPU has no such cache; what counts there is how often it is called.
    """
    return 125 if device.type == "cpu" else 1000


def evaluate(model: nn.Module, data: ClientData, test_samples: int = 0) -> dict[str, float]:
    """Return the accuracies of one model, as fractions; NaN where there is nothing to count.

    Args:
        model: Left in evaluation mode.
        data: The client's samples and those everybody is judged on.
        test_samples: Images everybody is judged on to use, the first of them; 0 for all.

    Returns:
        ``global_accuracy`` on the test set or validation split; ``held_accuracy`` and
        ``absent_accuracy`` on its images of classes the client does and does not train on;
        ``local_accuracy`` on the client's held-out samples, and ``local_accuracy_prior`` with the
        log of its label distribution added to the logits (Menon et al. 2021, reversed).
    """
    model.eval()
    counts = data.label_counts.to(data.device)
    held = counts > 0
    everybodys = _first(data.test, test_samples)
    right = _logits(model, everybodys).argmax(1) == everybodys.labels
    of_held_class = held[everybodys.labels]
    own = _logits(model, data.held_out)
    log_prior = (counts / counts.sum()).log()
    return {
        "global_accuracy": _mean(right),
        "held_accuracy": _mean(right[of_held_class]),
        "absent_accuracy": _mean(right[~of_held_class]),
        "local_accuracy": _mean(own.argmax(1) == data.held_out.labels),
        "local_accuracy_prior": _mean((own + log_prior).argmax(1) == data.held_out.labels),
    }


@torch.inference_mode()
def _logits(model: nn.Module, samples: Samples) -> Tensor:
    """Return the logits of all samples, [N, C]."""
    size = batch_size(samples.labels.device)
    return torch.cat([model(images).float() for images, _ in samples.batches(size)])


def _first(samples: Samples, limit: int) -> Samples:
    chosen = slice(limit or None)
    return Samples(samples.images[chosen], samples.labels[chosen], samples.spec)


def _mean(right: Tensor) -> float:
    return right.float().mean().item() if len(right) else math.nan
