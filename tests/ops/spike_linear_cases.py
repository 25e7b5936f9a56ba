"""Sizes and spikes for the tests of ``spike_linear``."""

import pytest
import torch
from backends import PRESENT

needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")

F64 = torch.float64
DTYPES = (torch.float32, F64, torch.bfloat16, torch.float16)
# x, outputs: around a word of bits, a register, a block of outputs, a chunk of inputs
SIZES = (
    ((1,), 1),
    ((3, 5), 2),
    ((2, 3, 64), 16),
    ((4, 63), 17),
    ((7, 65), 33),
    ((5, 130), 64),
    ((3, 200), 65),
    ((2, 40), 150),
    ((6, 1030), 70),
    ((0, 4), 3),
    ((3, 0), 4),
    ((3, 4), 0),
    ((2, 2100), 5),
)
# kinds of x: the share of nonzeros, and whether they are 1
KINDS = {"spikes": True, "values": False}


def uniform(*shape, seed, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=F64) * 2 - 1).to(dtype)


def inputs(shape, dtype=F64, part=0.2, unit=True, seed=0):
    active = uniform(*shape, seed=seed) < 2 * part - 1
    values = active if unit else active * uniform(*shape, seed=seed + 1)
    return values.to(dtype)


def case(size, dtype=F64, part=0.2, unit=True, bias=True):
    shape, outputs = size
    weight = uniform(outputs, shape[-1], seed=2, dtype=dtype)
    return (inputs(shape, dtype, part, unit), weight, uniform(outputs, seed=3, dtype=dtype) if bias else None)


def gradients(op, x, weight, bias, grad, **how):
    leaves = [a.detach().requires_grad_(a.is_floating_point()) for a in (x, weight, bias)]
    y = op(*leaves, **how)
    return torch.autograd.grad(y, [a for a in leaves if a.requires_grad], grad, materialize_grads=True)
