"""Who has which model, and what cannot be asked of several architectures."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.cast import cast_of
from deffd_flower.config import parse
from deffd_flower.errors import RequestError
from deffd_flower.request import resolve

PATH = "torchvision.models:resnet18"


@pytest.mark.parametrize(
    ("model", "first_seven"),
    [
        ("cnn", ["cnn"] * 7),
        ("cnn*3", ["cnn"] * 7),
        ("cnn,mlp", ["cnn", "mlp", "cnn", "mlp", "cnn", "mlp", "cnn"]),
        ("cnn*2,mlp,resnet18", ["cnn", "cnn", "mlp", "resnet18", "cnn", "cnn", "mlp"]),
        ("mlp, cnn * 2 ,mlp", ["mlp", "cnn", "cnn", "mlp", "mlp", "cnn", "cnn"]),
        (f"{PATH}*2,cnn", [PATH, PATH, "cnn", PATH, PATH, "cnn", PATH]),
    ],
)
def test_clients_take_the_models_in_turn(model: str, first_seven: list[str]) -> None:
    cast = parse({"model": model}).cast
    assert [cast.name(client) for client in range(7)] == first_seven
    assert cast.names == tuple(dict.fromkeys(first_seven))
    assert cast.several == (len(cast.names) > 1)
    assert [cast.name(client) for client in cast.firsts()] == list(cast.names)
    assert cast.firsts() == [first_seven.index(name) for name in cast.names]


@given(
    entries=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 10**9)), min_size=1),
    partition=st.integers(0, 10**12),
)
def test_shares_are_counted_and_not_written_out(
    entries: list[tuple[str, int]], partition: int
) -> None:
    cast = cast_of(",".join(f"{name}*{clients}" for name, clients in entries))
    left = partition % sum(clients for _, clients in entries)
    for name, clients in entries:
        if left < clients:
            assert cast.name(partition) == name
            return
        left -= clients
    raise AssertionError("the pattern has as many clients as its shares add up to")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("cnn,,mlp", "model=cnn,,mlp: has an entry without a name"),
        ("cnn,", "model=cnn,: has an entry without a name"),
        ("cnn,*2", "has an entry without a name"),
        ("cnn*0,mlp", r"after cnn\* must come how many clients in a row have it: cnn\*2"),
        ("cnn,mlp*x", r"after mlp\* must come how many clients"),
        ("cnn*,mlp", r"after cnn\* must come"),
        ("cnn*-1", r"after cnn\* must come"),
        ("cnn*1.5", r"after cnn\* must come"),
        ("cnn*2*2", r"after cnn\* must come"),
    ],
)
def test_a_list_that_cannot_be_read_is_told_what_to_type(model: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        resolve({"dataset": "digits", "model": model})
    assert caught.value.key == "model"


def several(**keys: Any) -> dict[str, Any]:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    return {"dataset": "digits", "model": "cnn,mlp", "clients": 4, **given}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"clients": 2, "model": "cnn*2,mlp"}, "clients=2: leaves no client for mlp; .* 3 or more"),
    (
        {"strategy": "full-avg"},
        "model=cnn,mlp: strategy=full-avg is for one architecture; .*def-fd",
    ),
    ({"strategy": "combo"}, "strategy=combo is for one architecture"),
    ({"strategy": "fedavg", "suite": "none"}, "strategy=fedavg is for one architecture"),
    ({"strategy": "average-then-distil"}, "strategy=average-then-distil is for one architecture"),
    ({"strategy": "def-fd-plus"}, "strategy=def-fd-plus is for one architecture"),
    ({"strategy": "hand-off"}, "strategy=hand-off is for one architecture"),
    (
        {"strategy": "pick-first", "plugins": "tests.fusion.mixed"},
        "strategy=pick-first is for one architecture; .* or type strategy=def-fd or def-kt",
    ),
    ({"strategy": "def-kt", "kd_weight": 0}, "kd-weight=0.0: leaves nothing to learn"),
    ({"kd_weight": 0, "gamma": 0}, "kd-weight=0.0: leaves nothing to learn"),
    ({"fusion_epochs": 0}, "fusion-epochs=0: leaves models as they came"),
    ({"fusion_epochs": 0, "receiver_keeps": "own"}, "fusion-epochs=0: leaves models as they came"),
    ({"receiver_keeps": "average"}, "receiver-keeps=average: different architectures have no mean"),
    ({"strategy": "def-kt", "receiver_keeps": "average"}, "have no mean"),
    ({"batched_clients": 2}, "batched-clients=2: only models of one architecture train together"),
    ({"consensus_distance": True}, "consensus-distance=true: weights .* have no distance"),
]


@pytest.mark.parametrize(("keys", "told"), REFUSED)
def test_what_several_architectures_cannot_do_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        resolve(several(**keys))
    assert "\n" not in str(caught.value)
    one = {key: value for key, value in keys.items() if key != "model"}
    assert resolve(several(**one, model="cnn*2")).cast.names == ("cnn",)


@pytest.mark.parametrize(
    "keys",
    [
        {"strategy": "local"},
        {"strategy": "def-kt", "receiver_keeps": "own"},
        {"calibrate": "prior"},
        {"kd_weight": 0},
        {"kd_weight": 0, "gamma": 0, "anchor": 1},
        {"teacher": "frozen", "fusion_update": "simultaneous"},
        {"fusion_update": "alternating", "common_init": False},
    ],
)
def test_what_several_architectures_can_do_is_not(keys: dict[str, Any]) -> None:
    assert resolve(several(**keys)).cast.several
