"""What is looked up before a run begins, in the process that starts it."""

from deffd_flower.config import RunConfig
from deffd_flower.data.client import client_data
from deffd_flower.peer import Peer


def check_clients(config: RunConfig) -> None:
    """Have one client with each of the run's models look up all that clients will need.

    Raises:
        RequestError: A key names something that is not there, or models and losses do not fit.
        DeffdError: The data set cannot be had.
    """
    for partition in config.cast.firsts():
        Peer(partition, client_data(config, partition), config).check()
