"""``SparseLinear``: weights, state dict, monitor, and refusals of what cannot export it."""

import pytest
import torch
from samples import assert_equal, share_of_loss_left
from torch import nn

import snnfast
from snnfast import connect, ops
from snnfast.nn import LIF, Rate, SparseLinear

C = connect.fixed_indegree(9, 6, indegree=3, seed=1)


def x(steps=12, batch=2, seed=0):
    return (torch.rand(steps, batch, 9, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def build(weight=None, connectivity=C):
    torch.manual_seed(0)
    return SparseLinear(connectivity, weight=weight)


def test_it_is_its_op_for_a_number_a_buffer_or_a_parameter():
    for weight in (None, 0.5, torch.full((18,), 0.5), nn.Parameter(torch.ones(9))):
        layer = build(weight)
        assert_equal([layer(x())], [ops.sparse_linear(x(), layer.weight, C)])
        assert len(list(layer.parameters())) == (weight is None or isinstance(weight, nn.Parameter))
    assert build().weight.shape == (18,)
    assert "connectivity=Connectivity(9 -> 6 neurons, 18 synapses, delay 1), weight=0.5" in repr(build(0.5))
    assert build().double()(x().double()).dtype == torch.float64
    assert build().bfloat16()(x().bfloat16()).dtype == torch.bfloat16


def test_weights_of_another_connectivity_are_refused():
    other = connect.fixed_indegree(9, 6, indegree=3, seed=2)
    with pytest.raises(RuntimeError, match="SparseLinear: weight belongs to another connectivity, 18 synapses of 9"):
        build(connectivity=other).load_state_dict(build().state_dict())
    build().load_state_dict(build().state_dict())


def test_a_network_learns():
    torch.manual_seed(0)
    hidden, out = (connect.fixed_indegree(n, m, indegree=6, seed=0) for n, m in ((9, 60), (60, 6)))
    net = nn.Sequential(SparseLinear(hidden), LIF(), SparseLinear(out), LIF(), Rate())
    assert share_of_loss_left(net, x(20), torch.rand(2, 6) / 2) < 0.5


@pytest.mark.parametrize("weight", [None, 0.5])
def test_the_monitor_counts_synaptic_operations(weight):
    layer = build(weight)
    if weight is None:
        with torch.no_grad():
            layer.weight[::5] = 0
    with snnfast.monitor(layer) as watching:
        layer(x(7))
    (product,) = watching.activity().products
    pre, _ = C.edges()
    counted = [e % 5 != 0 or weight is not None for e in range(18)]
    operations = sum(int(x(7)[..., pre[e]].sum()) for e in range(18) if counted[e])
    assert product.accumulates * watching.samples == pytest.approx(operations)
    assert product.dense * watching.samples == 7 * 2 * 18


def test_explain_names_its_kernels():
    assert snnfast.backend.explain(build(), x()).startswith("SparseLinear: sparse_linear: CPU kernels")


def test_nir_and_c_export_refuse_it_by_name(tmp_path):
    net = nn.Sequential(build(), LIF())
    with pytest.raises((TypeError, ValueError), match="SparseLinear"):
        snnfast.export_c(net, tmp_path, input_shape=(9,))
    pytest.importorskip("nir")
    with pytest.raises(ValueError, match="NIR has no equal for 0, a SparseLinear"):
        snnfast.nir.to_nir(net, (9,), dt=1e-3, scheme="euler")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"connectivity": torch.ones(9, 9)}, "connectivity must be a Connectivity, made by .* got Tensor"),
        ({"weight": torch.ones(9, 9)}, r"weight must have shape \[18\] or \[9\], got \[9, 9\]"),
        ({"weight": "a"}, "weight must be a number"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"SparseLinear: {message}"):
        build(**arguments)
