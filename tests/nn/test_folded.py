"""``accelerate`` of networks that fold time into the batch by hand, as those of tests/published_model.py."""

import copy
import pickle
import warnings

import pytest
import torch
from published import equal_runs, published
from torch import nn

from snnfast import nn as sn
from snnfast.nn.folded import FoldedBatchNorm1d, FoldedBatchNorm2d, FoldedConv1d, FoldedConv2d, FoldedMaxPool2d

NAMES = ["Spikformer", "QKFormer", "SEWResNet"]


class Folding(nn.Module):
    """A container of a user: flatten, module, view."""

    def __init__(self, *layers):
        super().__init__()
        self.module = nn.Sequential(*layers)

    def forward(self, x):
        y = self.module(x.flatten(0, 1).contiguous())
        return y.view(*x.shape[:2], *y.shape[1:])


class VGG(nn.Module):
    """Convolutions in containers of a user, and a head behind ``view``, which refuses channels-last images."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            Folding(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)), sn.LIF(), Folding(nn.AvgPool2d(2)),
            Folding(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)), sn.LIF(), Folding(nn.MaxPool2d(2)),
        )  # fmt: skip
        self.head = nn.Linear(8 * 2 * 2, 3)

    def forward(self, x):
        x = self.features(x)
        return self.head(x.view(x.shape[0], x.shape[1], -1))


def vgg():
    torch.manual_seed(0)
    net = VGG().double()
    return net, (torch.rand(3, 2, 2, 8, 8) < 0.4).double()


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_published_networks_stay_exact(name, recorded):
    net, plain, x = published(name)
    fast = sn.accelerate(net, *[x] * recorded, verify=x)
    assert list(fast.state_dict()) == list(net.state_dict())
    assert dict(fast.named_parameters()).keys() >= {"head.weight"} or name == "SEWResNet"
    fast.load_state_dict(plain.state_dict())
    equal_runs(fast, plain, x)


@pytest.mark.parametrize("keep", [False, True])
def test_images_behind_contiguous(keep, monkeypatch):
    """With the recording pass, all images are channels-last; without it a ``view`` of contiguous images still works."""
    monkeypatch.setattr("snnfast.nn.keep_format._ELEMENTS_A_CALL", 0)
    net, x = vgg()
    fast = sn.accelerate(net, x) if keep else sn.accelerate(net)
    seen = []
    fast.features[1].register_forward_pre_hook(lambda m, a: seen.append(a[0].is_contiguous()))
    equal_runs(fast, net, x)
    assert set(seen) == {not keep}
    for one in (copy.deepcopy(fast), pickle.loads(pickle.dumps(sn.accelerate(net, x)))):
        one.load_state_dict(net.state_dict())
        equal_runs(one, net, x)


def test_every_layer_has_its_kernels():
    net, _, _ = published("QKFormer")
    fast = sn.accelerate(net)
    assert [type(m) for m in (fast.conv, fast.bn, fast.res_conv)] == [FoldedConv2d, FoldedBatchNorm2d, FoldedConv2d]
    assert [type(m) for m in (fast.q_conv, fast.q_bn, fast.head)] == [FoldedConv1d, FoldedBatchNorm1d, sn.SpikeLinear]
    fast = sn.accelerate(published("Spikformer")[0])
    assert type(fast.pool) is FoldedMaxPool2d
    assert isinstance(fast.pool, nn.MaxPool2d)
    kinds = [type(m) for m in sn.accelerate(vgg()[0]).features[0].module]
    assert kinds == [FoldedConv2d, FoldedBatchNorm2d]


def test_what_stays():
    net = nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 1, groups=2), nn.BatchNorm2d(4))
    net[2].register_forward_hook(lambda *a: None)
    assert [type(m) for m in sn.accelerate(net)] == [nn.Conv1d, nn.Conv1d, nn.BatchNorm2d]


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), nn.Conv1d(6, 5, 1), nn.Conv1d(6, 5, 1, bias=False)])
@pytest.mark.parametrize("last", [False, True])
def test_sequences_of_channels(layer, last):
    """``[T B, C, N]``, also with channels last in memory, as behind a linear layer; ``[T B, C]``, ``[C, N]``."""
    torch.manual_seed(0)
    layer = layer.double()
    x = torch.rand(8, 6, 7, dtype=torch.float64)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
    equal_runs(sn.accelerate(layer), layer, x)
    y = sn.accelerate(layer)(x)
    assert y.transpose(1, 2).is_contiguous() if last else y.is_contiguous()
    row = x[:, :, 0] if isinstance(layer, nn.BatchNorm1d) else x[0]
    torch.testing.assert_close(sn.accelerate(layer).eval()(row), layer.eval()(row))


@pytest.mark.parametrize("method", ["auto", "events", "dense"])
@pytest.mark.parametrize("last", [False, True])
def test_a_convolution_of_kernel_1_is_a_product_of_pixels(method, last):
    torch.manual_seed(0)
    conv = sn.SpikeConv2d(6, 5, 1, method=method).double()
    plain = nn.Conv2d(6, 5, 1).double()
    plain.load_state_dict(conv.state_dict())
    x = (torch.rand(4, 6, 7, 3) < 0.3).double()
    equal_runs(conv, plain, x.contiguous(memory_format=torch.channels_last) if last else x)


def test_fuse_takes_them():
    net, x = vgg()
    for _ in range(3):
        net(x)
    fused = sn.fuse(sn.accelerate(net), verify=x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    torch.testing.assert_close(fused(x), net.eval()(x))


def test_a_forward_that_needs_its_copies_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            y = self.conv(x).contiguous()
            return y.as_strided((2,), (1,)) if y.is_contiguous() else y.no_such_method()

    with pytest.warns(UserWarning, match="accelerate: images stay contiguous, since forward does not run without its"):
        fast = sn.accelerate(Net(), torch.rand(1, 2, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast(torch.rand(1, 2, 5, 5))
    with pytest.raises(TypeError, match="accelerate: x must be a tensor, got str"):
        sn.accelerate(Net(), "x")
