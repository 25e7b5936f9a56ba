"""Tools that look into a network see the two layers of ``NormLIF``: they fold, export and accelerate these."""

import pytest
import torch
from torch import nn

import snnfast
import snnfast.nn as sn
from snnfast import export
from snnfast.nn.tracer import Tracer

CHANNELS = 5


def test_tools_see_two_layers():
    net = nn.Sequential(sn.Time(nn.Conv2d(3, CHANNELS, 3)), sn.NormLIF(nn.BatchNorm2d(CHANNELS), sn.LIF()))
    targets = [node.target for node in Tracer().trace(net).nodes if node.op == "call_module"]
    assert targets == ["0", "1.0", "1.1"]
    x = torch.randn(2, 2, 3, 8, 8)
    net(x)
    fused = sn.fuse(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    torch.testing.assert_close(fused(x), net.eval()(x))


def test_exports_are_those_of_two_layers(tmp_path):
    net = nn.Sequential(sn.Time(nn.Linear(3, CHANNELS)), sn.NormLIF(nn.BatchNorm1d(CHANNELS), sn.LIF()))
    net(torch.randn(4, 2, 3))
    two = nn.Sequential(net[0], *net[1])
    written = []
    for name, one in (("one", net), ("two", two)):
        export.export_c(one, tmp_path / name, (3,))
        source = (tmp_path / name / "snn.c").read_text()
        written.append(source.replace("1.1", "2").replace("_1_1", "_2"))
    assert written[0] == written[1]


def test_to_nir_sees_two_layers():
    pytest.importorskip("nir")
    net = nn.Sequential(sn.Time(nn.Linear(3, CHANNELS)), sn.NormLIF(nn.BatchNorm1d(CHANNELS), sn.LIF()))
    net(torch.randn(4, 2, 3))
    nodes = [
        snnfast.nir.to_nir(one, (3,), dt=1e-3, scheme="euler").nodes.values()
        for one in (net, nn.Sequential(net[0], *net[1]))
    ]
    assert [type(node) for node in nodes[0]] == [type(node) for node in nodes[1]]


def test_accelerate_and_pooling_keep_the_results():
    net = nn.Sequential(
        sn.Time(nn.Conv2d(3, CHANNELS, 3)), sn.NormLIF(nn.BatchNorm2d(CHANNELS), sn.LIF()), sn.Time(nn.MaxPool2d(2))
    ).double()
    x = torch.randn(4, 2, 3, 8, 8, dtype=torch.float64)
    fast = sn.accelerate(net)
    torch.testing.assert_close(fast(x), net(x), rtol=0, atol=1e-12)
    assert fast.state_dict().keys() == net.state_dict().keys()
