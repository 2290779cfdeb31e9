"""What a sweep keeps of its trials, and what it finds again."""

import csv
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deffd_flower.config import FIELDS
from deffd_flower.errors import RequestError
from deffd_flower.sweep.archive import packed, unpack
from deffd_flower.sweep.directory import SweepDirectory
from deffd_flower.sweep.plan import Sweep, Trial, identity
from deffd_flower.sweep.rows import measured, row, write_rows
from deffd_flower.sweep.trial import FAILED, FINISHED, STOPPED

Load = Callable[..., Sweep]

TWO = "base: {dataset: digits}\ngrid: {gamma: [0.1, 0.2]}\n"


def files_of(trial: Trial, folder: Path, summary: dict[str, object] | None) -> bytes:
    """Pack a run directory as a federation leaves it."""
    run = folder / f"made-{trial.name}"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(trial.config.values()))
    if summary is not None:
        (run / "summary.json").write_text(json.dumps(summary))
    return packed(run)


def test_a_run_directory_survives_its_journey_byte_by_byte(tmp_path: Path) -> None:
    before = tmp_path / "before"
    (before / "figures").mkdir(parents=True)
    (before / "rounds.csv").write_bytes(b"round\n1\n")
    (before / "figures" / "a.png").write_bytes(bytes(range(256)) * 100)
    (before / "empty.csv").touch()
    after = tmp_path / "after"
    after.mkdir()
    (after / "old").touch()
    unpack(packed(before), after)
    found = {p.relative_to(after).as_posix(): p for p in after.rglob("*") if p.is_file()}
    assert set(found) == {"rounds.csv", "figures/a.png", "empty.csv"}
    for name, path in found.items():
        assert path.read_bytes() == (before / name).read_bytes()


def test_what_was_filed_is_found_by_the_trial_not_by_its_name(load: Load, tmp_path: Path) -> None:
    sweep = load(TWO)
    directory = SweepDirectory(tmp_path / "out", sweep)
    with directory.opened():
        one, two = sweep.trials
        directory.file(one, FINISHED, files_of(one, tmp_path, {"global_accuracy": 0.5}))
        directory.file(two, STOPPED, files_of(two, tmp_path, None))
    (tmp_path / "out/runs" / one.name).rename(tmp_path / "out/runs/renamed")
    filed = SweepDirectory(tmp_path / "out", sweep).filed()
    assert filed[one.identity].status == FINISHED
    assert filed[one.identity].summary == {"global_accuracy": 0.5}
    assert filed[one.identity].directory == Path("runs/renamed")
    assert filed[two.identity].status == STOPPED
    assert filed[two.identity].directory.parent == Path("stopped")


@pytest.mark.parametrize("summary", ["", '{"global_accuracy": 0.', "[]", None])
def test_a_run_without_a_whole_summary_has_not_finished(
    load: Load, tmp_path: Path, summary: str | None
) -> None:
    sweep = load(TWO)
    directory = SweepDirectory(tmp_path / "out", sweep)
    with directory.opened():
        directory.file(sweep.trials[0], FINISHED, files_of(sweep.trials[0], tmp_path, {}))
    kept = tmp_path / "out/runs" / sweep.trials[0].name / "summary.json"
    if summary is None:
        kept.unlink()
    else:
        kept.write_text(summary)
    assert directory.filed() == {}


def test_a_draft_that_a_killed_sweep_left_is_no_run(load: Load, tmp_path: Path) -> None:
    sweep = load(TWO)
    directory = SweepDirectory(tmp_path / "out", sweep)
    with directory.opened():
        trial = sweep.trials[0]
        directory.file(trial, FINISHED, files_of(trial, tmp_path, {"global_accuracy": 0.5}))
    runs = tmp_path / "out/runs"
    (runs / trial.name).rename(runs / f".{trial.name}.part")
    assert directory.filed() == {}
    directory.check(resume=True)


def test_a_run_is_never_written_over_that_of_another_trial(load: Load, tmp_path: Path) -> None:
    one, two = load(TWO).trials
    directory = SweepDirectory(tmp_path / "out", load(TWO))
    with directory.opened():
        files = files_of(one, tmp_path, {"global_accuracy": 0.5})
        first = directory.file(one, FINISHED, files)
        assert directory.file(one, FINISHED, files).directory == first.directory
        (tmp_path / "out" / first.directory).rename(tmp_path / "out/runs" / two.name)
        second = directory.file(two, FINISHED, files_of(two, tmp_path, {"global_accuracy": 0.6}))
    assert second.directory.name.startswith(f"{two.name}-")
    filed = directory.filed()
    assert filed[one.identity].summary == {"global_accuracy": 0.5}
    assert filed[two.identity].summary == {"global_accuracy": 0.6}


def test_success_takes_the_place_of_an_earlier_failure(load: Load, tmp_path: Path) -> None:
    sweep = load(TWO)
    trial = sweep.trials[0]
    directory = SweepDirectory(tmp_path / "out", sweep)
    with directory.opened():
        failed = directory.log_failure(trial, "out of memory")
        assert failed.status == FAILED
        assert (tmp_path / "out" / failed.directory / "run.log").read_text() == "out of memory\n"
        assert directory.filed() == {}
        directory.file(trial, FINISHED, files_of(trial, tmp_path, {"global_accuracy": 0.5}))
    assert not (tmp_path / "out" / failed.directory).exists()


def test_a_sweep_begins_in_a_new_directory_only_and_goes_on_in_its_own(
    load: Load, tmp_path: Path
) -> None:
    sweep = load(TWO)
    directory = SweepDirectory(tmp_path / "out", sweep)
    with pytest.raises(RequestError, match="no sweep has begun there"):
        directory.check(resume=True)
    directory.check(resume=False)
    with directory.opened():
        pass
    with pytest.raises(RequestError, match="go on with it by --resume"):
        directory.check(resume=False)
    directory.check(resume=True)
    with pytest.raises(RequestError, match="is not empty"):
        SweepDirectory(tmp_path, sweep).check(resume=False)


def test_a_sweep_may_grow_but_not_change(load: Load, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with SweepDirectory(out, load(TWO)).opened():
        pass
    SweepDirectory(out, load(TWO + "seeds: 2\ntitle: More\nmetrics: [key_bits]")).check(resume=True)
    with pytest.raises(RequestError, match="2 of its 2 trials are no longer in it"):
        SweepDirectory(out, load(TWO, rounds=5)).check(resume=True)
    with pytest.raises(RequestError, match=r"1 of its 2 .* such as gamma-0.1_seed-0"):
        SweepDirectory(out, load(TWO.replace("0.1, ", ""))).check(resume=True)
    with pytest.raises(RequestError, match="stop: differs"):
        SweepDirectory(out, load(TWO + "stop: {grace-rounds: 3}")).check(resume=True)


def test_runs_of_somebody_else_are_not_taken_for_ours(load: Load, tmp_path: Path) -> None:
    sweep, other = load(TWO), load(TWO, rounds=5)
    directory = SweepDirectory(tmp_path / "out", sweep)
    with directory.opened():
        directory.file(other.trials[0], FINISHED, files_of(other.trials[0], tmp_path, {"a": 1}))
    with pytest.raises(RequestError, match="is no run of this sweep"):
        directory.check(resume=True)


def test_one_process_at_a_time(load: Load, tmp_path: Path) -> None:
    sweep = load(TWO)
    with (
        SweepDirectory(tmp_path / "out", sweep).opened(),
        pytest.raises(RequestError, match="another deffd sweep is at work"),
        SweepDirectory(tmp_path / "out", sweep).opened(),
    ):
        pass
    with SweepDirectory(tmp_path / "out", sweep).opened():
        pass


def test_the_folder_of_a_killed_process_goes_and_nothing_else(load: Load, tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path / "out", load(TWO))
    scratch, precious = tmp_path / "deffd-ray-x", tmp_path / "precious"
    for folder in (scratch, precious):
        folder.mkdir()
    with directory.opened():
        pass
    (tmp_path / "out/.lock").write_text(f"{scratch}\n{precious}\n")
    with directory.opened():
        assert not scratch.exists()
        assert precious.exists()


def test_a_row_has_every_key_then_what_became_of_it_then_the_numbers(
    load: Load, tmp_path: Path
) -> None:
    sweep = load(TWO)
    one, two = sweep.trials
    directory = SweepDirectory(tmp_path / "out", sweep)
    summary = {"strategy": "def-fd", "global_accuracy": 0.25, "key_bits": 2, "qkd_network": "x"}
    # Its name is also that of a key, which says whether it is measured.
    summary |= {"consensus_distance": 1.5, "gamma": None}
    with directory.opened():
        files = files_of(one, tmp_path, {**summary, "absent": None, "versions": {"torch": "2"}})
        filed = directory.file(one, FINISHED, files)
    write_rows(tmp_path / "sweep.csv", [row(one, filed), row(two, None)])
    with (tmp_path / "sweep.csv").open(newline="") as file:
        header, first, second = list(csv.reader(file))
    assert header == [
        *FIELDS,
        "status",
        "trial",
        "run_dir",
        "global_accuracy",
        "key_bits",
        "consensus_distance",
        "absent",
        "version_torch",
    ]
    own = len(FIELDS)
    assert first[own:] == [FINISHED, one.name, f"runs/{one.name}", "0.25", "2", "1.5", "", "2"]
    assert second[own:] == ["pending", two.name, "", "", "", "", "", ""]
    assert first[header.index("gamma")] == "0.1"


def test_ratios_are_worked_out_and_missing_numbers_left_out() -> None:
    known = measured({"global_accuracy": 0.5, "key_bits": 1000, "local_accuracy": None})
    assert known == {"global_accuracy": 0.5, "key_bits": 1000.0, "accuracy_per_key_bit": 0.0005}


def test_nobody_sees_half_a_table(load: Load, tmp_path: Path) -> None:
    rows = [row(trial, None) for trial in load(TWO + "seeds: 50").trials]
    path = tmp_path / "sweep.csv"
    write_rows(path, rows)
    whole = path.read_bytes()
    ended = threading.Event()

    def write() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            write_rows(path, rows)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        assert path.read_bytes() == whole
    writer.join()


def test_what_was_filed_before_label_counts_had_an_auto_is_known_again(load: Load) -> None:
    (now,) = load("base: {dataset: digits}\nseeds: [0]\n").trials
    values = now.config.values()
    assert identity({**values, "share-label-counts": True}) == now.identity
    assert identity({**values, "share-label-counts": False}) != now.identity
    with_key_managers = {**values, "key-source": "etsi014"}
    assert identity(with_key_managers) == identity(
        {**with_key_managers, "share-label-counts": False}
    )
