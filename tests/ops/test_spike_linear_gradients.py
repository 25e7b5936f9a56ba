"""Gradients of linear maps of spikes, and the tensors saved for them."""

import math

import pytest
import torch
from cases import check_each
from samples import assert_equal
from spike_linear_cases import DTYPES, F64, KINDS, SIZES, case, gradients, needs_kernels, uniform

from snnfast import ops, reference

pytestmark = needs_kernels


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("method", ["auto", "events", "dense"])
def test_gradients_equal_the_reference(backend, method, unit):
    def check(size):
        arguments = case(size, unit=unit)
        grad = uniform(*size[0][:-1], size[1], seed=4)
        want = gradients(reference.spike_linear, *arguments, grad)
        moved = [a.to(backend.device) for a in (*arguments, grad)]
        got = gradients(ops.spike_linear, *moved, method=method)
        for a, b in zip(got, want, strict=True):
            scale = b.abs().max().item() if b.numel() else 0.0
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-12 * max(scale, 1.0))

    check_each(SIZES, check)


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(5, 70, 40), (2100, 5, 3), (1030, 20, 70), (1100, 1100, 3)])
def test_weights_gradient_is_summed_row_by_row_in_blocks(rows, n_in, n_out, dtype, unit):
    x, weight, bias = case(((rows, n_in), n_out), dtype, unit=unit)
    grad = uniform(rows, n_out, seed=4, dtype=dtype)
    sums = torch.zeros(n_out, n_in, dtype=F64 if dtype == F64 else torch.float32)
    block = math.ceil(math.ceil(rows / math.ceil(rows / 1024)) / 64) * 64
    for k in range(0, rows, block):
        part = torch.zeros_like(sums)
        for x_row, grad_row in zip(x[k : k + block].to(sums.dtype), grad[k : k + block].to(sums.dtype)):
            part += grad_row[:, None] * x_row
        sums += part
    got = gradients(ops.spike_linear, x, weight, bias, grad, method="events")
    assert_equal([got[1]], [sums.to(dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(9, 16, 16), (5, 150, 1), (4, 333, 10)])
def test_inputs_gradient_of_few_outputs_is_summed_output_by_output(rows, n_in, n_out, dtype):
    x, weight, bias = case(((rows, n_in), n_out), dtype)
    grad = uniform(rows, n_out, seed=4, dtype=dtype)
    want = torch.zeros(rows, n_in, dtype=dtype)
    for grad_o, row in zip(grad.t(), weight):
        want += grad_o[:, None] * row
    for layout in (weight, weight.t().contiguous().t()):
        assert_equal([gradients(ops.spike_linear, x, layout, bias, grad)[0]], [want])


def test_weights_gradient_of_many_rows_is_as_exact_as_pytorch_s():
    """A single sum over all rows would be 6 to 9 times less exact."""
    rows = 300_000
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(rows, 8, generator=generator) < 0.3).float()
    weight, grad = torch.randn(16, 8), torch.rand(rows, 16, generator=generator)
    want, bias = grad.double().t() @ x.double(), torch.zeros(16)
    _, ours = gradients(ops.spike_linear, x, weight, bias, grad, method="events")[:2]
    _, theirs = gradients(torch.nn.functional.linear, x, weight, bias, grad)[:2]
    assert (ours - want).abs().max() <= 3 * (theirs - want).abs().max()


def test_gradients_agree_with_finite_differences():
    x, weight, bias = (a.requires_grad_() for a in case(((3, 4), 5), unit=False, part=0.5))
    for method in ("events", "dense"):
        assert torch.autograd.gradcheck(lambda *a, how=method: ops.spike_linear(*a, method=how), (x, weight, bias))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize("method", ["events", "dense"])
def test_only_gradients_that_are_wanted(backend, wanted, method):
    arguments = [a.to(backend.device) for a in case(((6, 70), 20))]
    grad = uniform(6, 20, seed=4).to(backend.device)
    want = gradients(ops.spike_linear, *arguments, grad, method=method)
    leaves = [a.clone().requires_grad_(k in wanted) for k, a in enumerate(arguments)]
    ops.spike_linear(*leaves, method=method).backward(grad)
    for k, leaf in enumerate(leaves):
        assert (leaf.grad is not None) == (k in wanted)
        if k in wanted:
            torch.testing.assert_close(leaf.grad, want[k], rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", ["events", "dense"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_spikes_are_kept_as_bits_with_the_same_gradients(dtype, method):
    x, weight, bias = case(((6, 4, 130), 30), dtype)
    weight.requires_grad_()
    y = ops.spike_linear(x, weight, bias, method=method)
    saved = y.grad_fn.saved_tensors
    assert [tuple(t.shape) for t in saved if t.data_ptr() == x.data_ptr()] == []
    assert sum(t.numel() * t.element_size() for t in saved if t.dtype == torch.int64) == 24 * 3 * 8 + 24
    grad = torch.ones_like(y)
    number = ("auto", "events", "dense").index(method)
    raw = (x, weight.detach(), bias, number)
    _, bits, found = torch.ops.snnfast.spike_linear_forward(*raw)
    want = torch.ops.snnfast.spike_linear_backward(*raw, bits, found, grad, False, True, False)[1]
    x.zero_()  # it is not read any more
    assert_equal([torch.autograd.grad(y, weight, grad)[0]], [want])


def test_other_values_are_kept():
    x, weight, _ = case(((6, 130), 30), unit=False)
    weight.requires_grad_()
    y = ops.spike_linear(x, weight, method="events")
    assert any(t.data_ptr() == x.data_ptr() for t in y.grad_fn.saved_tensors)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_second_derivative_is_refused():
    x, weight, _ = (a.requires_grad_() for a in case(((6, 30), 30)))
    y = ops.spike_linear(x, weight)
    (grad,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="spike_linear: a second derivative was asked for"):
        grad.sum().backward()


def test_forward_mode_is_refused():
    x, weight, _ = case(((6, 30), 30))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(RuntimeError, match="spike_linear: forward-mode"):
            ops.spike_linear(dual, weight)


@pytest.mark.parametrize("method", ["events", "dense"])
def test_a_gradient_that_is_expanded(method):
    x, weight, bias = case(((6, 70), 20))
    grad = uniform(20, seed=4).expand(6, 20)
    want = gradients(ops.spike_linear, x, weight, bias, grad.contiguous(), method=method)
    got = gradients(ops.spike_linear, x, weight, bias, grad, method=method)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)
