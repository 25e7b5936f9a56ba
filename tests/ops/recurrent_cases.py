"""Neurons with recurrent connections, and arguments for their calls."""

import pytest
import samples
import torch
from backends import PRESENT
from samples import Sample

from snnfast import ops
from snnfast.check import state_dtype

OPS = [op for op in samples.neurons() if op.fires]
KERNELS = [op for op in OPS if op.name == op.kernel]
LIF = next(op for op in OPS if op.name == "lif")
needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
each_kernel = pytest.mark.parametrize("op", KERNELS, ids=str)


class Recurrent:
    """A neuron with recurrent connections, as a function of its arguments."""

    def __init__(self, op, run=ops.recurrent):
        self.op, self.run = op, run

    def __call__(self, **arguments):
        return self.run(neuron=self.op.name, **arguments)


def case(op, variant="plain", shape=(35, 3, 7), dtype=torch.float64, past=0, delay=None, device="cpu"):
    """Return the arguments of a neuron, weights, spikes before the first step, and delays."""
    sample = Sample(op, variant if variant in op.variants else "plain", shape, dtype)
    generator, wide, H = sample.generator(), state_dtype(dtype), shape[-1]
    arguments = sample.arguments(device)
    weight = torch.randn(H, H, generator=generator, dtype=torch.float64) / max(H, 1) ** 0.5
    arguments["weight"] = weight.to(wide).to(device)
    if past:
        spikes = torch.rand(past, *shape[1:], generator=generator) < 0.3
        arguments["past"] = spikes.to(dtype).to(device)
    if delay:
        d = torch.rand(H, generator=generator, dtype=torch.float64) * 6 - 1
        arguments["delay"] = (d.floor() if delay == "whole" else d).to(wide).to(device)
    return arguments
