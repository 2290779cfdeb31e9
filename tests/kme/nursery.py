"""KME processes that start in no time: forks of one that has everything imported.

``python -m tests.kme.nursery`` reads paths of KME files, one per line, and runs each in a fork. It
prints the fork's process id; the fork then prints what `deffd kme serve` prints when it is ready.
"""

import logging
import os
import signal
import sys
import traceback
from pathlib import Path

from deffd_flower.kme.config_file import load
from deffd_flower.kme.server import serve


def run(path: Path) -> None:
    """Be a KME until killed; its log is beside its file."""
    logging.basicConfig(filename=path.with_suffix(".log"), level=logging.INFO)
    config = load(path)
    serve(config, lambda addresses: print(f"ready {config.kme_id}", flush=True))


def main() -> None:
    """Fork whenever told to; whoever has died needs no burial."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child:
            print(f"pid {child}", flush=True)
            continue
        sys.stdin.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            run(Path(line.strip()))
        except BaseException:
            Path(line.strip()).with_suffix(".failed").write_text(traceback.format_exc())
        os._exit(0)


if __name__ == "__main__":
    main()
