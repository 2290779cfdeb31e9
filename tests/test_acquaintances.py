"""What a client remembers of its peers' classes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from deffd_flower.acquaintances import Acquaintances
from deffd_flower.errors import DeffdError
from deffd_flower.fusion.package import Package


def package(held: Tensor | None) -> Package:
    return Package(10, {}, {}, held)


def bits(*held: int) -> Tensor:
    return torch.tensor(held, dtype=torch.bool)


def test_peers_are_remembered_by_the_last_that_they_said() -> None:
    known = Acquaintances(bits(1, 0, 0), {7: bytes([1, 1, 1])})
    assert not known.changed
    known.meet([3, 7], [package(bits(1, 0, 0)), package(bits(0, 1, 1))])
    assert known.changed
    assert known.known == {3: bytes([1, 0, 0]), 7: bytes([0, 1, 1])}
    assert known.preference(np.random.default_rng(0)) == [7, 3]


def test_what_was_known_before_is_left_as_it_was() -> None:
    before = {7: bytes([1, 1, 1])}
    Acquaintances(bits(1, 0, 0), before).meet([3], [package(bits(1, 0, 0))])
    assert before == {7: bytes([1, 1, 1])}


@pytest.mark.parametrize("held", [None, bits(1, 0), bits(1, 0, 0, 1)])
def test_a_peer_that_does_not_say_which_classes_it_has_is_an_error(held: Tensor | None) -> None:
    known = Acquaintances(bits(1, 0, 0), {})
    with pytest.raises(DeffdError, match="which classes its sender holds"):
        known.meet([3], [package(held)])
