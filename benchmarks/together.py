"""`together`: many clients' training at once, against one after the other.

The tables and the defaults of the program follow what this says on a GPU; on a CPU, which one small
model keeps busy, training at once is slower.
"""

import time
from collections.abc import Iterator, Sequence

import torch

from benchmarks.harness import Options, Result, in_turn, ratio_of
from deffd_flower.data.client import client_data
from deffd_flower.errors import DeffdError
from deffd_flower.peer import Peer
from deffd_flower.request import resolve
from deffd_flower.together import train_together
from deffd_flower.training import arithmetic

CLIENTS, QUICK_CLIENTS = 16, 3
PAPER: dict[str, object] = {"local-epochs": 1, "samples-per-client": 600}
QUICK: dict[str, object] = {
    "local-epochs": 1,
    "samples-per-client": 60,
    "dataset": "benchmarks.datasets:patterns",
}
TOLERANCE = 1e-3


def measure(options: Options) -> Iterator[Result]:
    """Yield the seconds of clients that train one by one / of those that train at once."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clients = QUICK_CLIENTS if options.quick else CLIENTS
    keys = {**(QUICK if options.quick else PAPER), "device": device, "clients": clients}
    config = resolve(keys)
    data = [client_data(config, client) for client in range(clients)]
    trained: dict[str, Sequence[Peer]] = {}

    def peers(arm: str) -> Sequence[Peer]:
        trained[arm] = [Peer(client, data[client], config) for client in range(clients)]
        return trained[arm]

    def one_by_one() -> float:
        own = peers("one by one")
        started = now(device)
        for peer in own:
            peer.train(1)
        return now(device) - started

    def at_once() -> float:
        own = peers("at once")
        started = now(device)
        with arithmetic(config.precision, data[0].device):
            train_together([peer.pupil(1) for peer in own], config)
        return now(device) - started

    one_by_one()
    at_once()
    arms = {"one by one": one_by_one, "at once": at_once}
    measured = in_turn(arms, options)
    apart = largest_gap(*trained.values())
    if apart > TOLERANCE:
        raise DeffdError(f"the two did not do the same work: weights differ by {apart:.1e}")
    where = torch.cuda.get_device_name() if device == "cuda" else "one core"
    detail = {"clients": clients, "on": where, "largest_weight_gap": apart, "config": keys}
    yield ratio_of(f"together:{device}", measured, "one by one", "at once", **detail)


def now(device: str) -> float:
    """Return the time, once the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def largest_gap(some: Sequence[Peer], others: Sequence[Peer]) -> float:
    """Return the largest difference between two federations' weights."""
    pairs = zip(some, others, strict=True)
    return max(
        (one - other).abs().max().item()
        for ours, theirs in pairs
        for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True)
    )
