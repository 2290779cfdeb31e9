"""`kme`: keys from two KMEs, against a server that only makes them up.

Two KMEs in processes of their own, with a simulated quantum link between them, mutual TLS and
their stores on the disk. Every pair has a master at one and a slave at the other; the slave fetches
what the master was given, and both must have the same. The reference is the same HTTP library
with the same TLS and a dictionary, see `bare_kme`. Masters and slaves are in this process.
"""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from benchmarks.harness import ROOT, Options, Result, in_turn, ratio
from benchmarks.kme_load import Load, Outcome, Saes
from deffd_flower.errors import DeffdError
from deffd_flower.kme.certificates import Authority, Role, Validity

#: 200 SAEs and 20,000 keys; and batches as large as a request may be.
LOADS = {"200-saes": Load(100, 20, 10), "batches-of-128": Load(4, 40, 128)}
QUICK_LOADS = {"200-saes": Load(4, 2, 5), "batches-of-128": Load(1, 2, 128)}
KMES = ("kme-a", "kme-b")
END_S = 20


def measure(options: Options) -> Iterator[Result]:
    """Yield our seconds / those of the bare server, for the same keys."""
    for name, load in (QUICK_LOADS if options.quick else LOADS).items():
        with tempfile.TemporaryDirectory(prefix="deffd-bench-kme-") as folder:
            yield _compared(f"kme:{name}", load, Path(folder), options)


def _compared(name: str, load: Load, folder: Path, options: Options) -> Result:
    with two_kmes(folder, load) as ports, _bare_server(folder / "pki") as port:
        ours, bare = Saes(folder / "pki", *ports, load), Saes(folder / "pki", port, port, load)
        measured = in_turn({"ours": ours.run, "bare": bare.run}, options)
    seconds = {arm: [each.seconds for each in outcomes] for arm, outcomes in measured.items()}
    return ratio(
        name,
        seconds["ours"],
        seconds["bare"],
        of="ours / bare, seconds",
        seconds={arm: [round(each, 4) for each in all_] for arm, all_ in seconds.items()},
        keys=load.total,
        saes=2 * load.pairs,
        keys_per_request=load.keys,
        keys_per_s={arm: round(load.total / min(all_)) for arm, all_ in seconds.items()},
        latency_ms=_together(measured["ours"]).latency_ms(),
    )


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    both = Outcome()
    for outcome in outcomes:
        both.enc_s += outcome.enc_s
        both.dec_s += outcome.dec_s
    return both


@contextmanager
def two_kmes(folder: Path, load: Load) -> Iterator[tuple[int, int]]:
    """Run two KMEs for a load's SAEs; gives their ports, the masters' first."""
    ports = {kme: (_free_port(), _free_port()) for kme in KMES}
    authority = Authority(folder / "pki")
    with ExitStack() as stack:
        for kme, other, role in ((*KMES, "master"), (*KMES[::-1], "slave")):
            authority.issue(kme, Role.KME, Validity.days(1))
            file = _file(kme, other, load.saes(role), ports)
            path = folder / f"{kme}.yaml"
            path.write_text(yaml.safe_dump(file))
            words = [sys.executable, "-m", "deffd_flower.cli", "kme", "serve", str(path)]
            stack.enter_context(_server(words, folder / f"{kme}.log"))
        yield ports[KMES[0]][0], ports[KMES[1]][0]


def _file(
    kme: str, other: str, saes: Sequence[str], ports: dict[str, tuple[int, int]]
) -> dict[str, object]:
    return {
        "kme-id": kme,
        "port": ports[kme][0],
        "peer-port": ports[kme][1],
        "certificate": f"pki/{kme}.crt",
        "private-key": f"pki/{kme}.key",
        "ca": "pki/ca.crt",
        "store": f"{kme}.sqlite",
        "saes": list(saes),
        "heartbeat-s": 0.2,
        "peers": [
            {
                "kme-id": other,
                "url": f"https://127.0.0.1:{ports[other][1]}",
                # 13.72 Mb/s, so that what is measured is the KMEs and not the link.
                "link": "toshiba-2018",
                "channel": "a-b.seed",
            }
        ],
    }


@contextmanager
def _bare_server(pki: Path) -> Iterator[int]:
    files = [str(pki / name) for name in ("kme-a.crt", "kme-a.key", "ca.crt")]
    words = [sys.executable, "-m", "benchmarks.bare_kme", *files]
    with _server(words, pki.parent / "bare.log") as said:
        yield int(said)


@contextmanager
def _server(words: Sequence[str], log: Path) -> Iterator[str]:
    """Run a program until the ``with`` block ends; gives the first line it prints.

    Raises:
        DeffdError: It printed none.
    """
    with log.open("w") as errors:
        program = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
        )
    try:
        said = program.stdout.readline() if program.stdout else ""
        if not said:
            lines = log.read_text().strip().splitlines() or ["nothing"]
            raise DeffdError(f"{' '.join(words[1:4])} did not start; it said: {lines[-1]}")
        yield said
    finally:
        program.terminate()
        try:
            program.wait(END_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
        if program.stdout:
            program.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
