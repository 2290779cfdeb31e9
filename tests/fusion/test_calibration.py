"""Calibrated cross-entropies against their closed forms."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deffd_flower.config import RunConfig, parse
from deffd_flower.errors import RequestError
from deffd_flower.fusion.calibration import CrossEntropy, calibrations

Array = NDArray[np.float64]
COUNTS = [30, 0, 10, 60]
LABELS = [3, 0, 2, 3, 3]


def logits(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((len(LABELS), len(COUNTS)), generator=generator, dtype=torch.float64)


def cross_entropy(name: str, counts: list[int] | None = None, **keys: object) -> CrossEntropy:
    return calibrations.get(name)(torch.tensor(counts or COUNTS), config_of(**keys))


def config_of(**keys: object) -> RunConfig:
    return parse({key.replace("_", "-"): value for key, value in keys.items()})


def closed_form(name: str, z: Array, label: int) -> float:
    """-log of the adjusted share of the true class, term by term."""
    n = sum(COUNTS)
    weights = []
    for value, count in zip(z, COUNTS, strict=True):
        if name == "prior":
            weights.append((count / n + 1e-4) * np.exp(value))
        elif name == "smoothed-prior":
            weights.append((count + 1) / (n + 4) * np.exp(value))
        elif name == "fedrs":
            weights.append(np.exp(value if count else 0.3 * value))
        elif name == "fedlc":
            weights.append(np.exp(value - 0.7 * count**-0.25) if count else 0.0)
        else:
            weights.append(np.exp(value))
    return float(-np.log(weights[label] / np.sum(weights)))


NAMES = ["none", "prior", "smoothed-prior", "fedrs", "fedlc"]


def test_every_registered_calibration_has_a_closed_form_here() -> None:
    assert sorted(calibrations.names()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_calibration_is_its_closed_form(name: str) -> None:
    loss = cross_entropy(name, fedrs_alpha=0.3, fedlc_tau=0.7)(logits(), torch.tensor(LABELS))
    forms = [closed_form(name, z, y) for z, y in zip(logits().numpy(), LABELS, strict=True)]
    assert loss.item() == pytest.approx(float(np.mean(forms)), rel=1e-6)


def test_without_calibration_it_is_pytorchs_own_function() -> None:
    assert cross_entropy("none") is functional.cross_entropy


@pytest.mark.parametrize("name", ["prior", "smoothed-prior", "fedlc"])
def test_equal_counts_change_nothing(name: str) -> None:
    labels = torch.tensor(LABELS)
    loss = cross_entropy(name, [25, 25, 25, 25])(logits(), labels)
    assert loss.item() == pytest.approx(functional.cross_entropy(logits(), labels).item())


def test_the_prior_alone_fits_the_label_distribution() -> None:
    """With z = 0 the adjusted softmax is the label distribution: nothing of it is left to learn."""
    z = torch.zeros(100, 4, requires_grad=True)
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    torch.autograd.backward(cross_entropy("prior")(z, labels))
    assert z.grad is not None
    assert z.grad.sum(0).abs().max() < 1e-3
    torch.autograd.backward(cross_entropy("none")(z, labels))
    assert z.grad.sum(0).abs().max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_absent_classes_are_pushed_down_less(name: str) -> None:
    pushes = {}
    for kind in ("none", name):
        z = logits().requires_grad_()
        torch.autograd.backward(cross_entropy(kind)(z, torch.tensor(LABELS)))
        assert z.grad is not None
        assert z.grad.isfinite().all()
        pushes[kind] = z.grad[:, 1].sum().item()
    assert pushes["none"] > 0
    if name == "fedlc":
        assert pushes[name] == 0
    elif name != "none":
        assert 0 < pushes[name] < pushes["none"]


def test_an_unknown_calibration_names_the_known_ones() -> None:
    with pytest.raises(
        RequestError, match=r"calibrate=priors: .*none, prior.*Did you mean 'prior'"
    ):
        calibrations.get("priors")


def test_a_calibration_of_ones_own_is_found_by_its_path() -> None:
    path = "tests.fusion.test_calibration:reweighted"
    loss = cross_entropy(path)(logits(), torch.tensor(LABELS))
    weights = torch.tensor([100 / 30, 0, 10, 100 / 60], dtype=torch.float64)
    assert loss.item() == pytest.approx(
        functional.cross_entropy(logits(), torch.tensor(LABELS), weights).item()
    )


def reweighted(counts: Tensor, config: RunConfig) -> CrossEntropy:
    """Inverse class frequencies, as somebody might add them."""
    weights = torch.where(counts > 0, counts.sum() / counts.clamp(min=1).double(), 0.0)
    return lambda z, labels: functional.cross_entropy(z, labels, weights)
