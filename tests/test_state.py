"""A client's model between messages: in the state, or on disk in versions."""

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from deffd_flower import state
from deffd_flower.errors import DeffdError
from deffd_flower.state import (
    forget_weights,
    load_acquaintances,
    load_weights,
    save_acquaintances,
    save_weights,
)
from tests.e2e.test_engines import run_in_process


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Context(1, 2, {}, RecordDict(), {})


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("where", ["message", "disk", "auto"])
def test_what_was_saved_is_loaded(context: Context, where: str) -> None:
    assert load_weights(context) is None
    for weights in (b"one", b"two", b"three"):
        save_weights(context, weights, where)
        assert load_weights(context) == weights


def test_only_large_models_move_to_disk_by_themselves(context: Context, tmp_path: Path) -> None:
    save_weights(context, bytes(state.DISK_ABOVE), "auto")
    assert files(tmp_path) == []
    save_weights(context, bytes(state.DISK_ABOVE + 1), "auto")
    assert files(tmp_path) == ["1"]
    assert len(context.state.array_records) == 0


def test_a_message_that_fails_after_saving_leaves_the_old_version_current(
    context: Context,
) -> None:
    save_weights(context, b"old", "disk")
    before = dict(context.state)
    save_weights(context, b"new", "disk")
    context.state.clear()
    context.state.update(before)
    assert load_weights(context) == b"old"
    save_weights(context, b"newer", "disk")
    assert load_weights(context) == b"newer"


def test_two_versions_are_kept_at_most_and_none_after_the_farewell(
    context: Context, tmp_path: Path
) -> None:
    for number in range(5):
        save_weights(context, bytes([number]), "disk")
    assert files(tmp_path) == ["4", "5"]
    forget_weights(context)
    assert files(tmp_path) == []


def test_acquaintances_are_replaced_whole_and_a_message_that_fails_leaves_them(
    context: Context,
) -> None:
    assert load_acquaintances(context) == {}
    save_acquaintances(context, {3: b"\1\0"})
    before = dict(context.state)
    save_acquaintances(context, {3: b"\1\0", 10: b"\1\1"})
    assert load_acquaintances(context) == {3: b"\1\0", 10: b"\1\1"}
    context.state.clear()
    context.state.update(before)
    assert load_acquaintances(context) == {3: b"\1\0"}


def test_a_file_that_is_gone_says_what_to_do(context: Context) -> None:
    save_weights(context, b"one", "disk")
    forget_weights(context)
    with pytest.raises(DeffdError, match="client-state=message"):
        load_weights(context)


def test_weights_do_not_depend_on_where_models_wait(tmp_path: Path) -> None:
    digests = {
        run_in_process(tmp_path / where, client_state=where)["state_sha256"]
        for where in ("message", "disk")
    }
    assert len(digests) == 1


def test_bf16_changes_the_last_digits_and_not_the_outcome(tmp_path: Path) -> None:
    exact = run_in_process(tmp_path / "exact", rounds=4)
    rough = run_in_process(tmp_path / "rough", rounds=4, precision="bf16")
    assert rough["state_sha256"] != exact["state_sha256"]
    assert rough["global_accuracy"] == pytest.approx(exact["global_accuracy"], abs=0.1)
