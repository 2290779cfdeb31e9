"""`overhead`: what a run costs beyond its arithmetic.

Both arms do the paper's protocol in this process, on one thread, with equal steps in equal order,
and both are timed from the first message of round 1 to the first message of the last round: the
whole of those rounds, planning, key, sealing, messages and bookkeeping included, and nothing of
the evaluation, the report and the start. The ratio is of CPU seconds, which other programs on the
machine disturb less than seconds on the clock. Afterwards the weights are compared.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.bare import BareLoop
from benchmarks.federation import Marks, Moment, run_marked
from benchmarks.harness import Options, Result, in_turn, ratio
from deffd_flower.client_app import app as client_app
from deffd_flower.config import RunConfig
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.errors import DeffdError
from deffd_flower.request import resolve
from deffd_flower.state import load_weights
from deffd_flower.transport.codec import decode_tensors

PAPER: dict[str, object] = {"clients": 10, "samples-per-client": 600, "suite": "aes", "rounds": 4}
QUICK: dict[str, object] = {
    "clients": 4,
    "samples-per-client": 100,
    "local-epochs": 1,
    "rounds": 3,
    "dataset": "benchmarks.datasets:patterns",
}
TOLERANCE = 1e-6

States = list[dict[str, Tensor]]


def measure(options: Options) -> Iterator[Result]:
    """Yield our rounds / the bare loop's, in CPU seconds."""
    torch.set_num_threads(1)
    keys = QUICK if options.quick else PAPER
    config = resolve({**keys, "eval-every": 10**6, "test-samples": 100})
    ended: dict[str, States] = {}

    def ours() -> Moment:
        spent, ended["ours"] = our_rounds(config)
        return spent

    def bare() -> Moment:
        spent, ended["bare"] = bare_rounds(config)
        return spent

    ours()  # the first run of a process reads the data and warms PyTorch up
    measured = in_turn({"ours": ours, "bare": bare}, options)
    apart = largest_gap(ended["ours"], ended["bare"])
    if apart > TOLERANCE:
        raise DeffdError(f"the two did not do the same work: weights differ by {apart:.1e}")
    cpu = {arm: [spent.cpu for spent in each] for arm, each in measured.items()}
    wall = {arm: [round(spent.wall, 4) for spent in each] for arm, each in measured.items()}
    yield ratio(
        "overhead",
        cpu["ours"],
        cpu["bare"],
        of="ours / bare, CPU seconds",
        cpu_s={arm: [round(each, 4) for each in values] for arm, values in cpu.items()},
        wall_s=wall,
        wall_ratio=ratio("wall", wall["ours"], wall["bare"]).ratio,
        rounds=config.rounds - 1,
        largest_weight_gap=apart,
        config=keys,
    )


def our_rounds(config: RunConfig) -> tuple[Moment, States]:
    """Run the federation; return the time of all rounds but the last, and the final weights."""
    states: States = []
    grid = LocalGrid(client_app, config.clients, config.values())
    marks = Marks(at_end=lambda: states.extend(_final_states(grid)))
    run_marked(config, grid, marks)
    return _between(marks.rounds[1], marks.rounds[config.rounds]), states


def bare_rounds(config: RunConfig) -> tuple[Moment, States]:
    """Run the same rounds bare; the last one, with its fusion, is run but not timed."""
    loop = BareLoop(config)
    started = Moment.now()
    for number in range(1, config.rounds):
        loop.round(number)
    spent = _between(started, Moment.now())
    loop.round(config.rounds)
    loop.deliver(config.rounds)
    return spent, [model.state_dict() for model in loop.models]


def largest_gap(some: Sequence[dict[str, Tensor]], others: Sequence[dict[str, Tensor]]) -> float:
    """Return the largest difference between two federations' weights."""
    gaps = [
        (value - other[name]).abs().max().item()
        for one, other in zip(some, others, strict=True)
        for name, value in one.items()
    ]
    return max(gaps)


def _final_states(grid: LocalGrid) -> States:
    """Read what the clients keep, in partition order."""
    contexts = sorted(grid.contexts.values(), key=lambda c: int(c.node_config["partition-id"]))
    saved = [load_weights(context) for context in contexts]
    return [decode_tensors(weights) for weights in saved if weights is not None]


def _between(start: Moment, end: Moment) -> Moment:
    return Moment(end.wall - start.wall, end.cpu - start.cpu)
