"""Nobody waits for the slowest: a client is evaluated as soon as its model is final."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.strategy.mailbox import Readiness
from deffd_flower.strategy.orders import Orders

CLIENTS = range(6)


@given(
    st.sets(st.sampled_from(CLIENTS), min_size=1),
    st.lists(st.tuples(st.sampled_from(CLIENTS), st.sampled_from(CLIENTS)), max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_client_is_ready_once_it_and_all_its_senders_have_answered(
    training: set[int], drawn: list[tuple[int, int]], random: Any
) -> None:
    transfers = [(sender, receiver) for sender, receiver in drawn if sender in training]
    readiness = Readiness(CLIENTS, training, transfers)
    answered: set[int] = set()
    ready: list[int] = []
    order = random.sample(sorted(training), len(training))
    clients = iter(readiness)
    for client in [*order, None]:
        while len(ready) < len(CLIENTS) and (found := next(clients)) is not None:
            senders = {sender for sender, receiver in transfers if receiver == found}
            assert senders | ({found} & training) <= answered
            ready.append(found)
        if client is not None:
            readiness.answered(client)
            answered.add(client)
    assert sorted(ready) == list(CLIENTS)


class LastComesFirst(LocalGrid):
    """Answers the youngest message, so that whatever may overtake does."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(client_app, keys["clients"], resolve(keys).values())
        self.answered: list[tuple[int, str, int]] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        waiting = [message_id for message_id in message_ids if message_id in self._pending]
        for message_id in waiting[-1:]:
            self._note(self._pending[message_id])
        return super().pull_messages(waiting[-1:])

    def _note(self, message: Message) -> None:
        if "config" in message.content.config_records:
            orders = Orders.read(message.content.config_records["config"])
            node = message.metadata.dst_node_id
            self.answered.append((orders.server_round, message.metadata.message_type, node))


@pytest.mark.parametrize("strategy", ["def-fd", "combo", "local"])
def test_evaluations_overtake_training_without_changing_a_weight(
    strategy: str, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"dataset": "digits", "clients": 6, "rounds": 3, "local-epochs": 1}
    keys |= {"strategy": strategy, "eval-every": 2}
    config = resolve(keys)
    overtaking = LastComesFirst(**keys)
    in_turn = LocalGrid(client_app, config.clients, config.values())
    runs = [
        federate(grid, config, tmp_path / name, LineProgress())
        for name, grid in {"overtaking": overtaking, "in-turn": in_turn}.items()
    ]
    assert runs[0]["state_sha256"] == runs[1]["state_sha256"]
    assert [(tmp_path / name / "clients.csv").read_text() for name in ("overtaking",)] == [
        (tmp_path / "in-turn" / "clients.csv").read_text()
    ]
    kinds = [kind for server_round, kind, _ in overtaking.answered if server_round == 2]
    if strategy == "def-fd":
        assert "evaluate" in kinds[: kinds.index("train") + kinds.count("train") - 1]
