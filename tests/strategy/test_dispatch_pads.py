"""One-time pads from the controller's grant to the sealed model; on the way, clients crash."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.qkd.simulation import controller_of
from deffd_flower.request import resolve
from deffd_flower.strategy.dispatch import Consignment, Dispatcher
from deffd_flower.strategy.orders import Parcel
from deffd_flower.transport import parse
from deffd_flower.transport.desk import Desk
from tests.strategy.dispatching import plan

CLIENTS, MESSAGES, LARGEST = 6, 10_000, 200
FATES = ["sent", "sent", "never reached", "crashed before saving", "reply lost"]

Bits = np.ndarray[tuple[int], np.dtype[np.bool_]]


def test_no_pad_bit_seals_twice_in_ten_thousand_messages_with_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bitmap over the key stream of each key_ID of each pair, whichever of the two seals.

    A client may never see its orders, may crash when it has sealed and not saved its state, or
    may save it, and the reply is lost. Whatever has been sealed counts: it may have been seen.
    """
    monkeypatch.setenv("DEFFD_QKD_SECRET_FILE", str(tmp_path / "qkd-secret"))
    config = resolve({"dataset": "digits", "clients": CLIENTS, "suite": "otp", "link": "trieste"})
    controller = controller_of(config, tmp_path / "keys.csv")
    books = Dispatcher(config, None, controller, dict.fromkeys(range(CLIENTS), LARGEST))
    contexts = [
        Context(1, client, {"partition-id": client}, RecordDict(), config.values())
        for client in range(CLIENTS)
    ]
    draws = np.random.default_rng(5)
    used: dict[tuple[frozenset[str], object], Bits] = {}
    fates: Counter[str] = Counter()
    server_round = 0
    while fates.total() < MESSAGES:
        server_round += 1
        order = draws.permutation(CLIENTS).tolist()
        pairs = plan(*zip(order[:3], order[3:], strict=True))
        for consignment in books.begin_round(server_round, pairs):
            fate = FATES[int(draws.integers(len(FATES)))]
            fates[fate] += 1
            model = draws.bytes(int(draws.integers(1, LARGEST + 1)))
            blob = _sealed(contexts, consignment, fate, server_round, model)
            if blob:
                _mark(used, blob)
            if blob and fate == "sent":
                books.sent(consignment, blob, 1.0)
            else:
                books.lost(consignment)
        books.end_round()
    controller.close()
    assert min(fates.values()) > 1500
    sealed = fates.total() - fates["never reached"]
    assert len(used) == sealed
    assert controller.tally.messages == fates["sent"]
    assert controller.tally.abandoned == fates.total() - fates["sent"]
    assert verify_ledger(tmp_path / "keys.csv") > MESSAGES


def _sealed(
    contexts: list[Context], consignment: Consignment, fate: str, server_round: int, model: bytes
) -> bytes:
    """Do what the sender does with its orders until it crashes; return what it has sealed."""
    if fate == "never reached":
        return b""
    transfer = consignment.transfer
    context = contexts[transfer.sender]
    desk = Desk(context)
    parcel = Parcel(transfer.receiver, consignment.suite, (), consignment.references)
    blob = desk.seal(model, parcel, server_round, 0.0)
    if fate != "crashed before saving":
        desk.save()
    return blob


def _mark(used: dict[tuple[frozenset[str], object], Bits], blob: bytes) -> None:
    header, _ = parse(blob)
    pair = frozenset({header.route.sender, header.route.receiver})
    for reference in header.references:
        bits = used.setdefault((pair, reference.key_id), np.zeros(16 * LARGEST, np.bool_))
        assert reference.end <= bits.size
        assert not bits[reference.offset : reference.end].any()
        bits[reference.offset : reference.end] = True
