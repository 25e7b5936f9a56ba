"""Import every module of the library and run every layer, op and rule, for an environment with torch and numpy alone.

Run by ``.ci/run`` in such an environment, and by ``test_bare.py`` in one that hides all other packages.
"""

import inspect
import pkgutil
import sys
from importlib import import_module

import torch

import snnfast
from snnfast import conversion, encoder, learning, nn, ops, plasticity

PUBLIC_PATHS = {
    *("checkpoint", "data", "model", "optimizer", "papers", "procedure", "threshold", "train", "visual", "visualizer")
}
T, B, N = 6, 2, 4


def modules():
    """Import every module, except the public paths of the zoo and the command."""
    for module in pkgutil.walk_packages(snnfast.__path__, "snnfast."):
        name = module.name.split(".")[1]
        if name not in PUBLIC_PATHS | {"__main__"} and not name.startswith("_"):
            import_module(module.name)


def layers():
    """Train every layer that needs no arguments, and those around a product, for one step."""
    x = torch.rand(T, B, N)
    with_defaults = [
        value
        for name in nn.__all__
        if inspect.isclass(value := getattr(nn, name))
        and issubclass(value, torch.nn.Module)
        and all(p.default is not p.empty or p.kind > 2 for p in inspect.signature(value).parameters.values())
        and name not in ("IntegerLIF", "Sequential")
    ]
    assert len(with_defaults) >= 10, with_defaults
    for layer in with_defaults:
        net = torch.nn.Sequential(nn.Time(torch.nn.Linear(N, N)), layer())
        net(x).float().sum().backward()
    for net in (
        nn.Sequential(nn.SpikeLinear(N, N), nn.RLIF(N), nn.Delay(N, 2), nn.Count()),
        nn.Sequential(nn.Time(torch.nn.BatchNorm1d(N)), nn.Recurrent(nn.AdLIF(N), N), nn.PSN(T)),
    ):
        net(x).sum().backward()
    images = torch.rand(T, B, 1, 8, 8).round()
    net = nn.Sequential(nn.Time(nn.SpikeConv2d(1, 2, 3)), nn.LIF(), nn.Time(torch.nn.MaxPool2d(2)), nn.Rate())
    assert net(images).shape == (B, 2, 3, 3)
    nn.accelerate(net)(images)
    times = torch.rand(B, 3)
    assert nn.SpikeProp(3, 2)(times).shape == (B, 2)


def rules():
    """Learn by STDP, a rule of one's own and BP-STDP, and encode."""
    pre, post = torch.rand(T, B, N).round(), torch.rand(T, B, 3).round()
    w = torch.rand(3, N)
    ops.stdp_(w, pre, post, rule=plasticity.pair())
    linear = torch.nn.Linear(N, 3, bias=False)
    torch.nn.init.uniform_(linear.weight)
    learning.STDP(linear, plasticity.triplet())
    spikes = encoder.PoissonEncoder(T)(torch.rand(B, N))
    assert spikes.shape == (T, B, N)


def networks():
    """Read and rewrite networks: conversion, export, ports."""
    relu = torch.nn.Sequential(torch.nn.Linear(N, N), torch.nn.ReLU(), torch.nn.Linear(N, 2))
    images = torch.rand(8, N)
    snn = conversion.convert(relu, [images])
    assert snn(images, T).shape == (8, 2)
    nn.like("spikingjelly.LIFNode", tau=2.0)(torch.rand(T, B, N))


if __name__ == "__main__":
    for part in (modules, layers, rules, networks):
        part()
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert "snnfast_zoo" not in loaded
    print("every layer, op and rule runs with torch and numpy alone")
