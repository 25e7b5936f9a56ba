"""Random calls of the network of Diehl and Cook with conductances."""

import functools

import diehl_cook_cases
import torch

from snnfast import ops, reference
from snnfast.ops import Rates


def with_conductances(op):
    """Return the op with this kind of synapses, and its check; the name is that of ``backend.BY_REFERENCE``."""
    run = functools.partial(op, synapses="conductance")
    run.check = functools.partial(op.check, synapses="conductance")
    run.__name__ = "diehl_cook_ with conductances"
    return run


CONDUCTANCE = with_conductances(ops.diehl_cook_)
REFERENCE = with_conductances(reference.diehl_cook_)


def sample(sizes, dtype=torch.float64, count=2, steps=50, seed=0):
    """Return weights, thresholds and rates that make some, not all, neurons spike."""
    n, i = sizes
    generator = torch.Generator().manual_seed(seed)
    w = (torch.rand(n, i, generator=generator, dtype=torch.float64) * 0.4).to(dtype)
    theta = 20 + torch.rand(n, generator=generator, dtype=torch.float64)
    on = torch.rand(count, i, generator=generator) < 0.5
    hz = torch.rand(count, i, generator=generator) * 400 * on
    return w, theta, Rates(hz, steps, torch.arange(count) + 7)


def dense(x, i, dt=0.5):
    return diehl_cook_cases.dense(x, i, dt)
