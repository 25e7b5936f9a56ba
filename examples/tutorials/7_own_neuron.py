"""
Write your own neuron
=====================

A neuron is a rule for one time step. This tutorial writes one that the package does not have, in
plain PyTorch, and uses it in a network. Then it shows what a kernel would gain, and how to write
one.
"""

import math
import time

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from snnfast import surrogate
from snnfast.nn import ALIF

torch.manual_seed(0)

# %%
# A neuron in PyTorch
# -------------------
# The resonate-and-fire neuron (Izhikevich 2001) has two states, which oscillate like the position
# and the velocity of a spring. It fires when the second one reaches the threshold. The spike has no
# useful derivative; :mod:`snnfast.surrogate` has the usual surrogate gradients.


class ResonateAndFire(nn.Module):
    """``x`` ``[T, B, ...]`` -> spikes of the same shape.

    Args:
        period: steps of one turn, learned.
        decay: factor on both states a step.
    """

    def __init__(self, period: float, decay: float = 0.97) -> None:
        super().__init__()
        self.period = nn.Parameter(torch.tensor(period))
        self.decay = decay
        self.spike = surrogate.atan()

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi / self.period
        turn, across = self.decay * torch.cos(angle), self.decay * torch.sin(angle)
        u, v = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        spikes = []
        for now in x:
            u, v = turn * u - across * v + now, across * u + turn * v
            spikes.append(self.spike(v - 1))
            v = v - spikes[-1].detach()
        return torch.stack(spikes)


# %%
# It fires for pulses with its own period, and for no others:

neuron = ResonateAndFire(period=10.0)
figure, axes = plt.subplots(3, 1, sharex=True, figsize=(7, 4))
for axis, gap in zip(axes, (7, 10, 14), strict=True):
    pulses = torch.zeros(100, 1)
    pulses[::gap] = 0.8
    with torch.no_grad():
        spikes = neuron(pulses)
    axis.vlines(pulses.nonzero()[:, 0], 0, 0.8, color="gray")
    axis.vlines(spikes.nonzero()[:, 0], 0, 1, color="crimson")
    axis.set(ylabel=f"every {gap}", yticks=[])
axes[-1].set_xlabel("time step (pulses gray, spikes red)")
figure.tight_layout()

# %%
# It is a module like any other. The period has a gradient: the neuron learns to fire for pulses
# that come every 14 steps.

pulses = torch.zeros(100, 1)
pulses[::14] = 0.8
optimizer = torch.optim.Adam(neuron.parameters(), lr=0.1)
counts = []
for _ in range(60):
    count = neuron(pulses).sum()
    loss = (count - 4).square()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    counts.append(int(count))
print(f"spikes: {counts[0]} before, {counts[-1]} after; period {neuron.period.item():.1f}")

# %%
# What a kernel wins
# ------------------
# Every operation of the loop writes a tensor, which the backward pass reads again. A kernel keeps
# the states in registers and recomputes them. Here is a neuron that the package has in both forms:
# ALIF, whose threshold rises with its own spikes.


def alif(x: Tensor, decay: float, beta: float, decay_adapt: float) -> Tensor:
    v, a = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    spike, spikes = surrogate.atan(), []
    for now in x:
        h = decay * v + (1 - decay) * now
        s = spike(h - (1 + beta * a))
        v = h * (1 - s)
        a = decay_adapt * a + s
        spikes.append(s)
    return torch.stack(spikes)


arguments = {"decay": 0.5, "beta": 0.2, "decay_adapt": 0.95}
layer = ALIF(**arguments)
x = (2 * torch.rand(100, 16, 512)).requires_grad_()
print("equal spikes:", torch.equal(layer(x), alif(x, **arguments)))


def milliseconds(neurons) -> float:
    """The quickest of five forward and backward passes."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        neurons(x).sum().backward()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


loop, kernel = milliseconds(lambda x: alif(x, **arguments)), milliseconds(layer)
print(f"loop {loop:.0f} ms, kernel {kernel:.1f} ms: {loop / kernel:.0f} times as fast")

# %%
# Write the kernel
# ----------------
# A kernel is one file of maths, ``csrc/core/<name>.h``: how the input charges the states, the
# threshold, the effect of a spike on every state, and the derivatives of all three. This is the
# whole threshold of ALIF and the effect of its spike, as an extension of LIF:
#
# .. code-block:: cpp
#
#     template <class C>
#     static SNNFAST_HD C threshold(const C* charged, const C* c) {
#       return c[kThreshold] + c[kScale] * charged[kA];
#     }
#
#     template <Reset R, class Spikes, class C>
#     static SNNFAST_HD void fire(Spikes s, const C* c, C* state) {
#       Lif::fire<R>(s, c, state);
#       state[kA] = c[kLeakAdapt] * state[kA] + times(s, C(1));
#     }
#
# The build makes everything else: loops over time, instruction sets, CUDA, gradients of parameters,
# autograd, ``torch.compile``, recurrence. The tests of neurons cover it, too. CONTRIBUTING.md in the
# source lists the eight files, with their lengths; :doc:`/architecture` shows how they fit together.
