"""Registration of ``recurrent`` with PyTorch: schemas, and what tests/ops/test_ops.py leaves."""

import pytest
import torch
from recurrent_cases import LIF, OPS, Recurrent, case, needs_kernels
from samples import assert_equal, require_grad

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
    stem = type(call).neuron_call.__module__.rpartition(".")[2]
    fields = torch._C.parse_schema(f"op({schema(type(call))}) -> ()").arguments
    for way in ("forward", "backward"):
        kernel = getattr(torch.ops.snnfast, f"recurrent_{stem}_{way}").default._schema
        got = [(a.name, str(a.type)) for a in kernel.arguments[: len(fields)]]
        assert got == [(a.name, str(a.type)) for a in fields]
        assert not kernel.is_mutable
    assert len(flatten(call)) == len(fields)
    assert recurrent_of(type(call).neuron_call) is type(call)


def test_every_neuron_that_fires_is_tested():
    assert sorted(op.name for op in OPS) == firing()


def test_vmap_over_the_backward_pass_gives_weights_a_gradient_each(kernels):
    arguments = require_grad(case(LIF, shape=(9, 2, 4), device=kernels.device))
    spikes, v = Recurrent(LIF)(**arguments)
    grads = torch.randn(3, *spikes.shape, dtype=spikes.dtype).to(spikes.device)

    def backward(grad):
        return torch.autograd.grad(spikes, arguments["weight"], grad, retain_graph=True)[0]

    assert_equal(torch.vmap(backward)(grads), torch.stack([backward(g) for g in grads]))
    assert v.requires_grad


def test_spikes_changed_in_place_before_the_backward_pass_are_noticed(kernels):
    arguments = require_grad(case(LIF, device=kernels.device))
    spikes, v = Recurrent(LIF)(**arguments)
    with torch.no_grad():
        spikes.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        v.sum().backward()
