"""What the server writes down, and from when on it counts."""

import math
from typing import Any

import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from deffd_flower.request import resolve
from deffd_flower.strategy.notebook import Notebook
from deffd_flower.strategy.orders import Nominations
from deffd_flower.strategy.plans import Transfer
from deffd_flower.strategy.roster import Member, Roster


@pytest.fixture(autouse=True)
def _flower() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 0


def notebook(counts: dict[int, list[int]]) -> Notebook:
    config = resolve({"dataset": "digits", "clients": 3})
    members = [Member(9 - n, n, 8, 2, 100, 999, counts.get(n), b"", b"") for n in range(3)]
    return Notebook(config, None, Roster(members), lambda sender, receiver: 10 * sender + receiver)


def reply(kind: str, preferred: tuple[int, ...] = (), **metrics: float) -> Message:
    numbers: dict[str, Any] = {"compute-s": 1.0, **metrics}
    content = RecordDict({"metrics": MetricRecord(numbers)})
    if preferred:
        Nominations(preferred).write(content)
    return Message(content, 1, kind)


def test_a_meeting_is_that_of_the_last_model_whichever_way_it_went() -> None:
    notes = notebook({})
    for server_round, pair in enumerate([(2, 0), (0, 1), (0, 2)], start=1):
        notes.carried(server_round, Transfer(*pair, (4, 5)))
    assert notes.knowledge(4).meetings == {0: {1: 2, 2: 3}, 1: {0: 2}, 2: {0: 3}}


def test_label_counts_are_known_only_if_everybody_tells() -> None:
    counts = {n: [n, 1] for n in range(3)}
    assert notebook(counts).knowledge(1).label_counts == [[0, 1], [1, 1], [2, 1]]
    assert notebook({0: [1, 2]}).knowledge(1).label_counts is None


def test_the_loss_is_that_of_the_last_training() -> None:
    notes = notebook({})
    for server_round, loss in enumerate((2.0, 1.5), start=1):
        notes.heard(server_round, 1, reply("train", train=loss))
    notes.heard(2, 1, reply("evaluate", ce=0.3, global_accuracy=0.9))
    notes.heard(2, 2, reply("train", train=math.nan))
    assert notes.knowledge(3).losses == {1: 1.5, 2: math.inf}


def test_stored_key_is_asked_for_where_it_is_counted() -> None:
    assert notebook({}).knowledge(1).stored(2, 1) == 21


def test_preferences_count_alike_whether_mail_came_with_training_or_with_an_evaluation() -> None:
    """A model of round 1 comes with the evaluation of round 1, or with the training of round 2."""
    evaluated, trained = notebook({}), notebook({})
    evaluated.heard(1, 0, reply("evaluate", (2, 1)))
    trained.heard(2, 0, reply("train", (2, 1)))
    assert evaluated.knowledge(2).preferences == {}
    assert evaluated.knowledge(3).preferences == trained.knowledge(3).preferences == {0: (2, 1)}


def test_the_newest_preferences_count() -> None:
    notes = notebook({})
    notes.heard(1, 0, reply("evaluate", (2,)))
    notes.heard(2, 0, reply("train", (2, 1)))
    notes.heard(2, 1, reply("train", (0,)))
    assert notes.knowledge(3).preferences == {0: (2, 1), 1: (0,)}
    notes.heard(3, 1, reply("train", (2, 0)))
    assert notes.knowledge(4).preferences == {0: (2, 1), 1: (2, 0)}


def test_what_is_known_of_a_round_does_not_change_after_it() -> None:
    notes = notebook({})
    before = notes.knowledge(1)
    notes.carried(1, Transfer(0, 1))
    notes.heard(1, 0, reply("train", train=1.0))
    assert (before.meetings[0], before.losses) == ({}, {})
