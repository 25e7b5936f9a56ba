"""``recurrent``: every spiking neuron, with recurrent connections."""

import itertools

import pytest
import samples
import torch
from backends import CPU, PRESENT, force
from cases import check_each
from recurrent_cases import KERNELS, LIF, OPS, Recurrent, case, each_kernel, needs_kernels
from samples import (
    PRIMITIVES,
    assert_equal,
    assert_gradients_close,
    cotangents,
    gradients,
    once,
    outputs_and_gradients,
    require_grad,
)

from snnfast import ops, reference

each_op = pytest.mark.parametrize("op", OPS, ids=str)
DELAYS = (None, "whole", "real")


def expected(op, **arguments):
    run = Recurrent(next(o for o in OPS if o.name == op), reference.recurrent)
    return outputs_and_gradients(run, arguments)


def agree(op, arguments, exact=True):
    """Assert that kernels and reference agree: outputs bit for bit, gradients to rounding."""
    kernel = Recurrent(op)
    (outputs, wanted), _ = once(expected, op.name, **arguments)
    if exact:
        assert_equal(list(kernel(**arguments)), outputs)
    assert_gradients_close(gradients(kernel, arguments), wanted)


# ---- the kernels against the equations


@each_op
def test_every_variant_equals_the_reference(kernels, op):
    """Test all variants of ``lif`` on the CPU, else a third: the op without recurrence is tested with all."""
    for variant in list(op.variants)[:: 1 if op is LIF and kernels.name == "cpu" else 3]:
        agree(op, case(op, variant, (9, 2, 3), device=kernels.device), kernels.exact)


# Sizes and delays concern only the scan, which is the same for all neurons: ``lif`` runs all of them.
SHAPES = ((0, 2, 3), (3, 0, 4), (3, 2, 0), (1, 1), (5, 2), (33, 5, 17), (5, 2, 3, 4), (2, 1, 70))


@pytest.mark.parametrize(
    ("op", "dtype"),
    [*((op, torch.float64) for op in KERNELS), *((LIF, dtype) for dtype in samples.DTYPES[1:])],
    ids=str,
)
def test_shapes_and_dtypes_equal_the_reference(kernels, op, dtype):
    def check(shape):
        agree(op, case(op, "plain", shape, dtype, device=kernels.device), kernels.exact)

    check_each(SHAPES if op is LIF else SHAPES[1::2], check)


@each_kernel
def test_delays_and_spikes_of_before_equal_the_reference(kernels, op):
    def check(combination):
        (T, dtype), past, delay = combination
        arguments = case(op, "soft", (T, 5, 4), dtype, past, delay, kernels.device)
        agree(op, arguments, kernels.exact)

    times, pasts = ((1, torch.float64), (3, torch.bfloat16), (40, torch.float64)), (0, 1, 4)
    cases = itertools.product(times, pasts, DELAYS)
    check_each(cases if op is LIF else zip(times, pasts, DELAYS), check)


@pytest.mark.parametrize(
    ("T", "longest", "dtype"), [(150, 40.0, torch.bfloat16), (101, 3.0, torch.float64), (70, 400.0, torch.float64)]
)
def test_delays_longer_and_shorter_than_a_segment_equal_the_reference(kernels, T, longest, dtype):
    """The backward pass recomputes the arriving spikes for as many steps at a time as the longest delay has."""
    arguments = case(LIF, shape=(T, 5, 4), dtype=dtype, past=3, delay="real", device=kernels.device)
    arguments["delay"] *= longest / arguments["delay"].abs().max()
    agree(LIF, arguments, kernels.exact)


def test_many_neurons_equal_the_reference(kernels):
    """More than the 512 neurons for which a CUDA block has threads."""
    agree(LIF, case(LIF, "plain", (2, 1, 600), device=kernels.device), kernels.exact)


@pytest.mark.parametrize("kernels", CPU, indirect=True)  # those of CUDA have a block a sample
def test_weights_beyond_the_cache_serve_sixteen_samples(kernels):
    """More than 1,024 neurons and four samples: a group of 16 samples, and one of two."""
    agree(LIF, case(LIF, "plain", (2, 18, 1025), device=kernels.device), kernels.exact)


@pytest.mark.parametrize("delay", [-1.0, 0.0, 2.5, 30.0, 1e30, float("inf"), float("nan")])
def test_any_delay_equals_the_reference(kernels, delay):
    """This includes a delay beyond the last step, whose spikes never arrive."""
    arguments = case(LIF, past=2, device=kernels.device)
    arguments["delay"] = torch.full((7,), delay, dtype=torch.float64, device=kernels.device)
    agree(LIF, arguments, kernels.exact)


@pytest.mark.parametrize("past", [[0.5, -2.0], [3.0, 1.0]])
def test_spikes_of_before_may_be_any_numbers(kernels, past):
    arguments = case(LIF, shape=(5, 1, 2), past=1, delay="real", device=kernels.device)
    arguments["past"] = torch.tensor([[past]], dtype=torch.float64, device=kernels.device)
    agree(LIF, arguments, kernels.exact)


def test_layouts_change_nothing(kernels):
    arguments = case(LIF, "decay_each", past=3, delay="real", device=kernels.device)
    want = Recurrent(LIF)(**arguments), gradients(Recurrent(LIF), arguments)
    turned = {
        k: a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 1 else a for k, a in arguments.items()
    }
    assert_equal(Recurrent(LIF)(**turned), want[0])
    assert_equal(gradients(Recurrent(LIF), turned), want[1])
    row = arguments | {"x": arguments["x"][:, :1, :1].expand(35, 3, 7)}
    dense = row | {"x": row["x"].contiguous()}
    assert_equal(Recurrent(LIF)(**row), Recurrent(LIF)(**dense))


# ---- what must hold


@each_op
def test_without_weights_it_is_the_neuron(kernels, op):
    arguments = case(op, "v_seq", device=kernels.device)
    arguments["weight"] = torch.zeros_like(arguments["weight"])
    plain = {k: a for k, a in arguments.items() if k != "weight"}
    assert_equal(Recurrent(op)(**arguments), op(**plain))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("delay", "T"), [(None, 20), (1.5, 46)])
def test_more_spikes_than_16_bits_count_come_back_as_they_stand(backend, dtype, delay, T):
    found = []
    for op, where in ((ops.recurrent, backend.name), (reference.recurrent, "reference")):
        torch.manual_seed(0)
        x = torch.rand(T, 2, 7, device=backend.device).to(dtype).requires_grad_()
        weight = torch.full((7, 7), 0.25, device=backend.device, requires_grad=True)
        options = {"delay": torch.full((7,), delay, device=backend.device)} if delay else {}
        with force(where):
            spikes, v = op(x, weight=weight, neuron="lif", v_reset=None, max_spikes=None, decay_input=False, **options)[
                :2
            ]
            loss = (spikes.float() * torch.linspace(0.1, 1.0, spikes.numel(), device=x.device).view(spikes.shape)).sum()
            found.append((spikes, v, *torch.autograd.grad(loss, (x, weight))))
    (spikes, v, *grads), (same_spikes, same_v, *same_grads) = found
    assert 3e3 < spikes.max() < 6e4
    torch.testing.assert_close((spikes, v), (same_spikes, same_v), rtol=0, atol=0)
    torch.testing.assert_close(grads, same_grads, rtol=0.01, atol=0.01 * float(same_grads[1].max()))


@each_op
@pytest.mark.parametrize("delay", DELAYS)
def test_time_in_parts_equals_the_whole(kernels, op, delay):
    """The next part begins with the states and spikes of the last one; gradients flow through both."""
    arguments = case(op, shape=(80, 3, 9), delay=delay, device=kernels.device)
    arguments = require_grad(arguments)
    x = arguments.pop("x")
    spikes, *states = Recurrent(op)(x=x, **arguments)
    parts, past, state = [], None, {k: arguments.pop(k) for k in op.states}
    for part in x.split([1, 32, 40, 7]):
        earlier = {} if past is None else {"past": past}
        out, *after = Recurrent(op)(x=part, **earlier, **state, **arguments)
        state = dict(zip(op.states, after, strict=True))
        parts.append(out)
        past = torch.cat(parts)
    assert_equal(torch.cat(parts), spikes)
    assert_equal(list(state.values()), states)
    weights = cotangents((spikes, *states))
    wanted = [x, arguments["weight"], *([arguments["delay"]] if delay else [])]
    whole = torch.autograd.grad((spikes, *states), wanted, weights)
    pieces = torch.autograd.grad((torch.cat(parts), *state.values()), wanted, weights)
    names = ("x", "weight", "delay")
    assert_gradients_close(dict(zip(names, pieces, strict=False)), dict(zip(names, whole, strict=False)))


@needs_kernels
def test_threads_change_nothing(threads):
    arguments = case(LIF, "all_tensors", (40, 75, 20), torch.float32, 2, "real")
    found = []
    for count in (1, 2, 5):
        threads(count)
        found.append((Recurrent(LIF)(**arguments), gradients(Recurrent(LIF), arguments)))
    for other in found[1:]:
        assert_equal(other[0], found[0][0])
        assert_equal(other[1], found[0][1])


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="built without SNNFAST_EMULATION=1")
@pytest.mark.parametrize("delay", DELAYS)
def test_emulated_cuda_gives_the_bits_of_the_cpu(delay):
    """This includes the gradient of the weights, whose terms have the same order on both."""
    arguments = case(LIF, "all_tensors", (20, 70, 6), torch.float32, 1, delay)
    found = []
    for name in ("cpu", "cuda_emulation"):
        with force(name):
            found.append((Recurrent(LIF)(**arguments), gradients(Recurrent(LIF), arguments)))
    assert_equal(found[1][0], found[0][0])
    assert_equal(found[1][1], found[0][1])


@pytest.mark.parametrize("P", [0, 3])
def test_its_delay_is_that_of_the_op_delay(backend, P):
    """The spikes of the step before arrive, delayed; the sums of these numbers are exact."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(-8, 9, (6, 6), generator=generator).double() / 16
    d = torch.randint(0, 12, (6,), generator=generator).double() / 4
    x = torch.randint(0, 24, (40, 2, 6), generator=generator).double() / 16
    past = (torch.rand(P, 2, 6, generator=generator) < 0.5).double()
    weight, d, x, past = (value.to(backend.device) for value in (weight, d, x, past))
    spikes, _ = ops.recurrent(x, weight, past, delay=d, decay=0.5, v_reset=None)
    assert 0.05 < spikes.mean() < 0.9
    before = torch.cat([past, spikes])
    before = torch.cat([x.new_zeros(1, 2, 6), before])[:-1]
    arrived = ops.delay(before, d)[P:]
    again, _ = ops.lif(x + arrived @ weight.T, decay=0.5, v_reset=None)
    assert_equal(again, spikes)


@pytest.mark.parametrize(("op", "v_reset"), [(LIF, None), *((op, 0.0) for op in KERNELS)], ids=str)
def test_gradient_of_the_soft_recursion_is_that_of_finite_differences(op, v_reset):
    arguments = case(op, "decay_each", (6, 1, 3), past=2, delay="real")
    arguments |= {"v_reset": v_reset, "surrogate": lambda u: PRIMITIVES["atan"](u, 0.8)}
    arguments["x"] *= 0.25  # small: the membrane grows with its square
    names = [k for k, a in arguments.items() if isinstance(a, torch.Tensor)]

    def function(*values):
        varied = arguments | dict(zip(names, values, strict=True))
        return reference.recurrent(neuron=op.name, **varied)

    inputs = [arguments[k].requires_grad_() for k in names]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-6, fast_mode=True)


@needs_kernels
def test_what_is_kept_for_the_backward_pass():
    """The op saves x, the spikes, the weights and a checkpoint of the state every 32 steps."""
    x = torch.rand(96, 8, 16).requires_grad_()
    weight = torch.rand(16, 16).requires_grad_()
    seen = {}

    def pack(t):
        seen[t.data_ptr()] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        spikes, _ = ops.recurrent(x, weight)
    others = sum(n for p, n in seen.items() if p not in (x.data_ptr(), spikes.data_ptr()))
    assert others == weight.numel() + 2 * x[0].numel()
