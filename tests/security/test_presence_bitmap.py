"""Which classes a sender has reaches its receiver inside the seal, and nobody else."""

import pickle

import pytest
from flwr.app import Message

from deffd_flower.engine.local_grid import LocalGrid
from tests.security.conftest import Federation, Outcome
from tests.security.relay import Relay

HEADER = b'"held":{"dtype":"BOOL"'
"""What stands before the bitmap in a package that is not sealed."""


class Reader(Relay):
    """Keeps all that passes between server and clients."""

    def __init__(self, inner: LocalGrid) -> None:
        super().__init__(inner)
        self.heap: list[bytes] = []

    def deliver(self, message: Message) -> Message:
        self.heap.append(pickle.dumps(message))
        reply = super().deliver(message)
        self.heap.append(pickle.dumps(reply))
        return reply


@pytest.mark.parametrize("suite", ["aes", "otp", "hybrid", "pqc", "none"])
def test_the_server_reads_the_bitmap_only_where_nothing_is_sealed(
    federation: Federation, suite: str
) -> None:
    run: Outcome[Reader] = federation(
        Reader,
        suite=suite,
        teacher_weight="presence",
        receiver_keeps="own",
        share_label_counts=False,
    )
    assert run.summary["failures"] == 0
    assert any(HEADER in passed for passed in run.relay.heap) == (suite == "none")


def test_the_bitmap_changes_what_a_receiver_learns(federation: Federation) -> None:
    weights = {
        kind: federation(Relay, teacher_weight=kind, receiver_keeps="own").state
        for kind in ("none", "presence")
    }
    assert weights["none"] != weights["presence"]
