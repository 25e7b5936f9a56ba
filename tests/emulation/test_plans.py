"""Launch plans of learning networks on GPUs that need not be present, with the registers that nvcc reports."""

import functools
import itertools
import os
import sys
from pathlib import Path

import pytest
import torch
from every_op import meeting

from snnfast import testing

sys.path.append(str(Path(__file__).parents[2]))

from benchmarks import bp_stdp_network, diehl_cook, plans
from benchmarks.plans import CARDS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not testing.load_cuda_emulation(), reason="the emulated CUDA is not built")


def present(inputs, outputs, networks=0, images=2, **changes):
    return functools.partial(plans.present, diehl_cook, 250, inputs, outputs, images, networks, **changes)


def layers(*sizes, networks=0, batch=1, **changes):
    return functools.partial(plans.learn_layers, 50, batch, sizes, networks, **changes)


FROZEN = {"rule": None, "theta_plus": 0.0, "norm": None}
# Card, call -> synchronisation of blocks, blocks per team, teams, threads, whether memory is shared memory.
CASES = {
    "weights need a cluster": ("H100", present(784, 400), ("cluster", 8, 1, 256, True)),
    "a cluster each": ("H100", present(784, 400, 16), ("cluster", 8, 16, 256, True)),
    "no room for as many clusters": ("H100", present(784, 400, 17), ("blocks", 1, 17, 416, True)),
    "no clusters": ("A100", present(784, 400), ("blocks", 1, 1, 416, True)),
    "weights fit the fewest blocks": ("H100", present(784, 100), ("cluster", 2, 1, 256, True)),
    "weights fit one block": ("H100", present(100, 400), ("blocks", 1, 1, 416, True)),
    "many neurons": ("H100", present(784, 6400), ("grid", 25, 1, 256, True)),
    "more neurons than a block of a cluster": ("H100", present(20, 2000), ("cluster", 2, 1, 512, True)),
    "nothing fits": ("L4", present(60000, 40), ("blocks", 1, 1, 128, False)),
    "images at the same time": ("H100", present(784, 400, images=999, **FROZEN), ("blocks", 1, 132, 416, True)),
    "layers need a cluster": ("H100", layers(784, 500, 10), ("cluster", 8, 1, 512, True)),
    "layers without clusters": ("A100", layers(784, 500, 10), ("grid", 24, 1, 256, False)),
    "layers that fit one block": ("H100", layers(100, 50, 10, networks=132), ("blocks", 1, 132, 128, True)),
}


@pytest.mark.parametrize("case", CASES)
def test_where_memory_lies_and_how_blocks_meet(case):
    """The rules at the top of csrc/cuda/teams.cuh and in csrc/cuda/bp_stdp_network_memory.cuh."""
    card, call, expected = CASES[case]
    found = plans.plan(CARDS[card], call)
    assert (*found[:4], found.shared > 0) == expected
    assert found.shared <= CARDS[card].block_shared


@pytest.mark.parametrize("clusters", [True, False])
def test_examples_for_a_gpu_meet_in_clusters_and_in_grids(monkeypatch, clusters):
    """Without clusters and grids the examples of tests/every_op.py would not notice a missing barrier on an H100."""
    monkeypatch.setenv("SNNFAST_CLUSTERS", str(int(clusters)))
    found = {
        name: plans.plan(CARDS["H100"], example.run) for name, example in meeting("cpu").items() if not example.summed
    }
    ways = {name: (launch.way, launch.meeting) for name, launch in found.items()}
    current = "diehl_cook_ {}, inhibition delay 0"
    if clusters:
        assert ways[current.format("784x400")] == ("cluster", 8)
        assert ways[current.format("9x2100")] == ("cluster", 4)
        assert found[current.format("4 of 784x400")].teams == 4
        assert ways["bp_stdp_network_ 784x400, inhibition delay 0"][0] == "cluster"
        assert ways["diehl_cook_conductance_ 12x1100, inhibition delay 0"][0] == "cluster"
    else:
        assert ways[current.format("784x400")] == ("blocks", 1)
        assert ways[current.format("9x2100")] == ("grid", 9)
        assert ways["bp_stdp_network_ 784x400, inhibition delay 0"][0] == "grid"
        assert ways["diehl_cook_conductance_ 12x1100, inhibition delay 0"][0] == "grid"
    lagging = {name.replace("delay 0", "delay 3") for name in ways if name.startswith("diehl_cook_ ")}
    assert lagging <= ways.keys()


def test_the_page_has_the_plan_of_every_benchmarked_size():
    """``python -m benchmarks plans`` prints the table of docs/gpu.md."""
    _, _, text = (ROOT / "docs/gpu.md").read_text().partition("<!-- plans -->\n")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda line: line.startswith("|"), text.splitlines())
    ]
    del rows[1]
    assert rows == list(plans.table())


def test_registers_decide_how_many_blocks_are_resident(monkeypatch):
    """With fewer registers in nvcc's report more blocks fit, and so more teams."""
    seen = {}
    report = plans.json.loads(plans.STORED.read_text())
    for registers in (64, 128):
        for kernels in report.values():
            for name in kernels:
                kernels[name][0] = registers
        monkeypatch.setattr(plans.json, "loads", lambda text, changed=report: changed)
        # The memory fits no block: only registers and threads matter.
        call = present(60000, 40, images=999, **FROZEN)
        seen[registers] = plans.plan(CARDS["A100"], call).teams
    assert seen == {64: 8 * 108, 128: 4 * 108}


def test_a_plan_runs_nothing(monkeypatch):
    w = torch.zeros(400, 784)
    theta = torch.full((400,), -5.0)
    network = diehl_cook.Network(w, theta, torch.full((2, 784), 900.0))
    call = functools.partial(diehl_cook.learn, network, diehl_cook.rates(network.hz, 0, 20), v_threshold=0.0)
    plans.plan(CARDS["H100"], call)
    assert not w.any()
    assert "SNNFAST_EMULATION_DEVICE" not in os.environ
    assert bp_stdp_network.SHAPES  # planned, too
