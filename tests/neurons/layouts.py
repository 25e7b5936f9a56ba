"""Inputs with any strides, offsets and views give the same results as contiguous tensors."""

import fake_cuda
import pytest
import torch
from cases import check_each
from samples import Sample, assert_equal, assert_gradients_close, cotangents, gradients, require_grad, rich, tensors


def transposed(t):
    """Return a copy with memory in the reverse order of the dimensions."""
    order = list(reversed(range(t.dim())))
    return t.permute(order).contiguous().permute(order)


def time_last(t):
    return t.movedim(0, -1).contiguous().movedim(-1, 0) if t.dim() else t.clone()


def channels_last(t):
    if t.dim() < 3:
        return t.clone()
    return t.movedim(-3, -1).contiguous().movedim(-1, -3)


def sliced_time(t):
    return torch.stack([t, torch.full_like(t, torch.nan)], 1).flatten(0, 1)[::2] if t.dim() else t


def sliced_last(t):
    return torch.stack([t, torch.full_like(t, torch.nan)], -1).flatten(-2)[..., ::2] if t.dim() else t


def cut_out(t):
    """Return a copy in a window of a larger tensor of NaN: rows are dense, but rows and time have gaps."""
    big = torch.full([n + 3 for n in t.shape], torch.nan, dtype=t.dtype, device=t.device)
    window = big[tuple(slice(1, n + 1) for n in t.shape)]
    return window.copy_(t)


def cut_out_in_time(t):
    """Return a copy with dense rows and gaps between them."""
    if t.dim() < 2:
        return t.clone()
    big = torch.full((t.shape[0], 3, *t.shape[1:]), torch.nan, dtype=t.dtype, device=t.device)
    return big[:, 1].copy_(t)


def offset(count):
    def shift(t):
        memory = torch.full((t.numel() + count,), torch.nan, dtype=t.dtype, device=t.device)
        return memory[count:].view(t.shape).copy_(t)

    shift.__name__ = f"offset_{count}"
    return shift


def negated(t):
    """Return a view with PyTorch's lazy negation."""
    if t.dtype not in (torch.float32, torch.float64):
        return t.clone()
    return torch.complex(t, -t).conj().imag


LAYOUTS = (
    transposed,
    time_last,
    channels_last,
    sliced_time,
    sliced_last,
    cut_out,
    cut_out_in_time,
    offset(1),
    offset(2),
    offset(4),
    *(() if fake_cuda.WANTED else (negated,)),
)
SHAPES = ((7, 12), (20, 3, 4, 2, 5), (5,), (18, 2, 64), (3, 1, 8, 1))


def sample_of(op, shape, dtype):
    return Sample(op, rich(op), shape, dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"), [*((s, torch.float32) for s in SHAPES), *((s, torch.bfloat16) for s in SHAPES[::2])], ids=str
)
def test_layout_of_the_inputs_changes_nothing(kernels, op, shape, dtype):
    arguments = sample_of(op, shape, dtype).arguments(kernels.device)
    want, want_grads = op(**arguments), gradients(op, arguments)

    def check(layout):
        laid = {k: layout(a) if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
        for k, a in tensors(arguments).items():
            assert_equal(laid[k].clone(), a, k)  # the layouts themselves
        assert_equal(op(**laid), want)
        assert_gradients_close(gradients(op, laid), want_grads, tolerance=2e-6)

    check_each(LAYOUTS, check)


def test_layout_of_the_incoming_gradients_changes_nothing(kernels, op):
    sample = sample_of(op, (18, 3, 4, 5), torch.float32)

    def graded(layout):
        arguments = require_grad(sample.arguments(kernels.device))
        outputs = op(**arguments)
        grads = [layout(g) for g in cotangents(outputs)]
        return torch.autograd.grad(outputs, list(tensors(arguments).values()), grads)

    want = graded(lambda g: g)
    check_each(LAYOUTS, lambda layout: assert_equal(graded(layout), want))


def test_gradient_of_a_sum_which_is_expanded_equals_that_of_ones(kernels, op):
    sample = sample_of(op, (18, 3, 4), torch.float32)
    found = []
    for loss in (lambda out: out.sum(), lambda out: (out * torch.ones_like(out)).sum()):
        arguments = require_grad(sample.arguments(kernels.device))
        total = sum(loss(out) for out in op(**arguments))
        found.append(torch.autograd.grad(total, list(tensors(arguments).values())))
    assert_equal(found[0], found[1])


@pytest.mark.parametrize("shape", [(6, 5), (20, 2, 3), (4, 300)], ids=str)
def test_expanded_input_equals_its_copy(kernels, op, shape):
    """Strides of 0: one value for all, one step for all times, one value per step, one row of the last dimension."""

    def check(varying):
        x = (torch.rand(small[varying], device=kernels.device) * 3).expand(shape)
        v = torch.rand((), device=kernels.device).expand(shape[1:])
        states = dict.fromkeys(op.states, v)
        copies = {"x": x.contiguous(), **{k: v.contiguous() for k in states}}
        assert_equal(op(x=x, **states), op(**copies))
        assert_equal(gradients(op, {"x": x, **states}), gradients(op, copies))

    small = {
        "nothing": [1] * len(shape),
        "time": [shape[0]] + [1] * (len(shape) - 1),
        "neurons": [1, *shape[1:]],
        "last": [1] * (len(shape) - 1) + [shape[-1]],
    }
    check_each(small, check)


def test_channels_last_runs_without_a_copy_and_stays_channels_last(kernels, op):
    x = torch.rand(4, 2, 3, 5, 6, device=kernels.device) * 2
    laid = channels_last(x)
    spikes = op(x=laid)[0]
    assert spikes.stride() == laid.stride()
    assert_equal(spikes.contiguous(), op(x=x)[0])


def test_inputs_are_not_changed(kernels, op):
    for layout in (lambda t: t.clone(), transposed, cut_out):
        arguments = sample_of(op, (18, 3, 4), torch.float32).arguments(kernels.device)
        laid = {k: layout(a) if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
        gradients(op, laid)
        assert_equal(tensors(laid), tensors(arguments))


def test_outputs_share_memory_with_nothing(kernels, op):
    arguments = sample_of(op, (3, 4), torch.float32).arguments(kernels.device)
    outputs = [out for out in op(**arguments) if out is not None]
    pointers = [t.untyped_storage().data_ptr() for t in (*outputs, *tensors(arguments).values())]
    assert len(set(pointers)) == len(pointers)


def test_window_leaves_the_memory_around_it_alone(kernels, op):
    """NaN around inputs in a larger tensor is not read."""
    arguments = sample_of(op, (19, 3, 5), torch.float32).arguments(kernels.device)
    laid = {k: cut_out(a) if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
    assert all(not out.isnan().any() for out in op(**laid) if out is not None)
    assert all(not g.isnan().any() for g in gradients(op, laid).values())


def test_strides_beyond_32_bits_are_followed(kernels, op):
    """Rows are 2^31 + 7 elements apart. Only the pages that are touched are allocated."""
    if kernels.device == "cuda":
        pytest.skip("would take 13 GB of GPU memory")
    step = 2**31 + 7
    memory = torch.empty(2 * step + 8, dtype=torch.bfloat16)
    x = memory.as_strided((3, 8), (step, 1))
    x.copy_(torch.rand(3, 8) * 3)
    assert_equal(op(x=x), op(x=x.contiguous()))
    assert_equal(gradients(op, {"x": x}), gradients(op, {"x": x.contiguous()}))
