"""The work of `peers` on gossipy-dfl: each node pushes to a random one, which averages and trains.

Run in an environment that has gossipy-dfl and torchvision.
"""

import torch
from gossipy.core import AntiEntropyProtocol, CreateModelMode, Message, StaticP2PNetwork
from gossipy.data import DataDispatcher
from gossipy.data.handler import ClassificationDataHandler
from gossipy.model import TorchModel
from gossipy.model.handler import TorchModelHandler
from gossipy.node import GossipNode
from gossipy.simul import GossipSimulator, SimulationEventReceiver
from torch import Tensor, nn

from benchmarks.workload import (
    BATCH,
    CLIENTS,
    IMAGES,
    LR,
    WARM_UP,
    Stopwatch,
    Work,
    from_command_line,
)

STEPS = 100


class Net(TorchModel):  # type: ignore[misc]  # gossipy has no types
    """The network in gossipy's dress.

    Args:
        work: Has the initial weights.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.layers = work.model()

    def init_weights(self) -> None:
        """Keep the initial weights."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.layers(images)
        return logits


class Observer(SimulationEventReceiver):  # type: ignore[misc]  # gossipy has no types
    """Takes the time; every message is one exchange and one client epoch.

    Args:
        watch: Counts.
    """

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def update_message(self, failed: bool, msg: Message | None = None) -> None:
        """Count a model that is sent, received and trained on in the same time step."""
        self.watch.exchanges += not failed
        self.watch.epochs += not failed

    def update_timestep(self, t: int) -> None:
        """Note the end of a round."""
        if (t + 1) % STEPS == 0:
            self.watch.round_ended()

    def update_end(self) -> None:
        """Nothing to note."""


def main(work: Work) -> None:
    """Run and report."""
    test = (work.test_images, work.test_labels) if work.evaluate else (None, None)
    handler = ClassificationDataHandler(
        work.images.flatten(0, 1), work.labels.flatten(), *test, test_size=0
    )
    data = DataDispatcher(handler, n=CLIENTS, eval_on_user=False, auto_assign=False)
    own = [list(range(IMAGES * client, IMAGES * (client + 1))) for client in range(CLIENTS)]
    data.set_assignments(own, None)
    model = TorchModelHandler(
        net=Net(work),
        optimizer=torch.optim.SGD,
        optimizer_params={"lr": LR},
        criterion=nn.CrossEntropyLoss(),
        local_epochs=1,
        batch_size=BATCH,
        create_model_mode=CreateModelMode.MERGE_UPDATE,
    )
    nodes = GossipNode.generate(data, StaticP2PNetwork(CLIENTS), model, STEPS, sync=True)
    simulator = GossipSimulator(nodes, data, STEPS, AntiEntropyProtocol.PUSH)
    watch = Stopwatch()
    simulator.add_receiver(Observer(watch))
    simulator.init_nodes()
    simulator.start(WARM_UP + work.rounds)
    models = [node.model_handler.model for node in nodes.values()]
    print(watch.report(work.accuracy(models)))


if __name__ == "__main__":
    main(from_command_line())
