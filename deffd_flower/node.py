"""What a node's operator decides in its ``--node-config``, whatever the run config says."""

from collections.abc import Mapping

from flwr.app import Context

from deffd_flower.config import RunConfig
from deffd_flower.errors import RequestError
from deffd_flower.request import resolved
from deffd_flower.strategy.partners import partner_of

#: Keys of a run that a node may answer for itself, being about its own machine.
OWN = ("data-dir", "device")

SHARE = "share-label-counts"


def partition_id(node_config: Mapping[str, object], clients: int) -> int:
    """Return a node's partition id.

    Raises:
        RequestError: There is none, or none of this run.
    """
    given = node_config.get("partition-id")
    if not isinstance(given, int) or not 0 <= given < clients:
        advice = f"must be 0 to {clients - 1}, with clients={clients}; set it in the SuperNode's"
        raise RequestError("partition-id", given, f"{advice} --node-config")
    return given


def client_config(context: Context) -> RunConfig:
    """Return the run's config as it holds on this node.

    Raises:
        RequestError: It is wrong.
    """
    config = resolved(context.run_config)
    own = {key: str(context.node_config[key]) for key in OWN if key in context.node_config}
    if not own:
        return config
    return config.replace(**{key.replace("-", "_"): value for key, value in own.items()})


def tells_label_counts(context: Context, config: RunConfig) -> bool:
    """Say whether the server learns this client's label counts: if the run and the node let it.

    Raises:
        RequestError: The node's answer is none, or it keeps what the run chooses partners by.
    """
    given = context.node_config.get(SHARE, True)
    own = {"true": True, "false": False}.get(str(given).lower())
    if own is None:
        raise RequestError(SHARE, given, "must be true or false in the SuperNode's --node-config")
    if config.label_counts_shared and not own and partner_of(config).nominates:
        advice = (
            f"this client keeps its label counts, and partner={config.partner} goes by them; with "
            "share-label-counts=false for the whole run, clients tell each other instead"
        )
        raise RequestError(SHARE, given, advice)
    return config.label_counts_shared and own
