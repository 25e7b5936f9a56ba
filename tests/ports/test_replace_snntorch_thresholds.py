"""Thresholds so large that the kernels' shifted membrane would lose digits: these run step by step in PyTorch."""

import pytest
import torch

from snnfast import nn as sn
from snnfast.backend import BackendWarning

snn = pytest.importorskip("snntorch")


@pytest.mark.parametrize("threshold", [20.0, 2e4, 1e8])
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
def test_membranes_are_those_of_snntorch(kind, threshold):
    options = {"alpha": 0.8} if kind == "Synaptic" else {}
    how = {"beta": 0.9, "threshold": threshold, "init_hidden": True, "output": True}
    net = torch.nn.Sequential(getattr(snn, kind)(**options, **how))
    ours = sn.replace(net)
    x = torch.rand(30, 4, 6, generator=torch.Generator().manual_seed(0))
    with pytest.warns(BackendWarning, match=r"plain PyTorch, which is slow: threshold / beta is"):
        found = [ours(step) for step in x]
    for step, result in zip(x, found, strict=True):
        for a, b in zip(result, net(step), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
