"""Two KME processes under load: every pair has the same keys, no key is there twice, and fast."""

import os
import time
from pathlib import Path

import pytest

from benchmarks import kme
from benchmarks.harness import Options
from benchmarks.kme_load import Load, Saes
from deffd_flower.errors import DeffdError
from deffd_flower.kme.ledger import read_ledger

KEYS_PER_S, CORES = 1000, 2


def cpu_s() -> float:
    """Return the CPU seconds of this process and of those it has started, ended or not."""
    ticks = 0
    for child in Path("/proc/self/task").glob("*/children"):
        for pid in child.read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells")
@pytest.mark.parametrize(
    "load", [Load(100, 3, 10), Load(4, 10, 128)], ids=["200 SAEs", "batches of 128"]
)
def test_keys_are_right_and_cheap(folder: Path, load: Load) -> None:
    """A thousand keys a second on two cores means two CPU milliseconds a key, clients included.

    CPU time is what is measured, because others may be using the machine.
    """
    with kme.two_kmes(folder, load) as ports:
        saes = Saes(folder / "pki", *ports, load)
        before = cpu_s()
        outcome = saes.run()
        per_key_s = (cpu_s() - before) / load.total
    assert len(outcome.seen) == load.total
    assert len(outcome.enc_s) == len(outcome.dec_s) == load.pairs * load.requests
    assert per_key_s < CORES / KEYS_PER_S
    for name in kme.KMES:
        ledger = read_ledger(folder / f"{name}.sqlite")
        ledger.check()
        used = max(balance.delivered for balance in ledger.balances)
        assert used == load.total * load.size // 8
    assert read_ledger(folder / "kme-b.sqlite").tally.fetched == load.total


@pytest.mark.slow
def test_the_benchmark_compares_the_same_keys() -> None:
    results = list(kme.measure(Options(runs=2, quick=True)))
    assert [result.name for result in results] == ["kme:200-saes", "kme:batches-of-128"]
    for result, load in zip(results, kme.QUICK_LOADS.values(), strict=True):
        assert (result.runs, result.detail["keys"]) == (2, load.total)
        assert result.ratio > 0
        assert set(result.detail["keys_per_s"]) == {"ours", "bare"}  # type: ignore[call-overload]
        latency = result.detail["latency_ms"]
        assert isinstance(latency, dict)
        assert 0 < latency["enc_keys p50"] <= latency["enc_keys p99"]


@pytest.mark.slow
def test_a_kme_that_does_not_start_says_why(folder: Path) -> None:
    load = Load(1, 1, 1)
    (folder / "a-b.seed").write_bytes(bytes(32))
    (folder / "a-b.seed").chmod(0o644)
    problem = pytest.raises(DeffdError, match=r"did not start; it said: .*open to others")
    with problem, kme.two_kmes(folder, load):
        pass
