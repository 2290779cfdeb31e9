"""Distances between predictions."""

from torch import Tensor
from torch.nn import functional


def kullback_leibler(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over the batch.

    The order of the arguments is Def-KT's D_KL(P_teacher || P_student) (Li, Li, Varshney 2021,
    Procedure 1); T^2 keeps the gradient's size as T grows (Hinton et al. 2015).

    Args:
        student: Logits [B, C].
        teacher: Logits [B, C], detached by the caller.
        temperature: T > 0.
    """
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2
