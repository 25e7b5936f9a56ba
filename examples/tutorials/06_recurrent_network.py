"""
A recurrent network: memory by adaptation and delays
====================================================

A neuron forgets within a few of its time constants. A network that has to remember longer needs
spikes that come back, a slow second state, or delays. This tutorial gives the same task to all of
them, and looks at how they remember.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from snnfast.nn import LI, LIF, AdLIF, Last, Recurrent, Time
from snnfast_zoo.data.sequences import delayed_xor

# %%
# The task
# --------
# One spike comes early and one comes late, each on one of two inputs. Were they different inputs?
# To answer after the last step, a network has to keep the first spike in mind.

STEPS, HIDDEN = 40, 48
x, labels = delayed_xor(4000, STEPS, seed=0)
test_x, test_labels = delayed_xor(1000, STEPS, seed=1)


def sequence(samples: torch.Tensor) -> torch.Tensor:
    """Turn bytes ``[B, T, 2]`` into floats ``[T, B, 2]``: layers take time first."""
    return samples.transpose(0, 1).float()


print("step and input of its spikes:", x[0].nonzero().tolist(), "label:", int(labels[0]))

# %%
# Four networks
# -------------
# :class:`snnfast.nn.Recurrent` wraps a layer of neurons: their spikes reach all of them in the next
# step, through learned weights. With ``max_delay`` the spikes of each neuron also have a learned
# delay. :class:`snnfast.nn.AdLIF` has a second, slow state, driven by membrane and spikes. In all
# of them the steps of a layer run in one kernel.
#
# The readout, :class:`snnfast.nn.LI`, leaks and does not fire. :class:`snnfast.nn.Last` takes its
# membrane after the last step.


def lif() -> LIF:
    return LIF(tau=5.0, surrogate="fast_sigmoid")


HIDDEN_LAYERS = {
    "LIF": lif,
    "recurrent LIF": lambda: Recurrent(lif(), HIDDEN),
    "recurrent LIF with delays": lambda: Recurrent(lif(), HIDDEN, max_delay=STEPS / 3),
    "recurrent AdLIF": lambda: Recurrent(AdLIF(HIDDEN, surrogate="fast_sigmoid"), HIDDEN),
}


def network(hidden: nn.Module) -> nn.Sequential:
    inputs = nn.Linear(2, HIDDEN)
    nn.init.uniform_(inputs.weight, -10, 10)  # so that a single spike can make a neuron fire
    return nn.Sequential(Time(inputs), hidden, Time(nn.Linear(HIDDEN, 2)), LI(tau=5.0), Last())


# %%
# Training
# --------
# Backpropagation through all 40 steps. Gradients are clipped to norm 1, since they are multiplied
# by the recurrent weights in every step.


def train(net: nn.Module, epochs: int = 10) -> list[float]:
    """Train, and return the test accuracy after each epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    accuracies = []
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(net(sequence(x[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            right = net(sequence(test_x)).argmax(1) == test_labels
        accuracies.append(right.float().mean().item())
    return accuracies


networks, curves = {}, {}
for name, hidden in HIDDEN_LAYERS.items():
    torch.manual_seed(0)
    networks[name] = network(hidden())
    curves[name] = train(networks[name])
    print(f"{name}: {curves[name][-1]:.1%}")

figure, axis = plt.subplots(figsize=(7, 3))
for name, curve in curves.items():
    axis.plot(range(1, len(curve) + 1), curve, marker=".", label=name)
axis.axhline(0.5, linestyle=":", color="gray")
axis.set(xlabel="epoch", ylabel="test accuracy", ylim=(0.45, 1.02))
axis.legend(fontsize=8)
figure.tight_layout()

# %%
# Half of the answers are right by chance (dotted). The first spike is up to 40 steps old when it is
# needed, and a LIF neuron with ``tau=5`` has forgotten it. Delays deliver it later, adaptation keeps
# it in the neuron. Recurrent LIF neurons can only keep up activity, and learn this late.
#
# How they remember
# -----------------
# The same early spike, then silence. Spikes of the hidden layers:

early = torch.zeros(STEPS, 1, 2)
early[2, 0, 0] = 1
shown = ("recurrent LIF", "recurrent LIF with delays", "recurrent AdLIF")

figure, axes = plt.subplots(1, 3, sharey=True, figsize=(8, 3))
for axis, name in zip(axes, shown, strict=True):
    with torch.no_grad():
        spikes = networks[name][:2](early)[:, 0]
    axis.scatter(*spikes.nonzero().T, s=4, color="black")
    axis.set(xlim=(0, STEPS), xlabel="time step")
    axis.set_title(name, fontsize=9)
axes[0].set_ylabel("neuron")
figure.tight_layout()

# %%
# The learned delays; they were drawn uniformly between 0 and 13 steps before training:

delays = networks["recurrent LIF with delays"][1].delays.detach()
print(f"from {delays.min():.1f} to {delays.max():.1f} steps, {delays.mean():.1f} on average")

# %%
# Where next
# ----------
# ``snnfast train sequence`` trains such networks on this task over 100 steps and more, on binary
# adding, on copy memory and on the pixels of MNIST. Layers for sequences of different length, other
# readouts and losses are in :doc:`/sequences`.
