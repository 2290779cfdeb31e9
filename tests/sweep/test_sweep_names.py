"""Names of trials, and which cells are compared with which."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.config import Value
from deffd_flower.request import resolve
from deffd_flower.sweep.naming import label, trial_names, varying
from deffd_flower.sweep.plan import identity
from deffd_flower.sweep.reference import partners

CELLS: list[dict[str, Value]] = [
    {"strategy": "def-kt", "clients": 10},
    {"strategy": "def-fd", "clients": 10, "feature-loss": "l2", "gamma": 100.0},
    {"strategy": "def-fd", "clients": 10, "feature-loss": "l2", "gamma": 0.03},
]


def test_names_tell_what_varies_with_the_key_where_the_value_does_not_speak() -> None:
    names = trial_names(CELLS, [0, 7])
    assert names == [
        ["def-kt_seed-0", "def-kt_seed-7"],
        ["def-fd_l2_gamma-100_seed-0", "def-fd_l2_gamma-100_seed-7"],
        ["def-fd_l2_gamma-0.03_seed-0", "def-fd_l2_gamma-0.03_seed-7"],
    ]
    assert trial_names([{"calibrate": "none"}, {"calibrate": "prior"}], [1]) == [
        ["calibrate-none_seed-1"],
        ["prior_seed-1"],
    ]
    assert trial_names([{}], [3]) == [["seed-3"]]


def test_a_label_is_what_one_would_type() -> None:
    keys = varying(CELLS)
    assert keys == ["strategy", "feature-loss", "gamma"]
    assert label(CELLS[0], keys) == "strategy=def-kt"
    assert label(CELLS[2], keys) == "strategy=def-fd feature-loss=l2 gamma=0.03"


TEXTS = st.text(st.sampled_from("aB/:= .-_'ü\\"), max_size=200)


def test_a_value_that_speaks_in_two_keys_makes_two_names() -> None:
    names = trial_names([{"suite": "x"}, {"link": "x"}], [0])
    assert len({name for (name,) in names}) == 2


@given(st.lists(TEXTS, min_size=2, max_size=5, unique=True))
def test_names_are_unlike_each_other_and_fit_for_any_file_system(values: list[str]) -> None:
    cells: list[dict[str, Value]] = [{"eve": value} for value in values]
    names = [name for of_cell in trial_names(cells, [0, 1]) for name in of_cell]
    assert len(set(names)) == 2 * len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9+][A-Za-z0-9._+-]{0,160}", name) for name in names)


def test_two_runs_are_the_same_if_nothing_that_decides_their_results_differs() -> None:
    own = resolve({"dataset": "digits"}).values()
    moot: dict[str, Value] = {"data-dir": "/data", "workers": 2, "message-timeout": 5.0}
    for key, value in moot.items():
        assert identity({**own, key: value}) == identity(own)
    deciding: dict[str, Value] = {"gamma": 0.02, "seed": 1, "init-seed": 0, "suite": "otp"}
    for key, value in deciding.items():
        assert identity({**own, key: value}) != identity(own)


def grid(**axes: list[Value]) -> list[dict[str, Value]]:
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def test_every_cell_is_compared_with_the_only_reference() -> None:
    assert partners(grid(strategy=["a", "b", "c"]), {"strategy": "b"}) == [1, None, 1]
    assert partners(grid(strategy=["a", "b"]), {}) == [None, None]


def test_of_several_references_each_cell_has_the_one_that_shares_its_other_keys() -> None:
    cells = grid(strategy=["a", "b"], classes=[2, 8])
    assert partners(cells, {"strategy": "a"}) == [None, None, 0, 1]


def test_a_key_in_which_references_do_not_differ_does_not_matter() -> None:
    # As in an irregular grid: gamma means nothing to the reference.
    cells: list[dict[str, Value]] = [
        {"strategy": "kt", "gamma": 0.0},
        {"strategy": "fd", "gamma": 0.1},
        {"strategy": "fd", "gamma": 0.2},
    ]
    assert partners(cells, {"strategy": "kt"}) == [None, 0, 0]


def test_a_cell_without_a_counterpart_is_compared_with_none() -> None:
    cells = grid(strategy=["a"], classes=[2, 8]) + grid(strategy=["b"], classes=[5])
    assert partners(cells, {"strategy": "a"}) == [None, None, None]


@pytest.mark.parametrize("reference", [{"strategy": "z"}, {"nothing": 1}])
def test_a_reference_that_is_no_cell_has_no_partners(reference: dict[str, Value]) -> None:
    assert partners(grid(strategy=["a", "b"]), reference) == [None, None]
