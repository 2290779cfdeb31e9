"""What does not fit is found when a client introduces itself, before anything is trained."""

import pytest
import torch
from torch import nn

from deffd_flower.data.client import client_data
from deffd_flower.errors import RequestError
from deffd_flower.peer import Peer
from deffd_flower.request import resolve


def peer(**keys: object) -> Peer:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    config = resolve({"dataset": "digits", "clients": 4, **given})
    return Peer(0, client_data(config, 0), config)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"feature_loss": "at", "model": "mlp"}, "feature-loss=at: needs maps with height"),
        ({"feature_layers": "conv9"}, "feature-layers=conv9: the model has no conv9"),
        ({"kd_loss": "kdl"}, "kd-loss=kdl: must be one of"),
        ({"strategy": "average-then-distil", "kd_loss": "kdl"}, "kd-loss=kdl: must be one of"),
        ({"calibrate": "priors"}, "calibrate=priors: must be one of"),
        ({"calibrate": "priors", "strategy": "local"}, "calibrate=priors: must be one of"),
    ],
)
def test_a_name_that_is_not_there_or_does_not_fit_is_told(
    keys: dict[str, object], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        peer(**keys).check()


def dropping(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A network with running statistics, and with a layer that draws."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(4 * shape[1] * shape[2], classes),
    )


@pytest.mark.parametrize("feature_loss", ["l2", "fitnet", "ccl", "rkd"])
@pytest.mark.parametrize("strategy", ["def-fd", "average-then-distil"])
def test_the_rehearsal_leaves_no_trace(strategy: str, feature_loss: str) -> None:
    one = peer(
        strategy=strategy,
        feature_loss=feature_loss,
        gamma="auto",
        calibrate="prior",
        teacher_weight="presence",
        model="tests.fusion.test_rehearsal:dropping",
    )
    before, drawn = one.weights(), torch.random.get_rng_state()
    one.check()
    assert one.weights() == before
    assert torch.equal(torch.random.get_rng_state(), drawn)
