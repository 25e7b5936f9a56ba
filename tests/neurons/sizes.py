"""No steps, no neurons, one neuron, many neurons."""

import pytest
import torch
from samples import (
    Sample,
    assert_equal,
    assert_gradients_close,
    cotangents,
    gradients,
    over_neurons,
    require_grad,
    tensors,
)
from torch._subclasses.fake_tensor import FakeTensorMode


def test_no_steps_return_the_initial_state(backend, op):
    arguments = Sample(op, "plain", (0, 3), torch.float32).arguments(backend.device)
    sequence, *states = op(**arguments)
    assert sequence.shape == (0, 3)
    assert_equal(states, [arguments[name] for name in op.states])
    grads = gradients(op, arguments)
    assert grads["x"] is None or grads["x"].shape == (0, 3)
    assert_equal(grads[op.states[0]].abs().sum() > 0, torch.tensor(True, device=backend.device))


def test_no_steps_from_rest_return_the_rest(backend, op):
    options = {"v_rest": 0.25} if op.accepts("v_rest") else {}
    _, v, *rest = op(x=torch.zeros(0, 3, device=backend.device), **options)
    assert v.tolist() == [options.get("v_rest", 0.0)] * 3
    assert all(not state.any() for state in rest)


@pytest.mark.parametrize("shape", [(5, 0), (0, 0), (5, 2, 0, 3)], ids=str)
def test_no_neurons_return_no_neurons(backend, op, shape):
    arguments = Sample(op, "plain", shape, torch.float32).arguments(backend.device)
    sequence, *states = op(**arguments)
    assert sequence.shape == shape
    assert all(state.shape == shape[1:] for state in states)
    grads = gradients(op, arguments)
    assert all(g is None or g.shape == arguments[k].shape for k, g in grads.items())


def test_one_neuron_without_dimensions_equals_one_in_a_row(backend, op):
    arguments = Sample(op, "plain", (40,), torch.float32).arguments(backend.device)
    got = op(**arguments)
    wide = op(**arguments | {k: a[..., None] for k, a in tensors(arguments).items()})
    assert_equal(got, [out[..., 0] for out in wide])


@over_neurons("op variant", lambda op: [(op, v) for v in op.variants if v in ("plain", "v_seq")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("expanded", [False, True], ids=["random", "ones"])
def test_many_neurons_have_the_bits_of_a_few_at_a_time(kernels, op, variant, dtype, expanded):
    """With numbers as parameters a CPU kernel runs strips of 128 neurons through all steps: here two and a part."""

    def run(arguments, grads=None):
        arguments = require_grad(arguments)
        outputs = [out for out in op(**arguments) if out is not None]
        grads = cotangents(outputs) if grads is None else grads
        if expanded:
            grads = [torch.ones((), dtype=g.dtype, device=g.device).expand(g.shape) for g in grads]
        found = torch.autograd.grad(outputs, list(tensors(arguments).values()), grads)
        return grads, [*(out.detach() for out in outputs), *found]

    arguments = Sample(op, variant, (70, 2 * 128 + 37), dtype).arguments(kernels.device)
    grads, whole = run(arguments)
    for begin in range(0, 2 * 128 + 37, 50):
        some = slice(begin, begin + 50)
        part = {k: a[..., some] if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
        _, found = run(part, [g[..., some] for g in grads])
        assert_equal(found, [value[..., some] for value in whole])


def test_hundred_thousand_steps_equal_those_run_in_parts(kernels, op):
    x = Sample(op, "plain", (100_000, 3), torch.float32).arguments(kernels.device)["x"]
    first, *states = op(x=x)
    parts, part_states = [], [None] * len(op.states)
    for part in x.split(33_333):
        sequence, *part_states = op(x=part, **dict(zip(op.states, part_states, strict=True)))
        parts.append(sequence)
    assert_equal(torch.cat(parts), first)
    assert_equal(part_states, states)


def test_gradient_through_hundred_thousand_steps_is_that_of_the_last_where_memory_fades(kernels, op):
    """With decay 0.6 a gradient vanishes after 100 steps, so the last 200 of 100,000 must give the same."""
    decays = {name: 0.6 for name in op.decays} or {}
    x = Sample(op, "plain", (100_000, 2), torch.float64).arguments(kernels.device)["x"]
    x.requires_grad_()
    options = op.steady | {"detach_reset": True} if op.fires else {}
    first, *states = op(x=x, **decays, **options)
    (grad,) = torch.autograd.grad(first[-1].sum() + sum(s.sum() for s in states), x)
    assert grad.isfinite().all()
    if not decays or op.runs_away:
        return
    assert not grad[:-2000].abs().gt(1e-30).any()
    at = dict(zip(op.states, op(x=x[:-200].detach(), **decays, **options)[1:], strict=True))
    tail = x[-200:].detach().requires_grad_()
    first, *states = op(x=tail, **at, **decays, **options)
    (want,) = torch.autograd.grad(first[-1].sum() + sum(s.sum() for s in states), tail)
    assert_gradients_close({"x": grad[-200:]}, {"x": want})


def test_shapes_beyond_32_bits_are_right_without_data(op):
    with FakeTensorMode():
        x = torch.empty(70_000, 40_000, dtype=torch.bfloat16)
        sequence, *states = op(x=x)
        assert sequence.shape == x.shape
        assert all(state.shape == (40_000,) and state.dtype == torch.float32 for state in states)


@over_neurons("op variant", lambda op: [(op, v) for v in op.variants if v in ("plain", "v_seq", "return_state")])
@pytest.mark.parametrize("grad", [False, True])
def test_fake_tensors_have_the_shapes_dtypes_and_strides_of_real_ones(op, variant, grad):
    for shape in ((40, 3, 2), (0, 3), (5, 0), (6,)):
        arguments = Sample(op, variant, shape, torch.bfloat16).arguments()
        arguments["x"].requires_grad_(grad)
        real = op(**arguments)
        with FakeTensorMode() as mode:
            faked = {k: mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
            fake = op(**faked)
        for r, f in zip(real, fake, strict=True):
            assert (r is None) == (f is None)
            if r is not None:
                assert (f.shape, f.dtype, f.stride()) == (r.shape, r.dtype, r.stride())
                assert f.requires_grad == r.requires_grad == grad


def test_sizes_whose_product_overflows_get_an_error(kernels, op):
    for shape in ((2**62 + 2**18, 1), (2**57,)):
        x = torch.zeros((1,) * len(shape), device=kernels.device).expand(shape)
        with pytest.raises(ValueError, match=rf"^{op.name}: x is too large: a tensor of shape \[{shape[0]}"):
            op(x=x)
