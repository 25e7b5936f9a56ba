"""Networks that run their steps in a loop, with a stand-in for snnTorch's neuron: for tests of snnfast.nn.replace."""

import torch
from replaced import leaky, loud
from torch import nn

STEPS = 6


def neuron(**settings):
    return leaky({"beta": 0.8, "threshold": 1.0, "reset_mechanism": "subtract", "reset_delay": True} | settings)


class Layers(nn.Module):
    """The network of snnTorch's tutorial 5."""

    def __init__(self, neuron=neuron):
        super().__init__()
        self.fc1, self.lif1 = loud(nn.Linear(4, 6)), neuron()
        self.fc2, self.lif2 = loud(nn.Linear(6, 3)), neuron()

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(membranes)


def changed(forward, **layers):
    """:class:`Layers` with another forward."""

    class Changed(Layers):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

    Changed.forward = forward
    return Changed()


def loop(step, states=1, steps=STEPS):
    """Return a forward that loops over ``steps`` calls of ``step(self, x, t, *states) -> spikes, *states``."""

    def one_state(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for t in range(steps):
            spk, mem = step(self, x, t, mem)
            spikes.append(spk)
        return torch.stack(spikes)

    def two_states(self, x):
        mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for t in range(steps):
            spk, mem1, mem2 = step(self, x, t, mem1, mem2)
            spikes.append(spk)
        return torch.stack(spikes)

    forward = one_state if states == 1 else two_states

    return forward
