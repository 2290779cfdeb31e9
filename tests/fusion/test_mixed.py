"""Clients of different architectures: what a receiver keeps, builds and refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deffd_flower.data.client import ClientData, client_data
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.fusion.objective import Objective
from deffd_flower.fusion.package import Package
from deffd_flower.peer import Peer
from deffd_flower.rehearsal import check_clients
from deffd_flower.request import resolve
from deffd_flower.training import Samples
from deffd_flower.transport.codec import decode_tensors, encode_tensors

HERE = "tests.fusion.mixed"
MIXED = f"{HERE}:shallow,{HERE}:deep,{HERE}:flat"


def peer(client: int, samples: int = 0, **keys: Any) -> Peer:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    usual = {"dataset": "digits", "clients": 6, "local-epochs": 1, "model": MIXED}
    config = resolve({**usual, **given})
    return Peer(client, limited(client_data(config, client), samples), config)


def limited(data: ClientData, samples: int) -> ClientData:
    chosen = slice(samples or None)
    train = Samples(data.train.images[chosen], data.train.labels[chosen], data.train.spec)
    return replace(data, train=train)


def sent(client: int, **keys: Any) -> Package:
    sender = peer(client, **keys)
    sender.train(1)
    return Package.decode(sender.package([]))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def state(of: Peer | nn.Module) -> dict[str, Tensor]:
    model = of.model if isinstance(of, Peer) else of
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("loss", ["l2", "mse", "l2-sq", "l2-norm", "cos", "ccl", "fitnet", "sp"])
@pytest.mark.parametrize("keeps", ["received", "own"])
def test_a_receiver_learns_from_another_architecture_and_keeps_its_own(
    loss: str, keeps: str
) -> None:
    keys: dict[str, Any] = {"feature_loss": loss, "gamma": "auto", "receiver_keeps": keeps}
    for sender, receiver in ((1, 0), (0, 2), (2, 0), (2, 1)):
        own = peer(receiver, **keys)
        before = state(own)
        terms = own.fuse([sent(sender, **keys)], 1)
        assert state(own).keys() == before.keys()
        assert not same(state(own), before)
        assert all(terms[name] > 0 for name in ("ce", "kl", "feature"))


def test_between_equal_architectures_nothing_is_different() -> None:
    """Clients 0 and 3 have the same model: they do what they do where everybody has it."""
    keys: dict[str, Any] = {"feature_loss": "mse", "gamma": 1, "lr": 1e-6}
    own, one = peer(3, **keys), peer(3, model=f"{HERE}:shallow", **keys)
    package = sent(0, **keys)
    assert own.fuse([package], 1) == one.fuse([replace(package, architecture=None)], 1)
    assert same(state(own), state(one))
    assert all(torch.allclose(v, package.model[n], atol=1e-3) for n, v in state(own).items())


@pytest.mark.parametrize("model", ["cnn*3", "cnn,cnn", " cnn "])
def test_one_name_however_written_gives_the_same_weights_and_packages(model: str) -> None:
    one, other = peer(1, model="cnn"), peer(1, model=model)
    assert one.weights() == other.weights()
    assert one.package([]) == other.package([])
    assert b"architecture" not in one.package([])


def test_a_model_starts_alike_whoever_else_is_there() -> None:
    assert peer(3).weights() == peer(0).weights() == peer(1, model=f"{HERE}:shallow").weights()
    own = [peer(client, common_init=False) for client in (0, 3)]
    assert (
        own[0].weights()
        != own[1].weights()
        == peer(3, common_init=False, model=f"{HERE}:shallow").weights()
    )


def test_a_package_says_which_of_the_runs_models_it_is() -> None:
    assert [sent(client).architecture for client in range(4)] == [0, 1, 2, 0]
    one = sent(0, model=f"{HERE}:shallow")
    assert one.architecture is None
    assert len(replace(sent(0), architecture=None).encode()) == len(one.encode())


LIES: list[tuple[dict[str, Any], str]] = [
    ({"architecture": 3}, "is of none of the run's architectures"),
    ({"architecture": -1}, "is of none of the run's architectures"),
    ({"architecture": None}, "is of none of the run's architectures"),
    ({"architecture": 0}, "a received model does not fit tests.fusion.mixed:shallow"),
    ({"model": {}}, "a received model does not fit tests.fusion.mixed:deep"),
]


@pytest.mark.parametrize(("lie", "told"), LIES)
def test_a_package_that_lies_about_itself_changes_nothing(lie: dict[str, Any], told: str) -> None:
    own = peer(0)
    before = state(own)
    forged = Package.decode(replace(sent(1), **lie).encode())
    with pytest.raises(DeffdError, match=told):
        own.fuse([forged], 1)
    assert same(state(own), before)


def test_where_there_is_one_architecture_a_package_cannot_ask_for_another() -> None:
    own = peer(0, model="cnn")
    forged = replace(Package.decode(own.package([])), architecture=0)
    with pytest.raises(DeffdError, match="is of none of the run's architectures"):
        own.fuse([forged], 1)


@pytest.mark.parametrize("content", [torch.tensor([0, 1]), torch.tensor(float("inf"))])
def test_an_architecture_that_is_no_number_is_no_package(content: Tensor) -> None:
    tensors = decode_tensors(sent(1).encode())
    with pytest.raises(DeffdError, match="not a model package"):
        Package.decode(encode_tensors({**tensors, "architecture": content}))


def test_several_models_of_different_architectures_are_fused_in_turn() -> None:
    own = peer(0, gamma=0.1)
    before = state(own)
    own.fuse([sent(1), sent(3), sent(2)], 1)
    assert state(own).keys() == before.keys()


def test_adapters_are_drawn_anew_for_each_client_and_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Tensor] = []
    adapt = Objective.adapt

    def note(self: Objective, *arguments: Any) -> list[nn.Parameter]:
        trained = list(adapt(self, *arguments))
        drawn.append(trained[0].detach().clone())
        return trained

    monkeypatch.setattr(Objective, "adapt", note)
    keys: dict[str, Any] = {"feature_loss": "mse", "gamma": 1}
    package = sent(1, **keys)
    scenes = [(0, 1), (0, 1), (0, 2), (3, 1)]
    for client, number in scenes:
        peer(client, **keys).fuse([package], number)
    firsts = drawn[::2]
    assert [torch.equal(firsts[0], other) for other in firsts[1:]] == [True, False, False]


@pytest.mark.parametrize("loss", ["at", "sp", "rkd", "pkt"])
def test_relational_losses_train_nothing_beside_the_model(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Objective, "adapt")
    keys: dict[str, Any] = {"feature_loss": loss, "gamma": 1}
    assert peer(0, **keys).fuse([sent(1, **keys)], 1)["feature"] > 0


def test_a_short_batch_is_left_out_if_either_model_normalises_over_the_batch() -> None:
    keys: dict[str, Any] = {"model": "cnn,defkt-cnn", "batch_size": 4, "strategy": "def-kt"}
    for receiver in (0, 1):
        mail = sent(1 - receiver, **keys)
        short = peer(receiver, samples=5, **keys)
        short.fuse([mail], 1)
    with pytest.raises(RequestError, match="batch-size=1: must be at least 2: defkt-cnn norm"):
        peer(0, **{**keys, "batch_size": 1}).check()
    with pytest.raises(RequestError, match=r"model=defkt-cnn: norm.* client 0 trains on one"):
        peer(0, samples=1, **keys).check()
    peer(0, samples=1, **{**keys, "strategy": "local"}).check()


UNFIT: list[tuple[dict[str, Any], str]] = [
    (
        {"feature_layers": "conv3", "model": f"{HERE}:deep,{HERE}:shallow"},
        "feature-layers=conv3: tests.fusion.mixed:shallow has no conv3; its layers are conv1",
    ),
    (
        {"feature_layers": "conv1", "model": f"{HERE}:shallow,{HERE}:flat"},
        "feature-layers=conv1: tests.fusion.mixed:flat has no conv1",
    ),
    (
        {"feature_layers": "activations", "model": f"{HERE}:shallow,{HERE}:tokens"},
        r"student's map \[16, 4, 4\] and a teacher's \[4, 5\] alike; .* or type feature-loss=sp",
    ),
    ({"feature_loss": "at"}, r"needs maps with height and width, not \[2, 8, 8, 8\] and \[2, 20\]"),
]


@pytest.mark.parametrize(("keys", "told"), UNFIT)
def test_what_does_not_fit_is_found_before_the_first_round(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        check_clients(peer(0, **keys).config)
    assert "\n" not in str(caught.value)


def test_whoever_may_meet_it_finds_it() -> None:
    for client in (0, 1, 2):
        with pytest.raises(RequestError, match="feature-loss=at: needs maps with height and width"):
            peer(client, feature_loss="at").check()
        peer(client, feature_loss="sp").check()
    keys: dict[str, Any] = {
        "feature_layers": "activations",
        "model": f"{HERE}:shallow,{HERE}:tokens",
    }
    check_clients(peer(0, feature_loss="sp", **keys).config)


@pytest.mark.parametrize("teacher", ["mutual", "frozen"])
def test_the_rehearsal_of_all_pairs_leaves_no_trace(teacher: str) -> None:
    one = peer(1, feature_loss="mse", teacher=teacher)
    before, drawn = one.weights(), torch.random.get_rng_state()
    one.check()
    assert one.weights() == before
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_a_rule_that_hands_on_the_senders_architecture_fails_where_it_does_so() -> None:
    keys: dict[str, Any] = {"strategy": "pick-first-anyway", "plugins": HERE}
    own = peer(0, **keys)
    before = state(own)
    wrong = r"pick-first returned .*: conv1.weight is \[6, 1, 3, 3\], the receiver's \[8, 1, 3, 3\]"
    with pytest.raises(DeffdError, match=wrong):
        own.fuse([sent(1, **keys)], 1)
    assert same(state(own), before)
    own.fuse([sent(3, **keys)], 1)
    assert same(state(own), dict(sent(3, **keys).model))
