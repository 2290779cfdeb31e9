"""What a node's operator decides for itself."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from deffd_flower.client_app import app as client_app
from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.federation import federate
from deffd_flower.node import client_config, partition_id, tells_label_counts
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve


def context(node_config: dict[str, Any], **keys: Any) -> Context:
    given = {key.replace("_", "-"): value for key, value in keys.items()}
    run_config = resolve({"dataset": "digits", **given}).values()
    return Context(1, 2, node_config, RecordDict(), run_config)


def test_a_nodes_data_folder_and_device_go_before_the_runs() -> None:
    run: dict[str, Any] = {"data_dir": "/servers/idea", "device": "cuda"}
    own = client_config(context({"data-dir": "/own", "device": "cpu"}, **run))
    assert (own.data_dir, own.device) == ("/own", "cpu")
    runs = client_config(context({"partition-id": 3}, **run))
    assert (runs.data_dir, runs.device) == ("/servers/idea", "cuda")


def test_a_node_may_keep_its_label_counts_whatever_the_run_asks_for() -> None:
    def told(given: object, **keys: Any) -> bool:
        asked = context({"share-label-counts": given}, **keys)
        return tells_label_counts(asked, client_config(asked))

    for no in (False, "false"):
        assert not told(no, share_label_counts=True)
        assert not told(no)
    assert told(True)
    assert not told(True, share_label_counts=False), "it takes both"
    with pytest.raises(RequestError, match=r"^share-label-counts=perhaps: must be true or false"):
        told("perhaps")


@pytest.mark.parametrize("partner", ["random", "complementary"])
def test_a_run_goes_on_without_a_nodes_label_counts_unless_it_goes_by_them(
    partner: str, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"dataset": "digits", "clients": 4, "rounds": 2, "local-epochs": 1}
    config = resolve({**keys, "partner": partner})
    grid = LocalGrid(client_app, config.clients, config.values())
    next(iter(grid.contexts.values())).node_config["share-label-counts"] = False
    if partner == "complementary":
        with pytest.raises(DeffdError, match="keeps its label counts, and partner=complementary"):
            federate(grid, config, tmp_path / "run", LineProgress())
    else:
        summary = federate(grid, config, tmp_path / "run", LineProgress())
        assert summary["failures"] == 0
        assert not (tmp_path / "run" / "partition.csv").exists()


def test_nothing_else_of_a_run_is_a_nodes_to_change() -> None:
    changed = client_config(context({"suite": "none", "rounds": 1, "data-dir": "/own"}))
    assert changed == resolve({"dataset": "digits", "data-dir": "/own"})


@pytest.mark.parametrize("given", [None, -1, 4, "3", 1.0])
def test_a_partition_id_is_a_whole_number_below_the_number_of_clients(given: object) -> None:
    assert partition_id({"partition-id": 3}, 4) == 3
    with pytest.raises(RequestError, match=r"^partition-id.*must be 0 to 3, with clients=4; set"):
        partition_id({"partition-id": given}, 4)
