"""Warning for a network that takes samples for time steps."""

import warnings

import pytest
import torch
from torch import nn

from snnfast import nn as sn
from snnfast.ports.older_spikingjelly.neuron import MultiStepLIFNode


class Net(nn.Module):
    """Neurons over ``[T, B, ...]``, of which the last is given ``[T B, ...]`` if ``folded``."""

    def __init__(self, folded):
        super().__init__()
        self.folded, self.fc = folded, nn.Linear(6, 5)
        self.lif, self.attn_lif = MultiStepLIFNode(), MultiStepLIFNode()

    def forward(self, x):
        x = self.fc(self.lif(x))
        return self.attn_lif(x.flatten(0, 1) if self.folded else x)


def test_samples_for_time_are_named():
    net = sn.accelerate(Net(True))
    with pytest.warns(
        UserWarning,
        match=r"^attn_lif takes \[8, 5\], time first, where lif takes \[4, 2, 6\]: it takes the 2 samples of 4 steps",
    ) as found:
        net(torch.rand(4, 2, 6))
    assert found[0].filename == __file__
    sn.reset(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(torch.rand(4, 2, 6))  # once
        silent = sn.accelerate(Net(False))
        for steps in (4, 3):
            sn.reset(silent)
            silent(torch.rand(steps, 2, 6))
