"""The objective and its logit term against closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.config import parse
from deffd_flower.fusion.logits import kullback_leibler
from deffd_flower.fusion.objective import Objective, Prediction

LABELS = torch.tensor([0, 2, 1])


def logits(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((3, 4), generator=generator, dtype=torch.float64)


def features(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((3, size), generator=generator, dtype=torch.float64) for size in (7, 5)]


def divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> float:
    p = np.exp(teacher.numpy() / temperature)
    q = np.exp(student.numpy() / temperature)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return float((p * np.log(p / q)).sum(1).mean())


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_logit_distillation_is_kl_of_teacher_from_student_times_t_squared(
    temperature: float,
) -> None:
    student, teacher = logits(1), logits(2)
    expected = temperature**2 * divergence(teacher, student, temperature)
    measured = kullback_leibler(student, teacher, temperature).mean().item()
    assert measured == pytest.approx(expected, rel=1e-12)
    reversed_ = temperature**2 * divergence(student, teacher, temperature)
    assert measured != pytest.approx(reversed_, rel=1e-3)


def test_t_squared_keeps_the_gradient_for_soft_targets() -> None:
    def gradient(temperature: float) -> torch.Tensor:
        student = logits(3).requires_grad_()
        torch.autograd.backward(kullback_leibler(student, logits(4), temperature).mean())
        assert student.grad is not None
        return student.grad

    # For large T the gradient tends to (s - t - means) / C, whatever T is (Hinton et al. 2015).
    gap = logits(3) - logits(4)
    limit = (gap - gap.mean(1, keepdim=True)) / gap.numel()
    assert torch.allclose(gradient(1e4), limit, rtol=1e-3, atol=1e-6)


@given(shift=st.floats(-50, 50))
@settings(deadline=None, max_examples=25)
def test_a_constant_added_to_all_logits_changes_nothing(shift: float) -> None:
    plain = kullback_leibler(logits(5), logits(6), 1.0)
    assert torch.allclose(kullback_leibler(logits(5) + shift, logits(6), 1.0), plain)


def test_the_objective_is_the_weighted_sum_of_its_terms() -> None:
    config = parse({"ce-weight": 0.5, "kd-weight": 2, "gamma": 0.3, "feature-loss": "mse"})
    student, teacher = Prediction(logits(1), features(1)), Prediction(logits(2), features(2))
    total, terms = Objective(config)(student, [teacher], LABELS)
    log_softmax = student.logits - student.logits.logsumexp(1, keepdim=True)
    entropy = -log_softmax[range(3), LABELS].mean().item()
    gap = sum(
        float(((s - t) ** 2).mean())
        for s, t in zip(student.features, teacher.features, strict=True)
    )
    assert terms["ce"].item() == pytest.approx(entropy)
    assert terms["kl"].item() == pytest.approx(divergence(teacher.logits, student.logits, 1))
    assert terms["feature"].item() == pytest.approx(gap)
    expected = 0.5 * entropy + 2 * terms["kl"].item() + 0.3 * gap
    assert total.item() == pytest.approx(expected)


def test_terms_of_weight_zero_are_not_computed() -> None:
    config = parse({"kd-weight": 0, "gamma": 0})
    objective = Objective(config)
    total, terms = objective(Prediction(logits(1), []), [], LABELS)
    assert set(terms) == {"ce"}
    assert total.item() == pytest.approx(terms["ce"].item())
    assert not objective.needs_teacher


def test_a_detached_prediction_takes_no_gradient() -> None:
    teacher = Prediction(logits(2).requires_grad_(), [f.requires_grad_() for f in features(2)])
    student = Prediction(logits(1).requires_grad_(), [f.requires_grad_() for f in features(1)])
    total, _ = Objective(parse({}))(student, [teacher.detached()], LABELS)
    torch.autograd.backward(total)
    assert student.logits.grad is not None
    assert teacher.logits.grad is None
    assert all(map_.grad is None for map_ in teacher.features)
