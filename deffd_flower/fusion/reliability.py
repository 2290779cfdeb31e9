"""How far a teacher is to be believed, sample by sample: the values of ``teacher-weight``."""

import math

from torch import Tensor
from torch.nn import functional

from deffd_flower.errors import DeffdError


def reliability(kind: str, logits: Tensor, labels: Tensor, held: Tensor | None) -> Tensor:
    """Return the weight of each sample in the logit term, [B], from 0 to 1.

    A teacher that never saw a class misleads on its samples (Shao et al. 2024, Nature
    Communications, "Selective knowledge sharing for privacy-preserving federated distillation").

    Args:
        kind: ``presence``: 1 where the teacher's owner has samples of the label's class, else 0.
            ``entropy``: 1 - H(p_teacher) / log C, its own confidence.
        logits: The teacher's, [B, C].
        labels: Class indices [B].
        held: The classes that the teacher's owner has samples of, bool [C].

    Raises:
        DeffdError: The owner did not say which classes it has.
    """
    if kind == "entropy":
        logs = functional.log_softmax(logits, dim=1)
        return 1 + (logs.exp() * logs).sum(1) / math.log(logits.shape[1])
    if held is None or held.shape != logits.shape[1:]:
        raise DeffdError("a received model does not say which classes its sender holds")
    return held[labels].to(logits.dtype)
