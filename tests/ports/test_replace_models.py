"""Networks from the pages and models of snnTorch and Norse: ``replace`` takes their loops apart by default."""

import warnings

import pytest
import torch
from torch import nn

from snnfast import nn as sn

norse = pytest.importorskip("norse.torch")
snn = pytest.importorskip("snntorch")
conv = pytest.importorskip("norse.torch.models.conv")


class Readme(nn.Module):
    """Network of Norse's README, whose state is passed to and returned from a container."""

    def __init__(self):
        super().__init__()
        self.model = norse.SequentialState(
            *(nn.Conv2d(1, 20, 5, 1), norse.LIFCell(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(20, 50, 5, 1), norse.LIFCell(), nn.MaxPool2d(2, 2)),
            *(nn.Flatten(), nn.Linear(800, 10), norse.LICell()),
        )

    def forward(self, x):
        state = None
        for t in range(x.shape[0]):
            y, state = self.model(x[t], state)
        return y


class Newer(nn.Module):
    """Newer style of snnTorch: neurons keep their membranes, and are reset at the start."""

    def __init__(self, **settings):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(20, 30), snn.Leaky(beta=0.9, **settings)
        self.fc2, self.lif2 = nn.Linear(30, 5), snn.Leaky(beta=0.8, **settings)

    def forward(self, x):
        self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes = []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]))
            spk2, mem2 = self.lif2(self.fc2(spk1))
            spikes.append(spk2)
        return torch.stack(spikes, dim=0), mem1, mem2


class Hidden(Newer):
    """Network with ``init_hidden=True``, whose states stay between calls."""

    def forward(self, x):
        return torch.stack([self.lif2(self.fc2(self.lif1(self.fc1(x_t)))) for x_t in x])


IMAGES = torch.rand(6, 2, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 3
SEQUENCE = torch.rand(9, 3, 20, generator=torch.Generator().manual_seed(1)) * 3
NETS = {
    "ConvNet": (lambda: conv.ConvNet(), IMAGES),
    "ConvNet4": (lambda: conv.ConvNet4(), IMAGES),
    "README": (Readme, IMAGES),
    "newer style": (Newer, SEQUENCE),
    "init_hidden": (lambda: Hidden(init_hidden=True), SEQUENCE),
}


@pytest.mark.parametrize("name", NETS)
def test_the_loop_is_taken_apart_by_default(name):
    make, x = NETS[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = sn.replace(make(), verify=[x, x.flip(0)])  # calls one after the other
    neurons = [m for m in fast.modules() if isinstance(m, sn.state.Stateful)]
    assert neurons
    assert all(neuron.time_dim == 0 for neuron in neurons)


def test_a_network_that_takes_a_step_a_call_is_not_accelerated():
    net = sn.replace(Newer(), sequences=False)
    fast = sn.accelerate(net)
    assert fast is not net
    assert [type(m) for m in fast.modules()] == [type(m) for m in net.modules()]
    assert type(sn.accelerate(nn.Sequential(nn.Linear(2, 2)))[0]) is not nn.Linear
