"""Stand-ins for SpikingJelly's neurons and layers: for the tests of snnfast.nn.replace."""

import torch
from torch import nn


def named(name, library="spikingjelly.activation_based.neuron"):
    """Rename a class as one of another library."""

    def decorate(cls):
        cls.__module__, cls.__name__, cls.__qualname__ = library, name, name
        return cls

    return decorate


class Surrogate:
    def __init__(self, alpha):
        self.alpha, self.spiking = alpha, True


Sigmoid, ATan = (
    named(n, "spikingjelly.activation_based.surrogate")(type(n, (Surrogate,), {})) for n in ("Sigmoid", "ATan")
)


class Node(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        defaults = {"tau": 2.0, "decay_input": True, "v_threshold": 1.0, "v_reset": 0.0}
        defaults |= {"detach_reset": False, "step_mode": "m", "surrogate_function": Sigmoid(4.0)}
        for key, value in {**defaults, **settings}.items():
            setattr(self, key, value)
        self.v = 0.0 if self.v_reset is None else self.v_reset
        self._memories_rv = {"v": self.v}

    def reset(self):
        self.v = self._memories_rv["v"]


@named("LIFNode")
class LIFNode(Node):
    """SpikingJelly's equation: v + (x - (v - v_reset)) / tau, or v - (v - v_reset) / tau + x; then fire and reset."""

    def charge(self, x):
        rest = 0.0 if self.v_reset is None else self.v_reset
        if self.decay_input:
            return self.v + (x - (self.v - rest)) / self.tau
        return self.v - (self.v - rest) / self.tau + x

    def forward(self, x):
        spikes = []
        for x_t in x:
            v = self.charge(x_t)
            fired = (v >= self.v_threshold).to(v)
            soft = self.v_reset is None
            self.v = v - fired * self.v_threshold if soft else torch.where(fired > 0, self.v_reset, v)
            spikes.append(fired)
        return torch.stack(spikes)


@named("IFNode")
class IFNode(LIFNode):
    def charge(self, x):
        return self.v + x


def layer(kind, *arguments, **more):
    """Return a stand-in for SpikingJelly's layer of this name: PyTorch's layer with a step mode."""

    class Layer(kind):
        step_mode = "m"

        def forward(self, x):
            if self.step_mode == "s":
                return super().forward(x)
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    Layer.__name__, Layer.__module__ = kind.__name__, "spikingjelly.activation_based.layer"
    return Layer(*arguments, **more)
