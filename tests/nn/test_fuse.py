"""``fuse``: the same network without its batch normalisations."""

import warnings

import pytest
import torch
from torch import nn

from snnfast.nn import IF, LIF, ParametricLIF, Rate, SpikeConv2d, SpikeLinear, Time, fuse


def trained(net):
    """Return ``net`` in float64 with statistics, scales and shifts as after training."""
    torch.manual_seed(1)
    net = net.double()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            if module.affine:
                nn.init.uniform_(module.weight, -1, 2)
                nn.init.uniform_(module.bias, 0, 2)
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def kinds(net):
    return [type(m).__name__ for m in net.modules() if not list(m.children())]


class Residual(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return x + self.f(x)


class Reordered(nn.Module):
    """Layers that are not called in the order of their definition."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.neuron = LIF()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)

    def forward(self, x):
        y = self.norm(self.conv(x.flatten(0, 1)))
        return self.neuron(y.unflatten(0, (x.shape[0], -1)))


X = torch.rand(3, 2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
NETWORKS = {
    "inside Time": lambda: nn.Sequential(
        Time(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)),
        LIF(),
        Time(nn.MaxPool2d(2), SpikeConv2d(4, 5, 2, bias=False), nn.BatchNorm2d(5, affine=False)),
        IF(),
    ),
    "across Time": lambda: nn.Sequential(
        Time(nn.Conv2d(2, 4, 3, padding=1)), Time(nn.BatchNorm2d(4)), ParametricLIF(), Rate()
    ),
    "linear": lambda: nn.Sequential(
        Time(nn.Sequential(nn.Flatten(), nn.Linear(72, 9)), nn.BatchNorm1d(9)),
        LIF(),
        Time(SpikeLinear(9, 5), nn.BatchNorm1d(5)),
        LIF(),
    ),
    "residual": lambda: nn.Sequential(
        Residual(nn.Sequential(Time(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)), LIF()))
    ),
    "own": Reordered,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_computes_the_same(name):
    net = trained(NETWORKS[name]())
    names, state = ([n for n, _ in net.named_modules()], {k: v.clone() for k, v in net.state_dict().items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = fuse(net.train())
    assert not fused.training
    assert not any("BatchNorm" in kind for kind in kinds(fused))
    assert kinds(fused).count("Identity") == sum("BatchNorm" in kind for kind in kinds(net))
    assert [n for n, _ in fused.named_modules()] == names
    for key, value in net.eval().state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)
    with torch.no_grad():
        want, got = net(X), fused(X)
    assert 0.02 < want.mean() < 0.98
    torch.testing.assert_close(got, want, rtol=0, atol=0)  # spikes


def test_worked_by_hand():
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    values = {"weight": 3.0, "bias": 4.0, "running_mean": 2.0, "running_var": 4.0}
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name).fill_(value)
        conv.weight.fill_(5.0)
        conv.bias.fill_(6.0)
    fused = fuse(nn.Sequential(conv, norm))
    assert fused[0].weight.item() == 3 / 2 * 5
    assert fused[0].bias.item() == 3 / 2 * (6 - 2) + 4
    assert type(fused[1]) is nn.Identity


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(self.conv(self.conv(x)))


class Seen(Twice):
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Branch(Twice):
    def __init__(self):
        super().__init__()
        self.more = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        return self.more(self.norm(self.conv(x))) if x.sum() > 0 else x


def hooked():
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    net[0].register_forward_hook(lambda *_: None)
    return net


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)),
            "2, a BatchNorm2d, stays: it does not",
        ),
        (lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)), "0, a BatchNorm2d, stays: it does not directly"),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)), "no running stat"),
        (lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(2)), "it has 2 channels, the product before it 3"),
        (Twice, "norm, a BatchNorm2d, stays: it, or the product before it, is used more than once"),
        (Seen, "norm, a BatchNorm2d, stays: it does not directly follow a product that nothing else sees"),
        (hooked, "1, a BatchNorm2d, stays: it, or the product before it, has hooks"),
    ],
)
def test_what_stays_is_said(net, words):
    net = net()
    with pytest.warns(UserWarning, match=f"fuse: .*{words}"):
        fused = fuse(net)
    assert kinds(fused) == kinds(net)
    for a, b in zip(fused.state_dict().values(), net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_where_forward_cannot_be_followed_sequences_are_fused():
    net = trained(Branch())
    with pytest.warns(UserWarning, match="fuse: norm, .* stays: .*torch.fx cannot follow forward: TraceError"):
        fused = fuse(net)
    assert kinds(fused) == ["Conv2d", "BatchNorm2d", "Conv2d", "Identity"]
    with torch.no_grad():
        torch.testing.assert_close(fused(X[0]), net(X[0]))


def test_what_is_folded_where_forward_cannot_be_followed_is_said():
    class Shaped(nn.Sequential):
        def forward(self, x):
            if x.dim() != 4:
                raise ValueError
            return super().forward(x)

    net = trained(nn.Sequential(Shaped(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)))))
    with pytest.warns(UserWarning, match=r"fuse: what follows each other in .* \(torch.fx cannot follow"):
        fused = fuse(net)
    assert kinds(fused) == ["Conv2d", "Identity"]


def test_a_linear_layer_takes_rows():
    """For ``[N, L, C]`` the normalisation normalises L."""
    fused = fuse(trained(nn.Sequential(Time(nn.Linear(4, 4), nn.BatchNorm1d(4)))))
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert fused(x[0]).shape == x[0].shape
    with pytest.raises(ValueError, match=r"fuse: a linear layer .* takes \[N, C\], got \[6, 4, 4\]"):
        fused(x)


def test_tensors_with_a_graph_are_no_hindrance():
    net = trained(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)))
    net.average = net[0](X[0]).mean()
    assert kinds(fuse(net)) == ["Conv2d", "Identity"]


class Listed(Reordered):
    """A network that calls its normalisation in a list."""

    def __init__(self):
        super().__init__()
        self.listed = [self.conv, {"norm": self.norm}]

    def forward(self, x):
        y = self.listed[1]["norm"](self.conv(x.flatten(0, 1)))
        return self.neuron(y.unflatten(0, (x.shape[0], -1)))


def test_layers_in_lists_are_replaced_too():
    net = trained(Listed())
    fused = fuse(net)
    assert fused.listed[0] is fused.conv
    assert isinstance(fused.listed[1]["norm"], nn.Identity)
    assert net.listed[1]["norm"] is net.norm
    torch.testing.assert_close(fused(X), net(X))


def test_hooks_are_not_called_while_the_order_is_looked_at():
    seen = []
    inner = nn.Sequential(nn.Conv2d(2, 3, 3))
    inner.register_forward_hook(lambda module, inputs, result: seen.append(type(result)))
    net = trained(nn.Sequential(inner, nn.BatchNorm2d(3)))
    seen.clear()
    with pytest.warns(UserWarning, match="1, a BatchNorm2d, stays"):  # the hook sees the input of the normalisation
        fuse(net)
    assert not seen


def test_a_class_of_its_own_stays_and_is_named():
    class Norm(nn.BatchNorm2d):
        pass

    net = nn.Sequential(nn.Conv2d(1, 2, 3), Norm(2))
    with pytest.warns(UserWarning, match=r"fuse: 1, a Norm, stays: it is .*test_fuse's, not torch.nn's"):
        assert kinds(fuse(net)) == ["Conv2d", "Norm"]


def test_errors():
    with pytest.raises(TypeError, match="fuse: net must be a module, got int"):
        fuse(3)
    with pytest.raises(ValueError, match="fuse: net has no batch normalisation"):
        fuse(nn.Linear(2, 2))


class TiedDecoder(nn.Module):
    """Network whose ``forward`` reads a weight or statistic of a layer directly."""

    def __init__(self, read):
        super().__init__()
        self.encoder, self.norm, self.read = nn.Linear(3, 4), nn.BatchNorm1d(4), read

    def forward(self, x):
        return self.read(self, self.norm(self.encoder(x.to(self.encoder.weight.dtype))))


@pytest.mark.parametrize(
    "read",
    [
        lambda net, h: nn.functional.linear(h, net.encoder.weight.T),
        lambda net, h: h @ net.encoder.weight,
        lambda net, h: h - net.encoder.bias,
        lambda net, h: h * net.norm.weight,
        lambda net, h: h - net.norm.running_mean,
    ],
)
def test_a_weight_that_forward_reads_itself_is_not_folded(read):
    net = trained(TiedDecoder(read))
    x = torch.randn(6, 3).double()
    with pytest.warns(UserWarning, match="norm, a BatchNorm1d, stays: forward itself reads a weight of it"):
        fused = fuse(net)
    assert isinstance(fused.norm, nn.BatchNorm1d)
    torch.testing.assert_close(fused(x), net(x), rtol=0, atol=0)


def test_a_decoder_with_the_same_parameter_keeps_it():
    """A layer that shares the weight has its own copy; asking for the dtype reads no weight."""
    decoder = nn.Linear(4, 4)
    tied = TiedDecoder(lambda net, h: net.decoder(h))
    tied.encoder, tied.decoder = nn.Linear(4, 4), decoder
    decoder.weight = tied.encoder.weight
    tied = trained(tied)
    x = torch.randn(6, 4).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = fuse(tied)
    assert isinstance(fused.norm, nn.Identity)
    torch.testing.assert_close(fused(x), tied(x))
