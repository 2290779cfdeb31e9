"""Downloads that fail in seconds, not minutes, where there is no network."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

STALL_SECONDS = 30.0


@contextmanager
def bounded_network(mirrors: Sequence[str], patience: float) -> Iterator[None]:
    """Run a download whose every wait for the network is bounded.

    Args:
        mirrors: Addresses of which one must answer before the download starts.
        patience: Seconds each may take for its first answer, name look-up included.

    Raises:
        OSError: No mirror answered; or, from within, a transfer stalled.
    """
    _require_answer(mirrors, patience)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _require_answer(mirrors: Sequence[str], patience: float) -> None:
    """Ask all mirrors at once and return at the first answer."""
    answers: SimpleQueue[str] = SimpleQueue()
    for url in mirrors:
        # A name look-up takes no timeout, so it waits in a thread nobody has to wait for.
        Thread(target=_ask, args=(url, patience, answers), daemon=True).start()
    reasons = []
    for _ in mirrors:
        try:
            reason = answers.get(timeout=patience)
        except Empty:
            reasons.append(f"no answer within {patience:g} s")
            break
        if not reason:
            return
        reasons.append(reason)
    hosts = ", ".join(str(urlsplit(url).hostname) for url in mirrors)
    raise OSError(f"no network to {hosts} ({'; '.join(reasons)})")


def _ask(url: str, patience: float, answers: "SimpleQueue[str]") -> None:
    """Put an empty string for an answer of any kind, else why there was none."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=patience):
            answers.put("")
    except HTTPError:
        answers.put("")
    except URLError as problem:
        answers.put(str(problem.reason))
    except (OSError, ValueError) as problem:
        answers.put(str(problem))
