"""Shapes and random calls of a network trained by BP-STDP."""

import itertools

import torch

from snnfast import ops


def sample(shape, dtype=torch.float64, seed=0):
    """Return weights, input spikes, labels and desired times."""
    num_steps, samples, sizes = shape
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn((o, i), generator=generator, dtype=dtype) for i, o in itertools.pairwise(sizes)]
    x = torch.rand((num_steps, samples, sizes[0]), generator=generator) < 0.3
    labels = torch.randint(sizes[-1], (samples,), generator=generator)
    desired = torch.rand((num_steps, samples), generator=generator) < 0.4
    return weights, x, labels, desired


def on(device, weights, *tensors):
    return [w.clone().to(device) for w in weights], *(x.to(device) for x in tensors)


def rates(samples, inputs, device="cpu", num_steps=7):
    generator = torch.Generator().manual_seed(4)
    hz = 1000 * (torch.rand((samples, inputs), generator=generator) - 0.4).clamp(min=0)
    seeds = torch.randint(-(2**63), 2**63 - 1, (samples,), generator=generator)
    return ops.Rates(hz.to(device), num_steps, seeds.to(device))


def kernel_call(shape, device, learns=True, state=False):
    weights, x, labels, desired = on(device, *sample(shape))
    membranes = [w.new_zeros((x.shape[1], len(w))) for w in weights] if state else None
    return ops.bp_stdp_network_.check(
        weights,
        x,
        labels if learns else None,
        desired if learns else None,
        thresholds=[0.9] * len(weights),
        lr=0.1,
        batch=2,
        state=membranes,
        return_hidden=True,
        return_state=state,
    )
