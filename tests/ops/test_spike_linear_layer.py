"""The layer ``SpikeLinear``."""

import copy

import pytest
import torch
from samples import assert_equal
from spike_linear_cases import F64, case, needs_kernels, uniform
from torch import nn

from snnfast import nn as sn

pytestmark = needs_kernels


def test_layer_is_a_linear_layer_of_another_name():
    torch.manual_seed(0)
    ours = sn.SpikeLinear(70, 20)
    torch.manual_seed(0)
    theirs = nn.Linear(70, 20)
    assert_equal(list(ours.parameters()), list(theirs.parameters()))
    assert isinstance(ours, nn.Linear)
    torch.nn.init.uniform_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(copy.deepcopy(ours).state_dict())
    x, _, _ = case(((2, 6, 70), 20), torch.float32)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x.bool()), theirs(x))
    assert repr(ours) == "SpikeLinear(in_features=70, out_features=20, bias=True)"
    assert "method='events'" in repr(sn.SpikeLinear(3, 4, method="events"))
    assert sn.SpikeLinear(3, 4, bias=False, dtype=F64)(torch.zeros(3, dtype=F64)).dtype == F64


def test_layer_learns_as_a_linear_layer_does():
    torch.manual_seed(0)
    ours = nn.Sequential(sn.LIF(tau=2.0), sn.SpikeLinear(30, 20, dtype=F64), sn.LIF(tau=2.0))
    theirs = nn.Sequential(sn.LIF(tau=2.0), nn.Linear(30, 20, dtype=F64), sn.LIF(tau=2.0))
    theirs.load_state_dict(ours.state_dict())
    x = uniform(5, 8, 30, seed=1) * 3
    found = []
    for net in (ours, theirs):
        x_own = x.clone().requires_grad_()
        net(x_own).sum().backward()
        found.append([x_own.grad, *(p.grad for p in net.parameters())])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_unknown_method_of_a_layer():
    with pytest.raises(ValueError, match="SpikeLinear: method must be auto or events or dense"):
        sn.SpikeLinear(3, 4, method="fast")


def test_exports_with_dynamic_rows():
    layer = sn.SpikeLinear(70, 20)
    x, _, _ = case(((6, 70), 20), torch.float32)
    rows = torch.export.Dim("rows", min=1, max=1000)
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: rows}})
    x, _, _ = case(((9, 70), 20), torch.float32)
    assert_equal([program.module()(x)], [layer(x)])
