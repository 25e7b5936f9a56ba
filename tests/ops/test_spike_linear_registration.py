"""Registration of ``spike_linear`` with PyTorch: ``opcheck``, ``vmap``, compilation, export, autocast."""

import pytest
import torch
from samples import assert_equal
from spike_linear_cases import F64, KINDS, case, gradients, needs_kernels, uniform
from torch.nn import functional as F  # noqa: N812

from snnfast import nn as sn
from snnfast import ops

pytestmark = needs_kernels


def test_opcheck_finds_nothing():
    forward = torch.ops.snnfast.spike_linear_forward.default
    backward = torch.ops.snnfast.spike_linear_backward.default
    for size in (((5, 70), 20), ((2, 3, 5), 4), ((7,), 3), ((0, 4), 3)):
        x, weight, bias = case(size)
        for arguments in (
            (x, weight, bias, 1),
            (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), 2),
            (x.detach().bool(), weight, None, 0),
        ):
            torch.library.opcheck(forward, arguments)
        raw = (x.detach(), weight.detach(), bias.detach(), 1)
        y, bits, found = forward(*raw)
        for wanted in ((True, True, True), (False, True, False)):
            torch.library.opcheck(backward, (*raw, bits, found, y, *wanted))


@pytest.mark.parametrize("in_dims", [(0, None, None), (1, None, None), (None, 0, 0), (0, 0, None)])
def test_vmap_equals_a_loop(backend, in_dims):
    def op(x, weight, bias):
        return ops.spike_linear(x, weight, bias, method="events")

    batch = 3
    arguments = []
    for k, (a, dim) in enumerate(zip(case(((4, 20), 6)), in_dims)):
        a = a if dim is None else torch.stack([a * (n + 1) for n in range(batch)], dim)
        arguments.append(a.to(backend.device).requires_grad_(k > 0))

    def sample(n):
        return [a if d is None else a.select(d, n) for a, d in zip(arguments, in_dims)]

    want = torch.stack([op(*sample(n)) for n in range(batch)])
    got = torch.vmap(op, in_dims=in_dims)(*arguments)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)
    none = [a if d is None else a.narrow(d, 0, 0) for a, d in zip(arguments, in_dims)]
    assert torch.vmap(op, in_dims=in_dims)(*none).shape == (0, *got.shape[1:])
    grad = uniform(*got.shape, seed=5).to(backend.device)
    ours = torch.autograd.grad(got, arguments[1:], grad)
    torch.testing.assert_close(ours, torch.autograd.grad(want, arguments[1:], grad))


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
def test_compiles_in_one_graph_with_its_gradient(kernels, fresh_compiler, unit):
    arguments = [a.to(kernels.device) for a in case(((6, 70), 20), unit=unit)]
    grad = uniform(6, 20, seed=4).to(kernels.device)
    compiled = torch.compile(ops.spike_linear, backend="aot_eager", fullgraph=True)
    want = gradients(ops.spike_linear, *arguments, grad, method="events")
    got = gradients(compiled, *arguments, grad, method="events")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


def test_exports_with_dynamic_rows():
    layer = sn.SpikeLinear(70, 20)
    x, _, _ = case(((6, 70), 20), torch.float32)
    rows = torch.export.Dim("rows", min=1, max=1000)
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: rows}})
    x, _, _ = case(((9, 70), 20), torch.float32)
    assert_equal([program.module()(x)], [layer(x)])


def test_the_gradient_of_a_raw_call():
    x, weight, bias = case(((6, 70), 20))
    grad = uniform(6, 20, seed=4)
    want = gradients(ops.spike_linear, x, weight, bias, grad, method="events")

    def raw(*arguments):
        return torch.ops.snnfast.spike_linear_forward(*arguments, 1)[0]

    assert_equal(list(gradients(raw, x, weight, bias, grad)), list(want))


def test_autocast_casts_as_for_linear():
    x, weight, bias = case(((6, 70), 20), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = ops.spike_linear(x, weight, bias), F.linear(x, weight, bias)
        assert ops.spike_linear(x.bfloat16(), weight, bias).dtype == torch.bfloat16
        assert ops.spike_linear(x.double(), weight.double()).dtype == F64
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got, want)
