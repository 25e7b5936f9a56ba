"""``replace(sequences=True)`` of ``nn.Sequential`` of one step, with a stand-in for snnTorch's neuron."""

import pytest
import torch
from looping import neuron
from replaced import loud, same
from torch import nn

from snnfast import nn as sn
from snnfast.ports.own import own_layers

X = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(1))


def hidden(**settings):
    """Return a neuron that keeps its state."""
    lif = neuron(**settings).float()
    lif.init_hidden = True
    return lif


@pytest.mark.filterwarnings("ignore:replace. neurons with init_hidden=True")
def test_a_layer_in_two_places_runs_twice():
    torch.manual_seed(0)
    shared = loud(nn.Linear(4, 4), 1.0)
    net = nn.Sequential(shared, hidden(), shared, hidden(), nn.Linear(4, 2))
    slow, fast = sn.replace(net), sn.replace(net, sequences=True)
    y = torch.stack([slow(x) for x in X])
    same(fast(X), y)
    assert fast[0] is fast[2]
    sn.reset(fast)
    same(own_layers("Step", fast)(X), y)


def test_a_neuron_in_two_places_is_refused():
    lif = hidden()
    net = nn.Sequential(nn.Linear(4, 4), lif, nn.Sequential(nn.Linear(4, 4), lif))
    with pytest.raises(ValueError, match=r"^replace: 1 and 2\.1 are one neuron, a Leaky, whose .*; sequences=True"):
        sn.replace(net, sequences=True)
