"""How far a sweep is, how long it will take, and what of it is shown."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from deffd_flower.sweep.plan import Sweep
from deffd_flower.sweep.standing import Standing
from deffd_flower.sweep.view import LineView, LiveView, view_on

Load = Callable[..., Sweep]

FOUR = "base: {dataset: digits, clients: 4}\ngrid: {rounds: [10, 20]}\nseeds: 2\n"
SHORT, LONG = ("rounds-10_seed-0", "rounds-10_seed-1"), ("rounds-20_seed-0", "rounds-20_seed-1")


class Clock:
    """Tells the time that it was set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def standing_of(sweep: Sweep) -> tuple[Standing, Clock]:
    clock = Clock()
    return Standing(sweep.trials, clock), clock


def test_nothing_is_known_before_a_trial_has_finished(load: Load) -> None:
    standing, _ = standing_of(load(FOUR))
    standing.begin(SHORT[0])
    assert standing.left() is None
    standing.end(SHORT[0], "failed")
    assert standing.left() is None


def test_a_trial_is_expected_to_take_as_long_as_others_of_its_cell(load: Load) -> None:
    standing, _ = standing_of(load(FOUR))
    standing.end(SHORT[0], "finished", 30.0)
    standing.end(LONG[0], "finished", 50.0)
    assert standing.left() == 30.0 + 50.0


def test_another_cell_takes_as_much_longer_as_it_has_more_work(load: Load) -> None:
    standing, _ = standing_of(load(FOUR))
    standing.end(SHORT[0], "finished", 30.0)
    standing.end(SHORT[1], "finished", 34.0)
    assert standing.left() == pytest.approx(2 * 64.0)


def test_running_trials_have_a_part_behind_them_and_run_side_by_side(load: Load) -> None:
    standing, clock = standing_of(load(FOUR))
    standing.begin(SHORT[0])
    standing.begin(SHORT[1])
    clock.now = 30.0
    standing.end(SHORT[0], "finished", 30.0)
    standing.begin(LONG[0])
    clock.now = 40.0
    # SHORT[1] is overdue, LONG[0] has 50 s to go, LONG[1] all of 60 s; two run at a time.
    assert standing.left() == pytest.approx(60.0)
    standing.end(SHORT[1], "finished", 40.0)
    standing.begin(LONG[1])
    assert standing.left() == pytest.approx(70.0)


def test_a_lost_trial_begins_again(load: Load) -> None:
    standing, clock = standing_of(load(FOUR))
    standing.begin(SHORT[0])
    standing.move(SHORT[0], {"round": 7})
    assert standing.running[SHORT[0]].done == 7
    assert standing.progress == pytest.approx(0.7)
    standing.lose(SHORT[0])
    clock.now = 100.0
    standing.begin(SHORT[0])
    assert standing.spent(SHORT[0]) == 0.0
    assert standing.running[SHORT[0]].done == 0


def test_a_log_has_a_line_for_each_trial_with_what_is_left(load: Load) -> None:
    standing, _ = standing_of(load(FOUR))
    file = io.StringIO()
    view = view_on(Console(file=file), standing, ["global_accuracy"])
    assert isinstance(view, LineView)
    standing.end(SHORT[0], "finished", 30.0)
    view.ended("finished [x]")
    standing.end(SHORT[1], "failed")
    view.ended("failed y. The log is z", "red")
    for name in LONG:
        standing.end(name, "finished", 60.0)
    view.ended("finished z")
    assert file.getvalue().splitlines() == [
        "1/4 finished [x], 2 min 30 s left",
        "2/4 failed y. The log is z",
        "4/4 finished z",
    ]


def test_a_terminal_shows_what_runs_and_how_far_everything_is(load: Load) -> None:
    standing, clock = standing_of(load(FOUR))
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=110, height=20)
    view = view_on(console, standing, ["global_accuracy"])
    assert isinstance(view, LiveView)
    standing.end(SHORT[0], "finished", 30.0)
    standing.begin(LONG[0])
    clock.now = 12.0
    standing.move(LONG[0], {"round": 5, "global_accuracy": 0.4321})
    view.refresh()
    shown = file.getvalue()
    view.close()
    assert "Global accuracy (%)" in shown
    row = next(line for line in shown.splitlines() if LONG[0] in line)
    assert row.split()[-4:] == ["5/20", "12.0", "s", "43.2"]
    assert "1/4 trials" in shown
    assert "1 finished" in shown
    assert "2 min 18 s left" in shown
