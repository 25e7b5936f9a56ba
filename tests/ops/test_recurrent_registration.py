"""Registration of ``recurrent`` with PyTorch: schemas, ``opcheck``, ``vmap``, compilation, export."""

import pytest
import torch
from recurrent_cases import KERNELS, LIF, OPS, Recurrent, case, needs_kernels
from samples import assert_equal, assert_gradients_close, cotangents, require_grad

from snnfast import ops
from snnfast.reference import neuron_arguments as calls
from snnfast.reference.call import flatten, schema
from snnfast.reference.recurrent import firing, recurrent_of


@needs_kernels
@pytest.mark.parametrize("name", sorted(calls.NEURONS))
def test_kernels_take_the_fields_of_the_call(name):
    if name not in firing():
        return
    call = ops.recurrent.check(torch.zeros(2, 3), torch.zeros(3, 3), neuron=name)
    stem = type(call).neuron.__module__.rpartition(".")[2]
    fields = torch._C.parse_schema(f"op({schema(type(call))}) -> ()").arguments
    for way in ("forward", "backward"):
        kernel = getattr(torch.ops.snnfast, f"recurrent_{stem}_{way}").default._schema
        got = [(a.name, str(a.type)) for a in kernel.arguments[: len(fields)]]
        assert got == [(a.name, str(a.type)) for a in fields]
        assert not kernel.is_mutable
    assert len(flatten(call)) == len(fields)
    assert recurrent_of(type(call).neuron) is type(call)


def test_every_neuron_that_fires_is_tested():
    assert sorted(op.name for op in OPS) == firing()


@needs_kernels
@pytest.mark.parametrize("op", [LIF, KERNELS[0]], ids=str)  # the generated code is the same for all
def test_opcheck_finds_nothing(op):
    for past, delay in ((0, None), (2, "real"))[op is not LIF :]:
        arguments = require_grad(case(op, "plain", (9, 2, 3), torch.float32, past, delay))
        call = ops.recurrent.check(neuron=op.name, **arguments)
        forward = getattr(torch.ops.snnfast, f"recurrent_{op.kernel}_forward")
        torch.library.opcheck(forward, (*flatten(call), 4))
        with torch.no_grad():
            spikes, *states, _, checkpoints = forward(*flatten(call), 4)
            more = (checkpoints, 4, True, torch.ones_like(spikes), *(None for _ in states), None)
        backward = getattr(torch.ops.snnfast, f"recurrent_{op.kernel}_backward")
        plain = [a.detach() if isinstance(a, torch.Tensor) else a for a in flatten(call)]
        torch.library.opcheck(backward, (*plain, spikes, *more))


@pytest.mark.parametrize("wanted", ["x", "weight", "past", "delay", "v"])
def test_vmap_over_any_argument_equals_a_loop(kernels, wanted):
    arguments = case(LIF, "v_seq", (12, 2, 4), past=2, delay="real", device=kernels.device)
    generator = torch.Generator().manual_seed(5)
    batch = torch.stack(
        [
            arguments[wanted] + torch.rand(arguments[wanted].shape, generator=generator).to(arguments[wanted])
            for _ in range(3)
        ]
    )

    def run(value):
        return Recurrent(LIF)(**arguments | {wanted: value})

    want = [torch.stack(ts) for ts in zip(*map(run, batch), strict=True)]
    assert_equal(list(torch.vmap(run)(batch)), want)
    leaf, single = batch.clone().requires_grad_(), batch.clone().requires_grad_()
    weights = cotangents(tuple(want))
    (got,) = torch.autograd.grad(torch.vmap(run)(leaf), leaf, weights)
    looped = [torch.stack(ts) for ts in zip(*map(run, single.unbind()), strict=True)]
    (want_grad,) = torch.autograd.grad(looped, single, weights)
    assert_gradients_close({"x": got}, {"x": want_grad})


def test_vmap_over_the_backward_pass_gives_weights_a_gradient_each(kernels):
    arguments = require_grad(case(LIF, shape=(9, 2, 4), device=kernels.device))
    spikes, v = Recurrent(LIF)(**arguments)
    grads = torch.randn(3, *spikes.shape, dtype=spikes.dtype).to(spikes.device)

    def backward(grad):
        return torch.autograd.grad(spikes, arguments["weight"], grad, retain_graph=True)[0]

    assert_equal(torch.vmap(backward)(grads), torch.stack([backward(g) for g in grads]))
    assert v.requires_grad


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_and_exported_give_the_same():
    def function(x, weight, delay):
        return ops.recurrent(x, weight, neuron="alif", delay=delay, tau=3.0)

    arguments = case(LIF, shape=(9, 2, 4), dtype=torch.float32, delay="real")
    inputs = [arguments[k].requires_grad_() for k in ("x", "weight", "delay")]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    want, got = function(*inputs), compiled(*inputs)
    assert_equal(list(got), [w.detach() for w in want] if not got[0].requires_grad else list(want))
    weights = cotangents(want)
    assert_gradients_close(
        dict(zip("xwd", torch.autograd.grad(got, inputs, weights), strict=True)),
        dict(zip("xwd", torch.autograd.grad(want, inputs, weights), strict=True)),
    )

    class Module(torch.nn.Module):
        def forward(self, *inputs):
            return function(*inputs)

    exported = torch.export.export(Module(), tuple(inputs)).module()
    assert_equal(list(exported(*inputs)), list(function(*inputs)))


def test_second_derivatives_and_tangents_are_refused(kernels):
    arguments = require_grad(case(LIF, device=kernels.device))
    spikes, _ = Recurrent(LIF)(**arguments)
    (grad,) = torch.autograd.grad(spikes.sum(), arguments["weight"], create_graph=True)
    with pytest.raises(RuntimeError, match=r"^recurrent: a second derivative"):
        grad.sum().backward()
    with torch.autograd.forward_ad.dual_level():
        weight = torch.autograd.forward_ad.make_dual(arguments["weight"].detach(), torch.ones_like(arguments["weight"]))
        with pytest.raises(RuntimeError, match=r"^recurrent: forward-mode"):
            ops.recurrent(arguments["x"].detach(), weight)


def test_spikes_changed_in_place_before_the_backward_pass_are_noticed(kernels):
    arguments = require_grad(case(LIF, device=kernels.device))
    spikes, v = Recurrent(LIF)(**arguments)
    with torch.no_grad():
        spikes.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        v.sum().backward()
