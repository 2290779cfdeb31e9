"""Who is there: node ids in partition order, and what each client said of itself."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from deffd_flower.errors import DeffdError

_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Member:
    """One client.

    Attributes:
        node_id: Flower's number for its node, different in every run.
        partition: Its own number, 0..clients-1.
        train_samples: Samples it trains on.
        test_samples: Samples it holds out.
        evaluation_samples: Samples that its global accuracy is counted on.
        package_bytes: Size of its whole model as it is sealed.
        label_counts: Training samples per class; ``None`` when it keeps that to itself.
        kem_public: Its ML-KEM public key.
        kem_proof: Proof for its peers that the key is its own.
    """

    node_id: int
    partition: int
    train_samples: int
    test_samples: int
    evaluation_samples: int
    package_bytes: int
    label_counts: list[int] | None
    kem_public: bytes
    kem_proof: bytes


class Roster:
    """The members in partition order.

    Flower's node ids are random, so all drawing is done on partition ids.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = sorted(members, key=lambda member: member.partition)
        self._partitions = {member.node_id: member.partition for member in self.members}

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def node_id(self, partition: int) -> int:
        """Return the node id of a partition."""
        return self.members[partition].node_id

    def sender(self, reply: Message) -> int:
        """Return the partition id of a reply's sender."""
        return self._partitions[reply.metadata.src_node_id]

    def receiver(self, message: Message) -> int:
        """Return the partition id of a message's receiver."""
        return self._partitions[message.metadata.dst_node_id]


def gather(grid: Grid, clients: int, timeout: float) -> Roster:
    """Wait for the clients and ask each to introduce itself.

    Raises:
        DeffdError: Their number is not ``clients``, two claim the same partition, or one refuses.
    """
    deadline = time.monotonic() + timeout
    first = next(iter(_connected(grid, 1, deadline)))
    about = _ask(grid, [first], timeout)[0].content.config_records["about"]
    expected = about["num-partitions"]
    if expected != clients:
        raise DeffdError(_wrong_number(clients, expected))
    answers = _ask(grid, _connected(grid, clients, deadline), timeout)
    roster = Roster(_member(answer) for answer in answers)
    claimed = [member.partition for member in roster]
    if claimed != list(range(clients)):
        raise DeffdError(
            f"partition-id must be 0..{clients - 1}, each once; the nodes have {claimed}:"
            " set it in each SuperNode's --node-config"
        )
    return roster


def _wrong_number(clients: int, connected: object) -> str:
    return (
        f"clients={clients}, but the federation has {connected} SuperNodes: add"
        f' --federation-config "num-supernodes={clients} client-resources-num-cpus=1"'
        f' to flwr run, or -c "clients={connected}"'
    )


def _connected(grid: Grid, wanted: int, deadline: float) -> list[int]:
    while len(node_ids := list(grid.get_node_ids())) < wanted:
        if time.monotonic() > deadline:
            raise DeffdError(f"only {len(node_ids)} of {wanted} SuperNodes connected in time")
        time.sleep(_LOOK_AGAIN_S)
    return node_ids


def _ask(grid: Grid, node_ids: list[int], timeout: float) -> list[Message]:
    greetings = [Message(RecordDict(), node_id, "query.hello") for node_id in node_ids]
    replies = list(grid.send_and_receive(greetings, timeout=timeout))
    for reply in replies:
        if reply.has_error():
            raise DeffdError(reply.error.reason or "a client failed without a reason")
    if len(replies) < len(node_ids):
        raise DeffdError(f"only {len(replies)} of {len(node_ids)} clients answered in time")
    return replies


def _member(answer: Message) -> Member:
    about: Mapping[str, Any] = answer.content.config_records["about"]
    transport: Mapping[str, Any] = answer.content.config_records["transport"]
    counts = about.get("label-counts")
    return Member(
        node_id=answer.metadata.src_node_id,
        partition=int(about["partition-id"]),
        train_samples=int(about["train-samples"]),
        test_samples=int(about["test-samples"]),
        evaluation_samples=int(about["evaluation-samples"]),
        package_bytes=int(about["package-bytes"]),
        label_counts=None if counts is None else [int(count) for count in counts],
        kem_public=transport["kem-public"],
        kem_proof=transport["kem-proof"],
    )
