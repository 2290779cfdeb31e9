"""The work of `peers` on fluke's GossipDFL: clients push to a random one, and average with mail.

A client without mail does not train, so that a round has fewer than ten client epochs. Run in an
environment that has fluke-fl.
"""

import time

import torch
from fluke import DDict, FlukeENV
from fluke.algorithms.decentralized import GossipDFL, Topology
from fluke.algorithms.decentralized.client import GossipClient
from fluke.comm import ChannelObserver, Message
from fluke.config import OptimizerConfigurator
from fluke.data import FastDataLoader
from fluke.evaluation import ClassificationEval
from fluke.utils import ClientObserver, FederationObserver
from torch import nn

from benchmarks.workload import BATCH, CLIENTS, LR, WARM_UP, Stopwatch, Work, from_command_line

CLASSES, EVALUATION_BATCH = 10, 128


class Observer(ChannelObserver, ClientObserver, FederationObserver):  # type: ignore[misc]  # no types
    """Takes the time of epochs and rounds, and counts.

    Args:
        watch: Counts.
    """

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch
        self._started = 0.0

    def start_fit(self, round: int, client_id: int, model: nn.Module) -> None:
        """A client begins its epoch."""
        self._started = time.perf_counter()

    def end_fit(self, round: int, client_id: int, model: nn.Module, loss: float) -> None:
        """Count an epoch."""
        self.watch.epoch_s.append(time.perf_counter() - self._started)
        self.watch.epochs += 1

    def message_sent(self, to: int, message: Message) -> None:
        """Count a model."""
        self.watch.exchanges += 1

    def end_round(self, round: int) -> None:
        """Note the end of a round."""
        self.watch.round_ended()


def main(work: Work) -> None:
    """Run and report."""
    environment = FlukeENV()
    environment.set_eval_cfg(pre_fit=False, post_fit=False, server=False, locals=work.evaluate)
    environment.set_evaluator(ClassificationEval(eval_every=1, n_classes=CLASSES))
    topology = Topology.fully_connected(CLIENTS)
    test = FastDataLoader(
        work.test_images, work.test_labels, num_labels=CLASSES, batch_size=EVALUATION_BATCH
    )
    clients = [client(work, index, topology[index]) for index in range(CLIENTS)]
    federation = GossipDFL(CLIENTS, None, DDict(), topology, clients, test)
    watch = Stopwatch()
    federation.set_callbacks(Observer(watch))
    federation.run(WARM_UP + work.rounds)
    print(watch.report(work.accuracy(each.model for each in clients)))


def client(work: Work, index: int, neighbours: list[int]) -> GossipClient:
    """Return one of fluke's clients; with ``eta`` a half it takes the mean of its own and mail."""
    own = FastDataLoader(
        *(work.images[index], work.labels[index]),
        num_labels=CLASSES,
        batch_size=BATCH,
        shuffle=True,
    )
    return GossipClient(
        index=index,
        model=work.model(),
        neighbours=neighbours,
        train_set=own,
        test_set=None,
        optimizer_cfg=OptimizerConfigurator(DDict(name=torch.optim.SGD, lr=LR)),
        loss_fn=nn.CrossEntropyLoss(),
        local_epochs=1,
        policy="aggregate",
        eta=0.5,
    )


if __name__ == "__main__":
    main(from_command_line())
