"""Logit losses against their definitions, sample by sample in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deffd_flower.config import RunConfig, parse
from deffd_flower.errors import RequestError
from deffd_flower.fusion.logits import logit_losses

Array = NDArray[np.float64]
LABELS = [2, 0, 3, 2, 1, 0]
BATCH, CLASSES = 6, 4


def logits(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((BATCH, CLASSES), generator=generator, dtype=torch.float64)


def softmax(row: Array, temperature: float) -> Array:
    powers: Array = np.exp(row / temperature)
    return np.asarray(powers / powers.sum())


def divergence(p: Array, q: Array) -> float:
    return float((p * np.log(p / q)).sum())


def kl(s: Array, t: Array, label: int, temperature: float) -> float:
    return temperature**2 * divergence(softmax(t, temperature), softmax(s, temperature))


def ntd(s: Array, t: Array, label: int, temperature: float) -> float:
    return kl(np.delete(s, label), np.delete(t, label), 0, temperature)


def tckd(s: Array, t: Array, label: int, temperature: float) -> float:
    p, q = (softmax(row, temperature)[label] for row in (t, s))
    return temperature**2 * divergence(np.array([p, 1 - p]), np.array([q, 1 - q]))


def expected(name: str, student: Array, teacher: Array, config: RunConfig) -> Array:
    rows = list(zip(student, teacher, LABELS, [config.temperature] * BATCH, strict=True))
    if name == "dkd":
        return np.array([tckd(*row) + config.dkd_beta * ntd(*row) for row in rows])
    if name == "dist":
        p, q = (
            np.array([softmax(row, config.temperature) for row in of]) for of in (teacher, student)
        )
        across = np.mean([1 - np.corrcoef(p[:, c], q[:, c])[0, 1] for c in range(CLASSES)])
        within = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
        result: Array = config.temperature**2 * (within + across)
        return result
    plain: dict[str, Callable[[Array, Array, int, float], float]] = {"kl": kl, "ntd": ntd}
    return np.array([plain[name](*row) for row in rows])


NAMES = ["kl", "ntd", "dkd", "dist"]


def test_every_registered_loss_has_a_definition_here() -> None:
    assert sorted(logit_losses.names()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_loss_is_its_definition_for_each_sample(name: str, temperature: float) -> None:
    config = parse({"temperature": temperature, "dkd-beta": 2.5})
    student, teacher = logits(1), logits(2)
    measured = logit_losses.get(name)(student, teacher, torch.tensor(LABELS), config)
    assert measured.shape == (BATCH,)
    wanted = expected(name, student.numpy(), teacher.numpy(), config)
    assert measured.numpy() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_equal_predictions_are_at_distance_zero_with_zero_gradient(name: str) -> None:
    student = logits(3).requires_grad_()
    loss = logit_losses.get(name)(student, logits(3), torch.tensor(LABELS), parse({}))
    torch.autograd.backward(loss.mean())
    assert loss.abs().max().item() < 1e-9
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-9


def test_kl_is_the_decoupled_loss_with_the_teachers_own_weight() -> None:
    """KL = TCKD + (1 - p_t) NCKD (Zhao et al. 2022): the split loses nothing."""
    student, teacher, labels = logits(4), logits(5), torch.tensor(LABELS)
    parts = {
        beta: logit_losses.get("dkd")(student, teacher, labels, parse({"dkd-beta": beta}))
        for beta in (0, 1)
    }
    unsure = 1 - teacher.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    whole = parts[0] + unsure * (parts[1] - parts[0])
    assert torch.allclose(whole, logit_losses.get("kl")(student, teacher, labels, parse({})))


@pytest.mark.parametrize("name", ["ntd", "dkd"])
def test_the_not_true_part_does_not_look_at_the_true_logit(name: str) -> None:
    config = parse({"dkd-beta": 1})
    labels = torch.tensor(LABELS)
    moved = logits(6).scatter_add(1, labels.unsqueeze(1), torch.full((BATCH, 1), 3.0).double())
    plain, changed = (
        logit_losses.get("ntd")(student, logits(7), labels, config)
        for student in (logits(6), moved)
    )
    assert torch.allclose(plain, changed)
    if name == "dkd":
        loss = logit_losses.get("dkd")
        assert not torch.allclose(
            loss(logits(6), logits(7), labels, config), loss(moved, logits(7), labels, config)
        )


@given(scale=st.floats(0.1, 1000))
@settings(deadline=None, max_examples=25)
def test_confident_predictions_leave_losses_and_gradients_finite(scale: float) -> None:
    for name in NAMES:
        student = (scale * logits(8)).float().requires_grad_()
        teacher = (scale * logits(9)).float()
        loss = logit_losses.get(name)(student, teacher, torch.tensor(LABELS), parse({}))
        torch.autograd.backward(loss.mean())
        assert student.grad is not None
        assert loss.isfinite().all()
        assert student.grad.isfinite().all()


def test_an_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"kd-loss=kld: must be one of dist, dkd, kl, ntd"):
        logit_losses.get("kld")
