"""Kernels of neurons from step functions against the loop in plain PyTorch: bits forward, 1e-12 backward in float64."""

import warnings

import torch
from samples import assert_equal

import snnfast


@snnfast.neuron
def readout(fire, x, v, *, decay=0.5):
    v = decay * v + x
    return torch.sin(v) + torch.log(1.5 + torch.cos(v)), v


@snnfast.neuron
def four_functions(fire, x, v):
    return torch.exp(x), torch.log(x), torch.sigmoid(x), torch.tanh(x), v + x


def every_exponent(dtype):
    """Return numbers of every size and both signs, subnormal and special ones among them."""
    largest = 38 if dtype == torch.float32 else 308
    sizes = 10 ** torch.linspace(-largest - 6, largest, 3000, dtype=torch.float64)
    special = torch.tensor([0.0, torch.inf, torch.nan], dtype=torch.float64)
    x = torch.cat([sizes, torch.linspace(0, 2 * largest, 3000, dtype=torch.float64), special])
    return torch.cat([x, -x]).to(dtype).view(1, -1)


def draw(*shape, seed=0, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def compare(op, inputs, tolerance=1e-12, **arguments):
    """Compare results and gradients of kernel and reference."""
    results = []
    for run in (op, op.reference):
        leaves = {k: v.clone().requires_grad_() for k, v in arguments.items() if isinstance(v, torch.Tensor)}
        xs = [x.clone().requires_grad_() for x in inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outputs = [o for o in run(*xs, **(arguments | leaves)) if o is not None]
        total = sum((o.double() * draw(*o.shape, seed=k)).sum() for k, o in enumerate(outputs))
        grads = torch.autograd.grad(total, [*xs, *leaves.values()], allow_unused=True, materialize_grads=True)
        results.append((outputs, grads))
    (kernel, grads), (reference, expected) = results
    assert len(kernel) == len(reference)
    for got, right in zip(kernel, reference):
        assert got.dtype == right.dtype
        assert_equal(got, right)
    for got, right in zip(grads, expected):
        torch.testing.assert_close(got, right, rtol=tolerance, atol=tolerance)
    return kernel


class Recurrent:
    """The op of a neuron with recurrent connections, like the op of the neuron itself."""

    def __init__(self, op):
        self.op = op

    def __call__(self, x, **more):
        return self.op.recurrent(x, **more)

    def reference(self, x, **more):
        with snnfast.backend.use("reference"):
            return self.op.recurrent(x, **more)


class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * torch.exp(-u.abs())
