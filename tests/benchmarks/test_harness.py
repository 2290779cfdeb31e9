"""Ratios, their spread and their JSON, from known numbers."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import harness
from benchmarks.federation import steady
from benchmarks.harness import Options, in_turn, ratio, ratio_of
from benchmarks.plain import cnn, nchw
from benchmarks.processes import memory_of_tree, run_module, run_program
from benchmarks.workload import CLIENTS, WARM_UP, Stopwatch
from deffd_flower.errors import DeffdError


def test_the_arms_are_measured_in_turn() -> None:
    order: list[str] = []
    told: list[str] = []

    def arm(name: str) -> int:
        order.append(name)
        return len(order)

    arms = {"a": lambda: arm("a"), "b": lambda: arm("b")}
    measured = in_turn(arms, Options(runs=3, tell=told.append))
    assert order == ["a", "b"] * 3
    assert measured == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert told[0] == "turn 1 of 3: a"


def test_a_ratio_is_the_median_over_the_turns_and_not_of_the_medians() -> None:
    result = ratio("x", [2.0, 9.0, 8.0, 1.0, 5.0], [1.0, 3.0, 2.0, 1.0, 10.0])
    assert result.ratio == 2.0
    assert result.spread == (0.5, 4.0)
    assert result.runs == 5


def test_turns_must_be_pairs_and_some() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio("x", [1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="nothing was measured"):
        ratio("x", [], [])


def test_a_result_is_one_line_of_json_with_the_machine_in_it() -> None:
    result = ratio_of("x:y", {"new": [3.0], "old": [1.5]}, "new", "old", bytes=7)
    line = result.as_json()
    assert "\n" not in line
    read = json.loads(line)
    assert list(read) == ["name", "ratio", "spread", "runs", "detail"]
    assert (read["name"], read["ratio"], read["spread"], read["runs"]) == ("x:y", 2.0, [2, 2], 1)
    assert read["detail"]["of"] == "new / old, seconds"
    assert read["detail"]["seconds"] == {"new": [3.0], "old": [1.5]}
    assert read["detail"]["bytes"] == 7
    assert read["detail"]["machine"]["cores"] >= 1
    assert read["detail"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert read["detail"]["commit"]


def test_the_first_rounds_and_the_last_are_not_steady() -> None:
    begun = [0.0, 100.0, 101.0, 102.0, 104.0]
    assert steady({"begun": begun}) == (3, 4.0)
    assert steady({"begun": begun}, skipped=2) == (2, 3.0)
    with pytest.raises(ValueError, match="3 rounds"):
        steady({"begun": begun[:2]})


def read_clock(times: list[float]) -> Stopwatch:
    clock = iter(times)
    return Stopwatch(lambda: next(clock))


def test_steady_state_leaves_the_warm_up_out() -> None:
    watch = read_clock([50.0, 60.0, 70.0, 72.0, 74.0])
    for _ in range(WARM_UP + 2):
        watch.epochs += CLIENTS
        watch.exchanges += 7
        watch.round_ended()
    told = json.loads(watch.report(0.5))
    assert (told["seconds"], told["seconds_per_round"]) == (2.0, 2.0)
    assert (told["epochs_per_round"], told["exchanges_per_round"]) == (CLIENTS, 7)
    assert told["accuracy"] == 0.5


def test_epochs_that_a_simulator_leaves_out_are_added_to_its_time() -> None:
    watch = read_clock([1.0, 2.0, 3.0, 4.0])
    watch.epoch_s += [0.2, 0.4]
    for _ in range(WARM_UP + 1):
        watch.epochs += 6
        watch.round_ended()
    told = json.loads(watch.report(0.5))
    assert told["seconds_per_round"] == 1.0
    assert math.isclose(told["seconds"], 1.0 + (CLIENTS - 6) * 0.3)


def test_the_plain_network_is_the_papers_in_nchw() -> None:
    model = cnn()
    assert sum(parameter.numel() for parameter in model.parameters()) == 29_066
    images = nchw(torch.zeros(6, 28, 28, 1).permute(0, 3, 1, 2))
    assert images.stride() == (784, 784, 28, 1)
    assert images[torch.tensor([4, 2])].stride() == (784, 784, 28, 1)
    # PyTorch takes over the layout of its input: channels last would be (12544, 1, 448, 16).
    assert model[0](images).stride() == (16 * 784, 784, 28, 1)


def test_a_program_gives_its_last_line_and_its_failure_is_named() -> None:
    words = [sys.executable, "-c", 'print("chatter"); print("{\\"seconds\\": 2}")']
    told = run_program(words, Path.cwd(), {})
    assert told["seconds"] == 2
    with pytest.raises(DeffdError, match=r"ended with 1; it said: .*no_such_module"):
        run_module("benchmarks.no_such_module")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells")
def test_memory_counts_children_and_shared_pages_once() -> None:
    program = (
        "import os, sys, time; held = bytearray(os.urandom(1) * 300_000_000);"
        "child = os.fork();"
        "print(flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    try:
        child.stdout.readline()
        child.stdout.readline()
        assert 300e6 < memory_of_tree(child.pid) < 400e6
    finally:
        os.killpg(child.pid, 9)
        child.wait()
        child.stdout.close()
    assert memory_of_tree(child.pid) == 0


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_the_machine_counts_as_busy_while_others_compute() -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as other:
        harness.busy_cores.cache_clear()
        found = harness.busy_cores()
        other.kill()
    harness.busy_cores.cache_clear()
    assert found is not None
    assert 0.25 < found <= (os.cpu_count() or 1)
