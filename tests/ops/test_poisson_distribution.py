"""Random spikes: distribution and independence."""

import math

import pytest
import torch

from snnfast import ops


def test_zero_never_fires_and_one_always_does(backend):
    p = torch.ones(3000, device=backend.device)
    assert ops.poisson(p, 40, seed=1).all()
    assert not ops.poisson(p * 0, 40, seed=1).any()
    assert not ops.poisson(p * -0.0, 40, seed=1).any()


def test_values_out_of_range_without_validation(backend):
    p = torch.tensor([math.nan, -1.0, -math.inf, 1.5, math.inf], device=backend.device)
    spikes = ops.poisson(p, 30, seed=1, validate=False)
    assert not spikes[:, :3].any()
    assert spikes[:, 3:].all()


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3, 0.5, 0.9, 0.999])
def test_rate_is_p(kernels, p):
    steps, n = 50, 2000
    spikes = ops.poisson(torch.full((n,), p, device=kernels.device), steps, seed=11)
    deviation = math.sqrt(p * (1 - p) / (steps * n))
    assert abs(spikes.double().mean().item() - p) < 5 * deviation


def test_counts_are_binomial():
    p, steps, n = 0.3, 64, 4000
    counts = ops.poisson(torch.full((n,), p), steps, seed=5).sum(0).double()
    variance = steps * p * (1 - p)
    # The variance of a sample variance of n nearly normal numbers is 2 variance**2 / n.
    assert abs(counts.var().item() - variance) < 5 * variance * math.sqrt(2 / n)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("dim", [0, 1])
def test_steps_and_neighbours_are_independent(lag, dim):
    p, steps, n = 0.4, 201, 203
    x = ops.poisson(torch.full((n,), p), steps, seed=6).double() - p
    length = x.shape[dim] - lag
    product = x.narrow(dim, 0, length) * x.narrow(dim, lag, length)
    deviation = p * (1 - p) / math.sqrt(product.numel())
    assert abs(product.mean().item()) < 5 * deviation


def test_intervals_are_geometric():
    p, steps = 0.1, 200_000
    times = ops.poisson(torch.tensor(p), steps, seed=2).nonzero().flatten().double()
    intervals = times.diff()
    mean, coefficient = intervals.mean().item(), (intervals.std() / intervals.mean()).item()
    assert abs(mean - 1 / p) < 5 * math.sqrt(1 - p) / p / math.sqrt(len(intervals))
    assert abs(coefficient - math.sqrt(1 - p)) < 0.05
