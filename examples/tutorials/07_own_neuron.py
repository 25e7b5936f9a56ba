"""
Write your own neuron
=====================

A neuron is an equation for one time step. This tutorial writes one that the package does not have.
It becomes a layer that runs all time steps in one kernel, learns its parameters, and is exported as
C. :doc:`/own_neuron` is the reference.
"""

import math
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import snnfast
from snnfast import surrogate

torch.manual_seed(0)

# %%
# The equation
# ------------
# The resonate-and-fire neuron (Izhikevich 2001) has two states, which oscillate like the position
# and the velocity of a spring. It fires when the first one reaches the threshold. The function
# below computes one time step of one neuron. It takes ``fire``, the input and the states by
# position, and the parameters by keyword; it returns the spikes and the new states. ``fire`` makes
# the spikes, with a surrogate gradient, and returns the membrane after the reset.


@snnfast.neuron
def resonate(fire, x, v, u, *, period=10.0, decay=0.97, v_threshold=1.0):
    """Resonate and fire: ``period`` in steps, ``decay`` of both states a step."""
    angle = 2 * math.pi / period
    turn, across = decay * torch.cos(angle), decay * torch.sin(angle)
    u, v = turn * u - across * v + x, across * u + turn * v
    s, _, v = fire(v, v_threshold)
    return s, v, u


# %%
# That is all: ``resonate`` is an op. The first call compiles a kernel for all time steps, forward
# and backward, and stores it on disk. The neuron fires for pulses with its own period, and for no
# others:

figure, axes = plt.subplots(3, 1, sharex=True, figsize=(7, 4))
for axis, gap in zip(axes, (7, 10, 14), strict=True):
    pulses = torch.zeros(100, 1)
    pulses[::gap] = 0.8
    spikes, v, u = resonate(pulses, v_reset=None)  # None: a soft reset
    axis.vlines(pulses.nonzero()[:, 0], 0, 0.8, color="gray")
    axis.vlines(spikes.nonzero()[:, 0], 0, 1, color="crimson")
    axis.set(ylabel=f"every {gap}", yticks=[])
axes[-1].set_xlabel("time step (pulses gray, spikes red)")
figure.tight_layout()

# %%
# A layer that learns
# -------------------
# ``resonate.layer`` is a class of layers. A parameter given as an ``nn.Parameter`` is learned. Here
# the neuron learns to fire for pulses that come every 12 steps.

layer = resonate.layer(period=nn.Parameter(torch.tensor([10.0])), v_reset=None, detach_reset=True)
print(layer)
pulses = torch.zeros(100, 1)
pulses[::12] = 0.8
optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
counts = []
for _ in range(60):
    count = layer(pulses).sum()
    loss = (count - 6).square()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    counts.append(int(count))
print(f"spikes: {counts[0]} before, {counts[-1]} after; period {layer.period.item():.1f}")

# %%
# What the kernel gains
# ---------------------
# Without a kernel every operation of every step writes a tensor, which the backward pass reads
# again. The kernel keeps the states in registers. This is the loop that one would write, and the
# same neuron as the op:


def loop(x: Tensor) -> Tensor:
    angle = torch.tensor(2 * math.pi / 10)
    turn, across = 0.97 * torch.cos(angle), 0.97 * torch.sin(angle)
    u, v = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    spike, spikes = surrogate.atan(), []
    for x_t in x:
        u, v = turn * u - across * v + x_t, across * u + turn * v
        spikes.append(spike(v - 1))
        v = v - spikes[-1]
    return torch.stack(spikes)


torch.set_num_threads(1)
x = torch.randn(100, 16, 512, requires_grad=True)


def milliseconds(neurons) -> float:
    """Return the CPU time of the fastest of five forward and backward passes."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        neurons(x).sum().backward()
        best = min(best, time.process_time() - start)
    return best * 1e3


slow, fast = milliseconds(loop), milliseconds(lambda x: resonate(x, v_reset=None)[0])
print(f"loop {slow:.0f} ms, kernel {fast:.1f} ms: {slow / fast:.0f} times as fast")

# %%
# ``resonate.reference`` runs the same step in plain PyTorch, a step at a time. The spikes of the
# kernel equal its spikes bit for bit; this is how the package tests its own neurons, too.

expected = resonate.reference(x, v_reset=None)[0]
print("equal spikes:", torch.equal(resonate(x, v_reset=None)[0], expected))

# %%
# In a network, and in C
# ----------------------
# The layer works wherever those of the package do: with recurrent connections and delays, in a
# monitor, under ``torch.compile``. ``export_c`` writes a network with it as plain C.

net = nn.Sequential(
    snnfast.nn.Time(nn.Linear(20, 64)),
    resonate.layer(period=nn.Parameter(torch.linspace(5, 20, 64)), v_reset=None),
    snnfast.nn.Time(nn.Linear(64, 5)),
    snnfast.nn.Rate(),
)
with tempfile.TemporaryDirectory() as folder:
    snnfast.export_c(net, folder)
    code = (Path(folder) / "snn.c").read_text()
start = code.index("static void resonate_1(void)")
print(code[start : code.index("\n}", start) + 2])
