"""``Sequential`` passes the lengths of a batch to the layers that take them."""

import pytest
import torch
from torch import nn

import snnfast
from snnfast.nn import LI, LIF, Max, Rate, Time

LENGTHS = torch.tensor([9, 3, 5, 1])
X = torch.rand(9, 4, 7, generator=torch.Generator().manual_seed(0))


class RecordsLengths(nn.Module):
    def forward(self, x, lengths=None):
        self.seen = lengths
        return x


def network():
    torch.manual_seed(0)
    return snnfast.nn.Sequential(
        Time(nn.Linear(7, 12), nn.BatchNorm1d(12)),
        *(LIF(), RecordsLengths(), Time(nn.Linear(12, 12), nn.BatchNorm1d(12)), LIF()),
        snnfast.nn.Sequential(Time(nn.Linear(12, 3)), LI(), Max()),
    )


@pytest.mark.parametrize("training", [True, False])
def test_lengths_reach_every_layer_that_takes_them(training):
    net, other = network().train(training), network().train(training)
    first, lif, recorder, second, neurons, (last, li, read) = other
    h = neurons(second(lif(first(X, LENGTHS)), LENGTHS))
    torch.testing.assert_close(net(X, LENGTHS), read(li(last(h, LENGTHS)), LENGTHS), rtol=0, atol=0)
    assert net[2].seen is LENGTHS
    assert recorder is not None
    padded = X.clone()
    padded[3:, 1] = 7.0
    torch.testing.assert_close(net.eval()(X, LENGTHS), net(padded, LENGTHS), rtol=0, atol=0)


def test_without_lengths_it_is_nn_sequential():
    net = network().eval()
    plain = nn.Sequential(*net)
    torch.testing.assert_close(net(X), plain(X), rtol=0, atol=0)
    assert list(net.state_dict()) == list(plain.state_dict())
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), net(X), rtol=0, atol=0)


def test_it_is_exported_as_nn_sequential(tmp_path):
    torch.manual_seed(0)
    inner = snnfast.nn.Sequential(Time(nn.Linear(12, 3)), LI())
    net = snnfast.nn.Sequential(Time(nn.Linear(7, 12)), LIF(), inner, Max()).eval()
    report = snnfast.export_c(net, tmp_path, (7,))
    torch.testing.assert_close(report.network(X), net(X))
    torch.testing.assert_close(snnfast.nn.accelerate(net)(X, LENGTHS), net(X, LENGTHS))


def test_a_container_of_pytorch_inside_is_refused_with_lengths():
    net = snnfast.nn.Sequential(nn.Sequential(Time(nn.Linear(7, 3))), Rate())
    net(X)
    with pytest.raises(TypeError, match=r"layer 0 is an nn.Sequential of PyTorch.*use snnfast.nn.Seq"):
        net(X, LENGTHS)
