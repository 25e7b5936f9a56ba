"""Simulations of sparse networks: spikes, rates against other simulators, files and the command."""

import json
import math

import command
import numpy as np
import pytest
import torch
from samples import assert_equal

from snnfast.ops import SpikeEvents
from snnfast_zoo.papers import simulation as simulation_module
from snnfast_zoo.papers.potjans_diesmann2014.model import MicrocircuitSettings, microcircuit_network
from snnfast_zoo.papers.procedures import SIMULATIONS, brunel, microcircuit, vogels_abbott
from snnfast_zoo.papers.vogels_abbott2005.model import VogelsAbbottSettings, vogels_abbott_network
from snnfast_zoo.train.checkpoint import write_checkpoint

SMALL = {"seconds": 0.12, "warm_up": 0.05, "progress": False}
SCALES = {"brunel": 0.02, "vogels-abbott": 0.1, "microcircuit": 0.01, "connectome": 0.002}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(simulation, **changes):
    return simulation(**SMALL, scale=SCALES[simulation.name], **changes)


# ---- the equations


def plainly(network, steps, kind):
    """Return the spikes of the network of Vogels and Abbott by a loop over steps, as Brian2 would run it."""
    c, n = network.connectivity, network.connectivity.n_pre
    pre, post = c.edges()
    v, ge, gi = (network.states[name].clone() for name in ("v", "ge", "gi"))
    remaining, fired, found = torch.zeros(n), torch.zeros(n, dtype=torch.bool), []
    decay, e, i = (math.exp(-0.1 / tau) for tau in (20, 5, 10))
    for _ in range(steps):
        arrives = fired[pre]
        x = torch.zeros(2 * n, dtype=v.dtype).index_add(0, post[arrives], network.weight[pre][arrives])
        if kind == "coba":
            after = v + 0.1 / 20 * (ge * (60 - v) + gi * (-20 - v) + (0 - v))
            ge, gi = ge * (1 - 0.1 / 5) + x[:n], gi * (1 - 0.1 / 10) + x[n:]
        else:
            after = v * decay + ge * (5 / (5 - 20) * (e - decay)) + gi * (10 / (10 - 20) * (i - decay))
            after = after + 11 * (1 - decay)
            ge, gi = ge * e + x[:n], gi * i + x[n:]
        after = torch.where(remaining > 0, v, after)
        fired = (after >= 10) & (remaining == 0)
        v = torch.where(fired, 0, after)
        remaining = torch.where(fired, 49, (remaining - 1).clamp(min=0))
        found.append(fired.double())
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["coba", "cuba"])
def test_vogels_abbott_equals_a_loop_over_its_equations(kind):
    network = vogels_abbott_network(VogelsAbbottSettings(synapses=kind, scale=0.1, dtype="float64"))
    events = network.run(1500)
    assert len(events) > 300
    assert_equal(events.dense(), plainly(network, 1500, kind))


def test_the_microcircuit_has_the_numbers_of_the_paper():
    """298.9 million synapses, of which scale 0.02 has 0.02^2; 87.8 pA a spike; 1 / 8 of the spikes twice as strong."""
    network = microcircuit_network(MicrocircuitSettings(scale=0.02))
    c, sizes = network.connectivity, list(network.populations.values())
    assert sizes == [414, 117, 438, 110, 97, 21, 288, 59]
    assert abs(len(c) / 0.02**2 / 298.88e6 - 1) < 0.005
    pre, post = c.edges()
    starts = [0, *np.cumsum(sizes)]

    def weights(j, i):
        inside = (pre >= starts[j]) & (pre < starts[j + 1]) & (post >= starts[i]) & (post < starts[i + 1])
        return network.weight[inside].double().mean().item() * 0.02**0.5, c.delays()[inside].double().mean().item()

    for j, i, weight, delay in ((0, 0, 87.8, 15), (2, 0, 175.6, 15), (1, 0, -351.2, 7.5), (3, 2, -351.2, 7.5)):
        found = weights(j, i)
        assert abs(found[0] / weight - 1) < 0.01
        assert abs(found[1] / delay - 1) < 0.05


# ---- rates


@pytest.mark.parametrize(("regime", "rate", "cv"), [("regular", 32.06, 0.17), ("irregular", 9.08, 0.53)])
def test_brunel_fires_as_in_other_simulators(regime, rate, cv):
    """Rates of our first prototype, within 1.5 % (NEST: 32.29 and 9.13 Hz, CV 0.17 and 0.54)."""
    result = brunel(regime=regime, progress=False)
    assert abs(result.rates["excitatory"] / rate - 1) < 0.015
    assert abs(result.cv["excitatory"] - cv) < 0.03
    assert result.network.connectivity.nbytes < 2.1 * 12500 * 1250


# ---- runs


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda s: s.name)
def test_a_run_in_parts_is_that_of_one_call(simulation):
    result = small(simulation)
    network = result.network
    states = {name: value for name, value in network.states.items() if value is not None}
    c, weight = network.connectivity, network.weight
    spikes, *_ = network.op(None, weight, c, num_steps=1200, noise=network.noise, **states)
    assert_equal(result.events.dense(), spikes)
    assert len(result.events) > 50
    again, other = small(simulation), small(simulation, seed=2)
    assert_equal(again.events.step, result.events.step)
    assert len(other.events) != len(result.events)


def test_command_writes_spikes_raster_and_numbers(tmp_path):
    out = tmp_path / "run"
    options = ["--scale", 0.05, "--seconds", 0.3, "--warm-up", 0.1, "--seed", 3, "--out", out]
    text = command.call("simulate", "brunel", *options)
    assert "625 neurons, 38,750 synapses of 2.1 bytes" in text
    assert "excitatory: " in text
    numbers = json.loads((out / "result.json").read_text())
    assert numbers["settings"]["seed"] == 3
    assert {path.name for path in out.iterdir()} >= {"events.npz", "raster.png", "result.json"}
    stored = np.load(out / "events.npz")
    assert numbers["spikes"] == len(stored["step"]) > 0
    result = brunel(scale=0.05, seconds=0.3, warm_up=0.1, seed=3, progress=False)
    assert_equal(result.events.neuron, torch.from_numpy(stored["neuron"]))
    assert numbers["rates"] == result.rates
    rate = SpikeEvents.rates(result.events.window(1000))[:500].mean().item() * 10_000
    assert result.rates["excitatory"] == pytest.approx(rate)
    assert "exists" in command.call("simulate", "brunel", *options, code=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda s: s.name)
def test_an_interrupted_simulation_goes_on_with_the_same_spikes(simulation, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation_module, "PART", 10.0)
    interrupt(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        small(simulation, dtype=dtype, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.suffix} == {"checkpoint.pt"}
    monkeypatch.setattr(simulation_module, "SAVED", 60.0)
    again, expected = small(simulation, dtype=dtype, out=tmp_path, resume=True), small(simulation, dtype=dtype)
    assert len(expected.events.window(700)) > 10
    assert_equal(again.events.dense(), expected.events.dense())
    assert again.rates == expected.rates
    assert not (tmp_path / "checkpoint.pt").exists()


def interrupt(monkeypatch, saved):
    """Let simulations write a checkpoint after each part, and interrupt them when there are ``saved``."""
    written = []

    def write(path, content):
        write_checkpoint(path, content)
        written.append(path)
        if len(written) == saved:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulation_module, "SAVED", 0.0)
    monkeypatch.setattr(simulation_module, "write_checkpoint", write)


def test_command_resumes(tmp_path, monkeypatch):
    out, options = tmp_path / "run", ["--scale", 0.02, "--seconds", 0.5, "--out", tmp_path / "run"]
    assert "there is no checkpoint" in command.call("simulate", "brunel", *options, "--resume", code=2)
    interrupt(monkeypatch, 2)
    text = command.call("simulate", "brunel", *options, code=130)
    assert "repeat the command with --resume to go on" in text
    assert "exists: resume it" in command.call("simulate", "brunel", *options, code=2)
    assert "seed: 1 there, 2 here" in command.call("simulate", "brunel", *options, "--resume", "--seed", 2, code=2)
    command.call("simulate", "brunel", *options, "--resume")
    assert json.loads((out / "result.json").read_text())["spikes"] == len(
        brunel(scale=0.02, seconds=0.5, progress=False).events
    )
    with pytest.raises(ValueError, match="resume needs out"):
        brunel(resume=True)


def test_command_names_what_is_wrong(tmp_path):
    out = ["--out", tmp_path / "run"]
    text = command.call("simulate", "brunel", "--warm-up", 2, *out, code=2)
    assert "warm_up must be less than seconds, got 2.0 and 1.0" in text
    assert "regime must be one of regular, irregular" in command.call(
        "simulate", "brunel", "--regime", "quiet", *out, code=2
    )
    assert not (tmp_path / "run").exists()
    for simulation, name in ((microcircuit, "microcircuit"), (vogels_abbott, "vogels-abbott")):
        assert name in command.call("simulate", name, "--help") + simulation.name
