"""What one model reaches that trains on the data of all clients: the ceiling of the paper's preset.

No federation can do this, as the data would have to leave the clients. ``python -m
experiments.ceiling`` trains it for the seeds of the experiments, at the learning rate of Def-FD+,
and writes ``results/ceiling.csv``; on two cores that takes six minutes. Global is counted on the
images that `recipe.yaml` counts it on, Local on what each client holds out, averaged over the
clients.
"""

import csv
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean

import torch

from deffd_flower.commands.request import read_yaml
from deffd_flower.data.client import client_data
from deffd_flower.evaluation import evaluate
from deffd_flower.peer import Peer
from deffd_flower.randomness import torch_generator
from deffd_flower.request import resolve
from deffd_flower.results.cell_tables import Grid, markdown
from deffd_flower.results.statistics import summarise
from deffd_flower.strategy.presets import RECOMMENDED
from deffd_flower.training import Samples, train
from experiments import HERE, RESULTS

FILE = RESULTS / "ceiling.csv"
SEEDS = range(5)
EPOCHS = (20, 100)
"""As many passes over each sample as rounds of `recipe.yaml`, and as FedAvg makes in 20 rounds."""

RATE: dict[str, object] = {"lr": RECOMMENDED["lr"], "lr-schedule": RECOMMENDED["lr-schedule"]}
METRICS = ("global_accuracy", "local_accuracy", "local_accuracy_prior")


def rows_of(seed: int) -> list[dict[str, float]]:
    """Train on all clients' samples; return a row for each of the `EPOCHS`."""
    torch.set_num_threads(1)
    return [{"seed": seed, "epochs": epochs, **reached(seed, epochs)} for epochs in EPOCHS]


def reached(seed: int, epochs: int) -> dict[str, float]:
    """Train so long, and return the mean accuracies."""
    paper = read_yaml(str(HERE / "paper.yaml"))
    keys = {"seed": seed, "test-samples": 2000, "rounds": epochs, **RATE}
    config = resolve({**paper, **keys})
    clients = [client_data(config, client) for client in range(config.clients)]
    parts = [each.train for each in clients]
    everything = Samples(
        torch.cat([each.images for each in parts]),
        torch.cat([each.labels for each in parts]),
        parts[0].spec,
    )
    model = Peer(0, clients[0], config).model
    order = torch_generator(seed, "ceiling")
    for epoch in range(1, epochs + 1):
        train(model, everything.batches(config.batch_size, 1, order), config.in_round(epoch))
    found = [evaluate(model, data, config.test_samples) for data in clients]
    return {metric: fmean(each[metric] for each in found) for metric in METRICS}


def ceiling_table() -> str:
    """Return the committed results as a Markdown table."""
    if not FILE.is_file():
        return "No results yet.\n"
    with FILE.open(newline="") as file:
        results = list(csv.DictReader(file))
    rows = []
    for epochs in EPOCHS:
        own = [row for row in results if int(row["epochs"]) == epochs]
        sums = [summarise([100 * float(row[metric]) for row in own]) for metric in METRICS]
        cells = [f"{each.mean:.1f} ± {each.margin:.1f}" for each in sums]
        rows.append([str(epochs), str(len(own)), *cells])
    head = ["epochs", "seeds", "Global (%)", "Local (%)", "Local with prior (%)"]
    return markdown(Grid("One model on the data of all clients", head, keys=1, rows=rows))


def main() -> None:
    """Train for all seeds, write the file, print the table."""
    with ProcessPoolExecutor(max_workers=2) as pool:
        rows = [row for of_seed in pool.map(rows_of, SEEDS) for row in of_seed]
    with FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(ceiling_table())


if __name__ == "__main__":
    main()
