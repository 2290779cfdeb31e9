"""Flower's entry to the server's side: `flwr run` starts here."""

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.federation import federate
from deffd_flower.progress import LineProgress
from deffd_flower.request import resolve
from deffd_flower.results.directory import run_directory
from deffd_flower.results.writer import as_json

log = logging.getLogger("flwr")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one federation; print a line per round and one ``RESULT {json}`` line."""
    try:
        config = resolve(context.run_config)
        if config.workers:
            advice = "is for deffd run; flwr run takes client-resources-num-cpus"
            raise RequestError("workers", config.workers, advice)
        if config.clients_at_once > 1:
            advice = "is for deffd run; flwr run trains one client after the other"
            raise RequestError("batched-clients", config.batched_clients, advice)
        directory = run_directory(config, Path.home() / ".cache" / "deffd-flower" / "runs")
        summary = federate(grid, config, directory, LineProgress())
    except DeffdError as problem:
        log.error("deffd: %s", problem)
        # Flower prints the traceback of what ends its process; the line above says it better.
        sys.tracebacklimit = 0
        raise
    print(f"RESULT {as_json(summary)}", flush=True)
    log.info("deffd: report at %s", directory / "report.html")
