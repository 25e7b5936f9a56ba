"""SpikingJelly's clock_driven in plain PyTorch: loops over steps, with the arguments of its neurons.

:func:`modules` gives model files the stand-ins of this file, or those of snnfast.ports.clock_driven.
"""

import contextlib
import importlib
import importlib.util
import math
import sys
from types import ModuleType

import torch
from torch import nn

import snnfast.surrogate as known


class Node(nn.Module):
    """A call takes a sequence; classes without MultiStep in their names take a step."""

    def __init__(self, v_threshold=1.0, v_reset=0.0, surrogate_function=None, detach_reset=False, backend="torch"):
        super().__init__()
        self.v_threshold, self.v_reset, self.detach_reset = v_threshold, v_reset, detach_reset
        self.surrogate_function = surrogate_function or known.sigmoid(4.0)
        self.reset()

    def reset(self):
        self.v = 0.0 if self.v_reset is None else self.v_reset

    def step(self, x):
        h = self.charge(x)
        spike = self.surrogate_function(h - self.v_threshold)
        fired = spike.detach() if self.detach_reset else spike
        soft = self.v_reset is None
        self.v = h - fired * self.v_threshold if soft else (1 - fired) * h + fired * self.v_reset
        return spike

    def forward(self, x):
        return torch.stack([*map(self.step, x)]) if type(self).__name__.startswith("MultiStep") else self.step(x)


class IFNode(Node):
    def charge(self, x):
        return self.v + x


class LIFNode(Node):
    def __init__(self, tau=2.0, decay_input=True, *more, **named):
        super().__init__(*more, **named)
        self.tau, self.decay_input = tau, decay_input

    @property
    def rate(self):
        return 1 / self.tau

    def charge(self, x):
        away = self.v - (self.v_reset or 0.0)
        return self.v + (x - away) * self.rate if self.decay_input else self.v - away * self.rate + x


class ParametricLIFNode(LIFNode):
    def __init__(self, init_tau=2.0, *more, **named):
        super().__init__(init_tau, *more, **named)
        self.w = nn.Parameter(torch.as_tensor(-math.log(init_tau - 1)))

    @property
    def rate(self):
        return self.w.sigmoid()


class QIFNode(Node):
    def __init__(self, tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_rest=0.0, v_reset=-0.1, **named):
        super().__init__(v_threshold, v_reset, **named)
        self.tau, self.v_c, self.a0, self.v_rest = tau, v_c, a0, v_rest

    def charge(self, x):
        return self.v + (x + self.a0 * (self.v - self.v_rest) * (self.v - self.v_c)) / self.tau


class EIFNode(Node):
    def __init__(self, tau=2.0, delta_T=1.0, theta_rh=0.8, v_threshold=1.0, v_rest=0.0, v_reset=-0.1, **named):
        super().__init__(v_threshold, v_reset, **named)
        self.tau, self.delta_t, self.theta_rh, self.v_rest = tau, delta_T, theta_rh, v_rest

    def charge(self, x):
        v = torch.as_tensor(self.v, dtype=x.dtype)
        return v + (x + self.v_rest - v + self.delta_t * torch.exp((v - self.theta_rh) / self.delta_t)) / self.tau


class SeqToANNContainer(nn.Sequential):
    def forward(self, x):
        y = super().forward(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])


def _plain():
    """Return the modules of this file by SpikingJelly's names."""
    neuron, layer = ModuleType("neuron"), ModuleType("layer")
    for kind in (IFNode, LIFNode, ParametricLIFNode, QIFNode, EIFNode):
        setattr(neuron, kind.__name__, kind)
        name = f"MultiStep{kind.__name__}"
        setattr(neuron, name, type(name, (kind,), {}))
    layer.SeqToANNContainer = SeqToANNContainer
    names = {"": None, ".clock_driven": None, ".clock_driven.neuron": neuron, ".clock_driven.layer": layer}
    found = {f"spikingjelly{name}": module or ModuleType(f"spikingjelly{name}") for name, module in names.items()}
    found["spikingjelly.clock_driven"].layer = layer
    return found


@contextlib.contextmanager
def modules(plain=False):
    """Provide ``spikingjelly.clock_driven`` inside the block, as if no SpikingJelly were installed."""
    names = [name for name in sys.modules if name.partition(".")[0] == "spikingjelly"]
    saved = {name: sys.modules.pop(name) for name in [*names, "snnfast.ports.clock_driven"] if name in sys.modules}
    finders, find_spec = list(sys.meta_path), importlib.util.find_spec
    importlib.util.find_spec = lambda name: None
    try:
        if plain:
            sys.modules.update(_plain())
        else:
            importlib.import_module("snnfast.ports.clock_driven")
        importlib.util.find_spec = find_spec
        yield
    finally:
        importlib.util.find_spec = find_spec
        sys.meta_path[:] = finders
        for name in [n for n in sys.modules if n.partition(".")[0] == "spikingjelly"]:
            del sys.modules[name]
        sys.modules.update(saved)


def load(path, plain=False):
    """Return the module of a model file, built on one of the two."""
    with modules(plain):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
