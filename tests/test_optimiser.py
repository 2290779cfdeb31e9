"""Our optimiser against PyTorch's class, to the bit."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.optimiser import SGD

PROGRAM = """
import sys, torch
from deffd_flower.data.client import client_data
from deffd_flower.fusion.package import Package
from deffd_flower.peer import Peer
from deffd_flower.request import resolve

config = resolve({"dataset": "digits", "clients": 2, "local-epochs": 1})
peer = Peer(0, client_data(config, 0), config)
peer.check()
peer.train(1)
peer.fuse([Package.decode(peer.package([]))], 1)
peer.evaluate()
heavy = ("torch._dynamo", "sklearn", "torchvision", "matplotlib", "sympy", "scipy", "ray")
print([name for name in heavy if name in sys.modules])
"""


class Net(nn.Module):
    """Three layers, of which the last can be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)
        self.last = nn.Linear(3, 3)

    def forward(self, values: Tensor, whole: bool) -> Tensor:
        maps: Tensor = self.second(self.first(values).relu())
        return self.last(maps) if whole else maps


def net(seed: int) -> Net:
    torch.manual_seed(seed)
    return Net()


def steps(model: Net, optimiser: torch.optim.SGD | SGD, skipped: int = 0) -> list[Tensor]:
    """Make some steps; in the first ones the last layer takes no part."""
    generator = torch.Generator().manual_seed(1)
    for number in range(6):
        inputs = torch.randn(4, 5, generator=generator)
        optimiser.zero_grad()
        torch.autograd.backward(model(inputs, whole=number >= skipped).square().sum())
        optimiser.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("skipped", [0, 3])
def test_steps_are_those_of_pytorch_to_the_bit(momentum: float, skipped: int) -> None:
    ours, theirs = net(1), net(1)
    got = steps(ours, SGD(ours.parameters(), 0.01, momentum), skipped)
    judge = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=momentum)
    expected = steps(theirs, judge, skipped)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert not torch.equal(got[0], next(net(1).parameters()))


def test_parameters_may_be_added_later() -> None:
    ours, theirs = net(1), net(1)
    optimiser = SGD(ours.first.parameters(), 0.01, 0.9)
    optimiser.add(ours.second.parameters())
    optimiser.add(ours.last.parameters())
    got = steps(ours, optimiser)
    expected = steps(theirs, torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_what_does_not_learn_stays() -> None:
    model = net(1)
    model.first.requires_grad_(False)
    before = model.first.weight.detach().clone()
    after = steps(model, SGD(model.parameters(), 0.01, 0.9))
    assert torch.equal(after[0], before)
    assert not torch.equal(after[2], net(1).second.weight)


def test_a_clients_process_imports_nothing_heavy_but_pytorch() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
