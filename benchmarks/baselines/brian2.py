"""Brian2: the networks of Diehl and Cook, and of Vogels and Abbott, as C++ programs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import brian2
import numpy
import torch
from brian2 import ms
from torch import Tensor

from benchmarks.diehl_cook import INHIBITION, LR_PRE, NORM, V_RESET, V_THRESHOLD, DiehlCookNetwork, settings
from benchmarks.timing import Seconds

NOTE = "CPU time of the program's loop; Diehl and Cook: several neurons may fire in a step"
REPEATED = 20  # presentations of the same spikes in a run of the program

INPUTS = "dx/dt = -x / (20*ms) : 1"
NEURONS = """
dv/dt = -v / (100*ms) : 1
dy/dt = -y / (20*ms) : 1
dz/dt = -z / (40*ms) : 1
theta : 1
total : 1
"""
WHILE_RECEPTIVE = "* int(not_refractory_post)"
CLOCK = 'std::cout << clock() / double(CLOCKS_PER_SEC) << "\\n";'

# Those of Vogels and Abbott: equations, and a method that solves a step.
VOGELS_ABBOTT = {
    "coba": ("(ge*(60-v) + gi*(-20-v) + (0-v))/(20*ms)", "euler"),
    "cuba": ("(ge + gi + 11 - v)/(20*ms)", "exact"),
}
CURRENTS = """
dge/dt = -ge/(5*ms) : 1
dgi/dt = -gi/(10*ms) : 1
"""
EXACT = ["-w", "-O3", "-march=native", "-ffp-contract=off", "-std=c++17"]  # without -ffast-math


def diehl_cook(network: DiehlCookNetwork, spikes: Tensor) -> Callable[[], object]:
    """The rule, the constants and the inhibition of snnfast's network, from the same weights and thresholds."""
    steps, inputs = spikes.shape
    outputs = len(network.w)
    lr, theta_plus = settings(outputs)
    folder, length = tempfile.TemporaryDirectory(), steps * ms  # deleted with `present`, which holds it
    brian2.set_device("cpp_standalone", build_on_run=False, directory=folder.name)
    brian2.prefs.core.default_float_dtype = numpy.float32
    brian2.defaultclock.dt = ms

    def every_presentation(group: brian2.Group, code: str, order: int) -> object:
        return group.run_regularly(code, dt=length, when="start", order=order)

    source = brian2.NeuronGroup(inputs, INPUTS, threshold="fires(t % length, i) > 0", reset="x = 1")
    target = brian2.NeuronGroup(
        *(outputs, NEURONS),
        threshold=f"v >= {V_THRESHOLD} + theta",
        reset=f"v = {V_RESET}; theta += {theta_plus}; y = 1; z = 1",
        refractory=5 * ms,
    )
    target.theta = network.theta.numpy()
    weights = brian2.Synapses(
        *(source, target, "w : 1"),
        on_pre=f"v_post += w {WHILE_RECEPTIVE}; w = clip(w - {LR_PRE} * y_post, 0, 1)",
        on_post=f"w = clip(w + {lr} * x_pre * z_post, 0, 1)",
    )
    weights.connect()
    weights.w = network.w.T.flatten().numpy()
    inhibition = brian2.Synapses(target, target, on_pre=f"v_post -= {INHIBITION} {WHILE_RECEPTIVE}")
    inhibition.connect(condition="i != j")
    begins = [
        every_presentation(target, "v = 0; y = 0; z = 0; total = 0", 0),
        every_presentation(source, "x = 0", 0),
        every_presentation(weights, "total_post += w", 1),
        every_presentation(weights, f"w = clip(w * {NORM * inputs} / total_post, 0, 1)", 2),
    ]
    fires = brian2.TimedArray(spikes.numpy(), dt=ms)
    brian2.device.insert_code("main", CLOCK)
    net = brian2.Network(source, target, weights, inhibition, *begins)
    net.run(REPEATED * length, namespace={"fires": fires, "length": length})
    brian2.device.insert_code("main", CLOCK)
    brian2.device.build(directory=folder.name, run=False)

    return lambda: Seconds(seconds(folder) / REPEATED)


def seconds(folder: tempfile.TemporaryDirectory[str]) -> float:
    """Run a program, and return the time between the two clocks in it."""
    out = subprocess.run(["./main"], cwd=folder.name, capture_output=True, text=True, check=True).stdout
    begin, end = map(float, out.split())
    return end - begin


def vogels_abbott(
    made: Any, name: str, dtype: str, steps: int, rates: dict[str, float] | None
) -> tuple[Callable[[], Seconds], Tensor, Tensor | None]:
    """Return a run of the connections and initial states of a network of the zoo, and its spikes: step and neuron.

    ``rates``: of the pair rule of the excitatory synapses, whose weights after the run are the last result; None: they
    do not learn.
    """
    neurons, (pre, post) = made.connectivity.n_pre, (index.numpy() for index in made.connectivity.edges())
    folder = tempfile.TemporaryDirectory()
    brian2.set_device("cpp_standalone", build_on_run=False, directory=folder.name)
    brian2.device.reinit()
    brian2.device.activate(build_on_run=False, directory=folder.name)
    brian2.prefs.core.default_float_dtype = getattr(numpy, dtype)
    brian2.prefs.codegen.cpp.extra_compile_args_gcc = EXACT
    brian2.defaultclock.dt = made.dt * ms
    rate, method = VOGELS_ABBOTT[name.partition(" ")[0]]
    group = brian2.NeuronGroup(
        *(neurons, f"dv/dt = {rate} : 1 (unless refractory)\n{CURRENTS}"),
        **{"threshold": "v > 10", "reset": "v = 0", "refractory": 5 * ms, "method": method},
    )
    parts = []
    for target, chosen in (("ge", post < neurons), ("gi", post >= neurons)):
        (weight,) = numpy.unique(made.connectivity.per_synapse(made.weight).numpy()[chosen])
        learns = rates is not None and target == "ge"
        model = pair_rule(rates) if learns else {"on_pre": f"{target} += {float(weight)!r}", "delay": made.dt * ms}
        parts.append(brian2.Synapses(group, group, **model))
        parts[-1].connect(i=pre[chosen], j=post[chosen] % neurons)
        if learns:
            parts[-1].w = weight
            for order, pathway in enumerate(("pre", "post", "depress", "potentiate")):
                getattr(parts[-1], pathway).order = order
            for pathway in ("pre", "depress"):
                getattr(parts[-1], pathway).delay = made.dt * ms
    for state in ("v", "ge", "gi"):
        setattr(group, state, made.states[state].numpy())
    monitor = brian2.SpikeMonitor(group)
    net = brian2.Network(group, monitor, *parts)
    brian2.device.insert_code("main", CLOCK)
    net.run(steps * made.dt * ms)
    brian2.device.insert_code("main", CLOCK)
    brian2.device.build(directory=folder.name, with_output=False)
    step = numpy.round(monitor.t / (made.dt * ms))
    spikes = torch.from_numpy(numpy.stack([step, monitor.i]).astype(numpy.int64))
    return lambda: Seconds(seconds(folder)), spikes, torch.tensor(parts[0].w[:]) if rates else None


def pair_rule(rates: dict[str, float]) -> dict[str, Any]:
    """Return synapses that learn: traces come before weights, so spikes of a step are a pair in both directions."""
    return {
        "model": "w : 1\ndx/dt = -x / (20*ms) : 1 (event-driven)\ndy/dt = -y / (20*ms) : 1 (event-driven)",
        "on_pre": {"pre": "x += 1", "depress": f"ge += w; w = clip(w - {rates['lr_pre']} * y, 0, {rates['w_max']})"},
        "on_post": {"post": "y += 1", "potentiate": f"w = clip(w + {rates['lr_post']} * x, 0, {rates['w_max']})"},
    }
