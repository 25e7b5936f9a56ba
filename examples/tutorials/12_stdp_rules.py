"""
STDP, and a rule of your own
============================

Spike-timing-dependent plasticity changes a weight by the times of the spikes on its two sides. This
tutorial measures the best-known curve of the field, then writes another rule in Python, and shows
what either does to a neuron with a hundred inputs.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from snnfast import plasticity
from snnfast.encoder import from_times
from snnfast.learning import STDP
from snnfast.nn import LIF

torch.manual_seed(0)

# %%
# The curve
# ---------
# 81 inputs fire once each, 0 to 80 ms after the beginning, and the neuron fires at 40 ms.
# :func:`snnfast.encoder.from_times` makes spikes ``[T, B, N]`` of recorded times. The pair rule
# strengthens an input that fired before the neuron, and weakens one that fired after it.

INPUTS = 81
pre = from_times(torch.arange(INPUTS) + 0.5, torch.arange(INPUTS), neurons=INPUTS)
post = from_times([40.5], [0], neurons=1, num_steps=len(pre))


def curve(rule) -> Tensor:
    """Return the change of each weight."""
    layer = nn.Linear(INPUTS, 1, bias=False)
    nn.init.constant_(layer.weight, 0.5)
    STDP(layer, rule).run(pre, post)
    return layer.weight.detach()[0] - 0.5


pair = plasticity.pair(lr_pre=0.0021, lr_post=0.002)

# %%
# A rule of your own
# ------------------
# A rule is a function from spikes and traces to the change of every weight. ``s.x_pre`` is the trace
# of an input, which jumps at its spikes and decays; ``s.s_post`` is 1 where the neuron fires. Rules
# of this package run in one kernel, and so does your own, which is compiled at the first call. This
# one is symmetric: an input that fires near a spike of the neuron grows, and every spike of an input
# costs a little.


def symmetric(s) -> Tensor:
    return 0.002 * (s.s_post * s.x_pre + s.s_pre * s.x_post) - 0.0018 * s.s_pre


custom = plasticity.OwnRule(symmetric)

figure, axis = plt.subplots(figsize=(7, 3.2))
for name, rule in (("pair", pair), ("symmetric", custom)):
    axis.plot(torch.arange(INPUTS) - 40, curve(rule), ".-", label=name)
axis.axhline(0, color="gray", linewidth=0.8)
axis.axvline(0, color="gray", linewidth=0.8)
axis.set(xlabel="ms from the neuron's spike to the input's", ylabel="change of the weight")
axis.legend()
figure.tight_layout()

# %%
# What a neuron learns from it
# ----------------------------
# All hundred inputs fire at 20 Hz on average. The first fifty fire in volleys, one after the other
# within 10 ms; the others fire independently. The neuron gets no label. ``listen`` makes the
# layer learn whenever it runs.


def inputs(steps: int) -> Tensor:
    """Draw spikes ``[steps, 1, 100]``, with steps of 1 ms."""
    begins = torch.rand(steps) < 0.02
    volley = torch.zeros(steps, 50)
    for t in begins.nonzero()[:, 0].tolist():
        for step in range(min(10, steps - t)):
            volley[t + step, 5 * step : 5 * step + 5] = 1  # five inputs a millisecond
    volley *= torch.rand(steps, 50) < 0.8
    return torch.cat([volley, (torch.rand(steps, 50) < 0.02).float()], 1).unsqueeze(1)


def learned(rule) -> Tensor:
    """Return the weights after 40 s."""
    torch.manual_seed(0)
    layer, neuron = (nn.Linear(100, 1, bias=False), LIF(tau=10.0, decay_input=False, v_threshold=16.0))
    nn.init.uniform_(layer.weight, 0.45, 0.55)
    STDP(layer, rule).listen(neuron)
    for _ in range(160):  # the weights change after each 250 ms
        neuron(layer(inputs(250)))
    return layer.weight.detach()[0]


figure, axes = plt.subplots(1, 2, sharey=True, figsize=(7, 3.2))
for axis, (name, rule) in zip(axes, (("pair", pair), ("symmetric", custom)), strict=True):
    weights = learned(rule)
    axis.scatter(torch.arange(100), weights, s=12, c=["crimson"] * 50 + ["gray"] * 50)
    axis.set(title=name, xlabel="input (red: volleys, in their order)")
    first, last, others = (part.mean() for part in weights.split([25, 25, 50]))
    print(f"{name}: early in the volley {first:.2f}, late {last:.2f}, others {others:.2f}")
axes[0].set_ylabel("weight after 40 s")
figure.tight_layout()

# %%
# By the pair rule the inputs that fire first win, and the neuron answers earlier and earlier. The
# symmetric rule strengthens every input that fires close to the neuron's spikes, before or after
# them.
#
# Where next
# ----------
# :doc:`/ops/stdp` lists the rules of the package, with triplets, bounds and rewards;
# ``examples/r_stdp.py`` learns from rewards alone, and :doc:`04_digits_without_labels` learns digits.
