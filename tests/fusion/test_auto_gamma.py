"""gamma=auto: every feature loss starts at the same share of the cross-entropy."""

import pytest
import torch
from torch import Tensor

from deffd_flower.config import parse
from deffd_flower.fusion.gamma import FIRST_BATCHES, AutoGamma, gamma_of


def batch(entropy: float, feature: float) -> dict[str, Tensor]:
    return {"ce": torch.tensor(entropy), "feature": torch.tensor(feature)}


def test_a_given_gamma_is_used_as_it_is() -> None:
    assert gamma_of(parse({"gamma": 0.3}))(batch(2, 5)) == 0.3


def test_gamma_scales_the_feature_terms_to_a_share_of_the_cross_entropies_so_far() -> None:
    gamma = AutoGamma(0.25)
    assert float(gamma(batch(2.0, 100.0))) == pytest.approx(0.25 * 2 / 100)
    assert float(gamma(batch(1.0, 50.0))) == pytest.approx(0.25 * 3 / 150)
    assert float(gamma(batch(3.0, 0.0))) == pytest.approx(0.25 * 6 / 150)


def test_gamma_stays_after_the_first_batches() -> None:
    gamma = AutoGamma(1.0)
    for _ in range(FIRST_BATCHES):
        found = float(gamma(batch(1.0, 4.0)))
    assert float(gamma(batch(100.0, 1.0))) == found == 0.25


def test_models_that_agree_give_no_gamma_rather_than_an_infinite_one() -> None:
    gamma = AutoGamma(0.1)
    assert float(gamma(batch(1.0, 0.0))) == 0
    assert float(gamma(batch(1.0, 2.0))) == pytest.approx(0.1)


def test_the_share_is_of_the_weighted_cross_entropy() -> None:
    config = parse({"gamma": "auto", "gamma-share": 0.5, "ce-weight": 4})
    assert float(gamma_of(config)(batch(1.0, 8.0))) == pytest.approx(0.5 * 4 / 8)


def test_gamma_is_a_constant_for_the_gradient() -> None:
    entropy, feature = torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
    found = AutoGamma(0.5)({"ce": entropy, "feature": feature})
    assert isinstance(found, Tensor)
    assert not found.requires_grad
