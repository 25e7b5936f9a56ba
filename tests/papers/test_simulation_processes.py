"""Simulations of several processes: each builds its part, together they have the spikes of one."""

import json
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import command
import numpy as np
import pytest
import torch
from samples import assert_equal
from test_simulation import interrupt
from torchrun import children, torchrun

from snnfast import connect
from snnfast_zoo.papers import simulation as simulation_module
from snnfast_zoo.papers.procedures import SIMULATIONS, brunel, connectome, microcircuit
from snnfast_zoo.papers.shiu2024 import model as shiu2024

SHORT = {"seconds": 0.04, "warm_up": 0.0}
RESUMED = (brunel, connectome)
SCALES = {"brunel": 0.02, "vogels-abbott": 0.1, "microcircuit": 0.01, "connectome": 0.002}
# Each command runs as one of several processes; then one writes checkpoints, and one has another seed in each.
PROGRAM = """
import json, sys
import torch
from pathlib import Path
from snnfast import procedure
from snnfast_zoo import cli
from snnfast_zoo.papers import simulation
from snnfast_zoo.train.checkpoint import write_checkpoint
from snnfast_zoo.train.processes import joined

with joined(torch.device("cpu")) as processes:
    for command in sys.argv[1:]:
        cli.app(command.split("|"), standalone_mode=False)
    simulation.PART, simulation.SAVED = 10.0, 0.0
    simulation.write_checkpoint = lambda path, content: write_checkpoint(Path(f"{content['steps']}.pt"), content)
    procedure.microcircuit(seconds=0.04, warm_up=0.0, scale=0.01, out=Path("saved"))
    try:
        procedure.brunel(seed=processes.rank)
    except ValueError as error:
        print(error)
"""
ENDLESS = ["-m", "snnfast", "simulate", "brunel", "--scale", 0.02, "--seconds", 1e5, "--out", "endless"]

pytestmark = pytest.mark.usefixtures("one_thread")
needs_gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="PyTorch without Gloo")


def words(simulation):
    named = {**SHORT, "scale": SCALES[simulation.name], "out": simulation.name}
    options = [f"--{name.replace('_', '-')}|{value}" for name, value in named.items()]
    return "|".join(["simulate", simulation.name, *options, *["--resume"] * (simulation in RESUMED)])


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    """Run every simulation in several processes."""
    size, folder = request.param, tmp_path_factory.mktemp("together")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    for simulation in RESUMED:  # checkpoints of one process
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulation_module, "PART", 10.0)
            interrupt(patch, 2)
            with pytest.raises(KeyboardInterrupt):
                simulation(**SHORT, scale=SCALES[simulation.name], out=folder / simulation.name, progress=False)
    process = torchrun(size, program, *map(words, SIMULATIONS), folder=folder)
    try:
        said, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return SimpleNamespace(size=size, folder=folder, said=said)


@needs_gloo
@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda s: s.name)
def test_several_processes_have_the_spikes_of_one(together, simulation):
    alone = simulation(**SHORT, scale=SCALES[simulation.name], progress=False)
    assert len(alone.events) > 20
    folder = together.folder / simulation.name
    with np.load(folder / "events.npz") as stored:
        assert_equal(torch.from_numpy(stored["step"]), alone.events.step)
        assert_equal(torch.from_numpy(stored["neuron"]), alone.events.neuron)
        assert tuple(stored["shape"]) == alone.events.shape
    numbers, expected = json.loads((folder / "result.json").read_text()), alone.numbers()
    assert numbers["processes"] == together.size
    assert numbers["exchange"]["exchanges"] > 10
    assert expected["exchange"] == {"exchanges": 0, "bytes": 0, "seconds": 0.0}
    for name in ("neurons", "synapses", "spikes", "rates"):
        assert numbers[name] == expected[name]
    assert (folder / "raster.png").is_file()


@needs_gloo
def test_the_first_process_prints_and_settings_must_be_the_same(together):
    assert together.said.count("Events, raster and numbers") == len(SIMULATIONS)
    assert together.said.count("neurons, ") == len(SIMULATIONS)
    seeds = ", ".join(map(str, range(together.size)))
    assert together.said.count(f"seed must be the same in all, got {seeds};") == together.size


@needs_gloo
def test_one_process_goes_on_with_a_checkpoint_of_several(together, tmp_path):
    shutil.copy(together.folder / "200.pt", tmp_path / "checkpoint.pt")
    how = {**SHORT, "scale": 0.01, "progress": False}
    resumed, alone = microcircuit(**how, out=tmp_path, resume=True), microcircuit(**how)
    assert len(alone.events.window(200)) > 20
    assert_equal(resumed.events.dense(), alone.events.dense())


@needs_gloo
def test_a_killed_process_ends_the_command(tmp_path):
    process = torchrun(2, *ENDLESS, folder=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "endless").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(children(process)[-1], signal.SIGKILL)
        said, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "SIGKILL" in errors or "-9" in errors
    assert said == ""
    assert not (tmp_path / "endless" / "result.json").exists()


def test_wrong_settings_end_a_process_before_it_waits_for_others(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")  # without an address: joining would fail
    text = command.call("simulate", "brunel", "--warm-up", 2, "--out", tmp_path / "run", code=2)
    assert "warm_up must be less than seconds" in text


# ---- parts


def built(simulation, monkeypatch, rank=0, size=1):
    """Return the network that a process builds."""

    class PartOfOne(connect.Part):
        def __init__(self, neurons):
            super().__init__(neurons)
            low, high = (k * neurons // size for k in (rank, rank + 1))
            self.rank, self.size, self.neurons = rank, size, range(low, high)

    with monkeypatch.context() as patch:
        patch.setattr(connect, "Part", PartOfOne)
        return simulation.build(simulation.settings(scale=SCALES[simulation.name]))


def synapses(network):
    """Return receptor, target, source, delay and weight of each synapse, sorted."""
    c, here = network.connectivity, network.part.neurons
    pre, post = c.edges()
    rows = (post // len(here), post % len(here) + here.start, pre, c.delays(), c.per_synapse(network.weight))
    values = torch.stack([row.double() for row in rows]).numpy()
    return torch.from_numpy(values[:, np.lexsort(values[::-1])])


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda s: s.name)
def test_parts_have_the_synapses_and_states_of_the_whole(simulation, monkeypatch):
    monkeypatch.setattr(shiu2024, "DRAWN", 1000)
    whole = built(simulation, monkeypatch)
    parts = [built(simulation, monkeypatch, rank, 3) for rank in range(3)]
    every = torch.cat([synapses(part) for part in parts], 1).numpy()
    assert_equal(torch.from_numpy(every[:, np.lexsort(every[::-1])]), synapses(whole))
    for part in parts:
        # Neurons of the microcircuit differ in their number of synapses.
        assert len(part.connectivity) < 1.4 * len(whole.connectivity) / 3
    for name, state in whole.states.items():
        if state is not None:
            assert_equal(torch.cat([part.states[name] for part in parts]), state)


def test_drawing_in_chunks_changes_no_edge(monkeypatch):
    edges = shiu2024.random_edges(0.002, 1)
    monkeypatch.setattr(shiu2024, "DRAWN", 777)
    for found, expected in zip(shiu2024.random_edges(0.002, 1), edges, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_one_process_of_many_is_measured_alone(tmp_path, monkeypatch, capsys):
    brunel(**SHORT, scale=SCALES["brunel"], out=tmp_path, progress=False)
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts/one_of_many.py"))
    for rank in (0, 2):
        monkeypatch.setattr(sys, "argv", ["one_of_many.py", "3", str(tmp_path), "--rank", str(rank)])
        with monkeypatch.context() as patch:
            patch.setattr(connect, "Part", connect.Part)  # the script replaces it
            script["main"]()
        assert f"process {rank} of 3: " in capsys.readouterr().out
    stored = dict(np.load(tmp_path / "events.npz"))
    np.savez(tmp_path / "events.npz", **{**stored, "step": stored["step"] + 1})
    monkeypatch.setattr(connect, "Part", connect.Part)
    with pytest.raises(RuntimeError, match="spikes of process 2 of 3 differ"):
        script["main"]()
