"""Distances between predictions, the values of ``kd-loss``.

A logit loss takes the logits of student and teacher, [B, C] each, the labels [B] and the run's
keys, and returns a value for each sample, [B]. T is ``temperature``; every loss is scaled by T^2,
which keeps the gradient's size as T grows (Hinton et al. 2015). A logit loss of one's own is
registered here, or named by its dotted path.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from deffd_flower.config import RunConfig
from deffd_flower.registry import Registry

LogitLoss = Callable[[Tensor, Tensor, Tensor, RunConfig], Tensor]
logit_losses: Registry[LogitLoss] = Registry("kd-loss")


def kullback_leibler(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)) of each sample, [B].

    Args:
        student: Logits [B, C].
        teacher: Logits [B, C], detached by the caller.
        temperature: T > 0.
    """
    ours = functional.log_softmax(student / temperature, dim=1)
    theirs = functional.log_softmax(teacher / temperature, dim=1)
    return _divergence(ours, theirs) * temperature**2


@logit_losses.register("kl")
def kl(student: Tensor, teacher: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Return the Kullback-Leibler divergence D(P_teacher || P_student).

    Source: Li, Li, Varshney 2021 (Def-KT), Procedure 1, for the order of the arguments.
    """
    return kullback_leibler(student, teacher, config.temperature)


@logit_losses.register("ntd")
def not_true(student: Tensor, teacher: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Return the divergence between the classes other than the true one.

    Both softmaxes are over the C - 1 not-true classes. Source: Lee et al. 2022 (NeurIPS,
    "FedNTD"); its beta is ``kd-weight``.
    """
    others = _others(labels, student.shape[1])
    return kullback_leibler(
        student.gather(1, others), teacher.gather(1, others), config.temperature
    )


@logit_losses.register("dkd")
def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Return TCKD + ``dkd-beta`` NCKD: KL with its two parts weighted apart.

    TCKD compares true class against rest, NCKD is `not_true`; plain KL weights NCKD by the
    teacher's 1 - p(true class). Source: Zhao et al. 2022 (CVPR, "Decoupled knowledge
    distillation") with alpha = 1; beta = 8 is its choice for CIFAR-100.
    """
    temperature = config.temperature
    ours, theirs = (_true_or_not(logits / temperature, labels) for logits in (student, teacher))
    true_class = _divergence(ours, theirs) * temperature**2
    return true_class + config.dkd_beta * not_true(student, teacher, labels, config)


@logit_losses.register("dist")
def correlation(student: Tensor, teacher: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """Return one minus Pearson's correlation of the probabilities, by sample and by class.

    The part by class compares how the batch's samples rank in it; it is the same for every sample
    of the batch. Source: Huang et al. 2022 (NeurIPS, "DIST") with weights 1.
    """
    temperature = config.temperature
    ours, theirs = ((logits / temperature).softmax(1) for logits in (student, teacher))
    by_sample = 1 - _pearson(ours, theirs)
    by_class = 1 - _pearson(ours.T, theirs.T).mean()
    return (by_sample + by_class) * temperature**2


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of log-probabilities, row by row."""
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def _others(labels: Tensor, classes: int) -> Tensor:
    """Return the indices of all classes but the label, [B, C - 1]."""
    places = torch.arange(classes - 1, device=labels.device)
    return places + (places >= labels.unsqueeze(1))


def _true_or_not(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the log-probabilities of the true class and of all others together, [B, 2]."""
    logs = functional.log_softmax(logits, dim=1)
    true = logs.gather(1, labels.unsqueeze(1))
    rest = logs.gather(1, _others(labels, logits.shape[1])).logsumexp(1, keepdim=True)
    return torch.cat([true, rest], dim=1)


def _pearson(one: Tensor, other: Tensor) -> Tensor:
    """Return the correlation of each row with its counterpart."""
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (one, other))
    return functional.cosine_similarity(one, other, dim=1)
