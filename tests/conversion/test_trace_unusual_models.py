"""Unusual models convert exactly, or are refused with name and reason, never silently."""

import pytest
import torch
from networks import Dense, Functional, Written, X, follows, images, make, norm
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.conversion import QCFS, SpikingNetwork
from snnfast.nn import SpikeConv2d, SpikeLinear
from snnfast_zoo.n3ml.threshold import activation_based


def refused(model, message):
    with pytest.raises(ValueError, match=message):
        SpikingNetwork(model)


def tied_to_a_folded_layer():
    """``same`` reads the weight of a layer whose batch norm could be folded into it."""

    def forward(m, h):
        return F.linear(F.relu(m.norm(m.same(h))), m.same.weight, m.same.bias)

    return Written(forward, same=nn.Linear(16, 16), norm=norm())


def test_a_weight_read_beside_its_folded_layer():
    follows(tied_to_a_folded_layer())


def test_a_weight_shared_by_two_layers():
    model = Written(
        lambda m, h: m.two(F.relu(m.norm(m.one(h)))), one=nn.Linear(16, 16), two=nn.Linear(16, 16), norm=norm()
    )
    model.two.weight = model.one.weight
    follows(model)


def test_layers_that_stand_in_for_those_of_pytorch():
    follows(
        nn.Sequential(
            SpikeConv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            SpikeConv2d(4, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            SpikeLinear(4 * (X.shape[2] - 2) * (X.shape[3] - 2), 5),
        )
    )


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_without_weights_folds(affine):
    follows(Written(lambda m, h: m.norm(h), norm=norm(affine=affine)))


def test_batch_norm_over_another_dimension_than_the_layers_is_not_folded():
    """A Linear works on the last dimension, its batch norm on the second, which may have the same size."""

    class Rows(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.fc, self.norm = nn.Linear(8, features), norm(16)
            self.out = nn.Linear(16 * features, 3)

        def forward(self, x):
            return self.out(F.relu(self.norm(self.fc(x.reshape(-1, 16, 8)))).flatten(1))

    torch.manual_seed(0)
    follows(Rows(5))
    with pytest.raises(ValueError, match=r"fc \(Linear\) needs an input of 2 dimensions, .*16, 8\]"):
        snnfast.convert(Rows(16).double(), [X])


@pytest.mark.parametrize("where", ["conv", "norm", "relu", "drop", "root"])
@pytest.mark.parametrize("pre", [False, True])
def test_forward_hooks_are_refused(where, pre):
    model = Written(
        lambda m, h: m.drop(m.relu(m.norm(m.same(h)))),
        same=nn.Linear(16, 16),
        norm=norm(),
        relu=nn.ReLU(),
        drop=nn.Dropout(),
    )
    layer = model if where == "root" else getattr(model, where)
    if pre:
        layer.register_forward_pre_hook(lambda m, args: (args[0] * 0.5,))
    else:
        layer.register_forward_hook(lambda m, args, output: output * 0.5)
    place = "Written" if where == "root" else rf"{where} \({type(layer).__name__}\)"
    refused(model, rf"{place}: it has a forward hook")


def test_a_forward_of_its_own_is_refused():
    model = Written(lambda m, h: m.same(h), same=nn.Linear(16, 16))
    model.same.forward = lambda h: h.clamp(max=0.1)
    refused(model, r"same \(Linear\): it has a forward hook or a forward of its own")


def test_hooks_of_inner_modules_are_traced():
    class Half(nn.Module):
        def forward(self, x):
            return x + 0.25

    model = Written(lambda m, h: m.inner(h), inner=Half())
    model.inner.register_forward_hook(lambda m, args, output: output * 0.5)
    follows(model)


@pytest.mark.parametrize("mode", ["floor", "trunc"])
@pytest.mark.parametrize("divide", [torch.div, torch.divide])
def test_division_that_rounds_is_refused(divide, mode):
    refused(Written(lambda m, h: divide(h, 0.1, rounding_mode=mode)), "in forward: it rounds")
    if divide is torch.div:
        refused(Written(lambda m, h: h.div(0.1, rounding_mode=mode)), "div in forward: it rounds")


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, h: F.linear(h, h), "linear in forward: it multiplies two signals"),
        (lambda m, h: torch.div(1.0, h), "div in forward: it multiplies two signals"),
        (lambda m, h: h / F.relu(h), "truediv in forward: it multiplies two signals"),
        (lambda m, h: F.dropout(h), "dropout in forward: it draws at random"),
        (lambda m, h: torch.dropout(h, 0.5, True), "dropout in forward: it draws at random"),
        (lambda m, h: h.data, "getattr in forward: it has no spiking form"),
        (lambda m, h: h.pow_(2), "pow_ in forward: it has no spiking form"),
        (lambda m, h: torch.mul(h, 2, out=h), "mul in forward: it writes into a tensor"),
        (lambda m, h: h - h.mean(0, keepdim=True), "mean in forward: it mixes the images"),
        (lambda m, h: h - torch.mean(h), "mean in forward: it mixes the images"),
        (lambda m, h: h - h.mean(dim=[0, 1], keepdim=True), "mean in forward: it mixes the images"),
        (lambda m, h: h[:8], "getitem in forward: it mixes the images"),
        (lambda m, h: h[[1, 0, 2, 3, 4, 5], :], "getitem in forward: it mixes the images"),
        (lambda m, h: h[:, h], "getitem in forward: it chooses by a signal"),
        (lambda m, h: h // 1, "floordiv in forward: it has no spiking form"),
        (lambda m, h: (h.view(-1, 4, 4).relu_(), h)[1], "relu_ in forward: it changes in place"),
        (lambda m, h: (F.relu_(h[:, :3]), h)[1], "relu_ in forward: it changes in place"),
        (lambda m, h: (h.flatten(1), F.relu_(h))[0], "relu_ in forward: it changes in place"),
    ],
)
def test_what_is_not_affine_is_refused(forward, message):
    refused(Written(forward), message)


def changes_in_place(m, h):
    """Later reads of ``h`` get the result of the ReLU."""
    F.relu_(h)
    return h + 0.1


def adds_in_place(m, h):
    before = h
    h += m.same(before)
    return before + h


def methods_in_place(m, h):
    before = h
    h.mul_(0.5).add_(m.same(before))
    return before + h.relu_()


def shortcut_of_an_inplace_relu(m, h):
    return m.same(m.relu(h)) + h


@pytest.mark.parametrize(
    "forward",
    [changes_in_place, adds_in_place, methods_in_place, shortcut_of_an_inplace_relu],
    ids=lambda f: f.__name__,
)
def test_in_place_changes_reach_later_readers(forward):
    follows(Written(forward, same=nn.Linear(16, 16), relu=nn.ReLU(inplace=True)))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, h: m.same(input=h),
        lambda m, h: torch.div(h, other=2),
        lambda m, h: torch.mul(input=h, other=2),
        lambda m, h: torch.add(h, other=h, alpha=0.5),
        lambda m, h: h.add(other=1.0),
        lambda m, h: F.relu(input=h, inplace=False),
        lambda m, h: F.linear(input=h, weight=m.same.weight, bias=m.same.bias),
        lambda m, h: torch.cat(tensors=[h[:, :8], h[:, 8:]], dim=1),
        lambda m, h: m.relu(input=h),
        lambda m, h: m.drop(input=h),
        lambda m, h: F.dropout(input=h, p=0.5, training=False),
        lambda m, h: torch.flatten(input=F.avg_pool1d(input=h.view(-1, 16, 1), kernel_size=1), start_dim=1),
    ],
)
def test_arguments_by_name(forward):
    parts = {"same": nn.Linear(16, 16), "relu": nn.ReLU(), "drop": nn.Dropout()}
    follows(Written(forward, **parts))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, h: h * F.softplus(m.scale),
        lambda m, h: h / m.scale,
        lambda m, h: h / h.size(1),
        lambda m, h: F.linear(h, F.relu(m.same.weight) * 0.5, m.same.bias - 1),
        lambda m, h: h.view(h.size(0), 4, 2, 2).reshape(h.shape[0], h.size(1) // 4 * 4),
        lambda m, h: h.view(h.size(0) * h.size(1) // h.shape[1], -1),
    ],
)
def test_constants_and_sizes_are_worked_out(forward):
    follows(Written(forward, same=nn.Linear(16, 16)))


def test_arguments_that_have_a_default_keep_it():
    class Options(Functional):
        def forward(self, x, scale=0.5, features=False, *more, mask=None, sizes=(8, 8), **others):
            y = super().forward(x[:, :, : sizes[0]]) * scale
            return x if features or more or others or mask is not None else y

    torch.manual_seed(0)
    follows(Options())


def test_a_shape_that_is_told_of_spikes():
    """The shape is read before the last neurons and after them."""

    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.conv2 = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3)
            self.out = nn.Linear(48, 3)

        def forward(self, x):
            h = F.relu(self.conv(x))
            batch = h.size(0)
            y = F.relu(self.conv2(h.view(batch, 4, 6, 6)))
            return self.out(y.view(batch, -1))

    torch.manual_seed(0)
    network = follows(Sizes())
    stream = network.stream(X).advance(5)
    stream.select(torch.tensor([1, 3]))
    got = stream.advance(20).output()
    torch.testing.assert_close(got, network(X, 25)[[1, 3]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["percentile", "max", "spikenorm", "qcfs"])
@pytest.mark.parametrize("what", ["model", "images", "both"])
def test_channels_last(method, what):
    """The bits are those of the same network in the contiguous layout."""
    few = {"spikenorm": {"num_steps": 5}, "qcfs": {"epochs": 1}}.get(method, {})
    arguments = {"method": method, "progress": False, **few}
    found = []
    for last in (False, True):
        model, x = make(Functional), images()
        if last and what != "images":
            model = model.to(memory_format=torch.channels_last)
        if last and what != "model":
            x = x.to(memory_format=torch.channels_last)
        pairs = [(x, torch.arange(4))]
        torch.manual_seed(0)
        network = snnfast.convert(model, pairs, **arguments)
        found.append(network(x, 9))
        for chunk in (1, 4):
            torch.testing.assert_close(network(x, 9, chunk=chunk), found[-1], rtol=0, atol=0)
    if method != "qcfs":  # qcfs trains, and may round differently
        torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_a_network_that_is_made_channels_last_keeps_its_bits():
    network = snnfast.convert(make(Dense), [images()], method="max", per_channel=True)
    network = network.to(memory_format=torch.channels_last)
    want = network(images(), 9)
    for chunk in (1, 4):
        torch.testing.assert_close(network(images(), 9, chunk=chunk), want, rtol=0, atol=0)


NAMES = (
    *("plan", "encoding", "stream", "neurons", "analog", "places", "thresholds", "classify"),
    *("graph", "code", "nodes", "run", "call", "unit_spikes", "values", "keys", "items", "result"),
)


@pytest.mark.parametrize("name", NAMES)
def test_modules_of_any_name(name, tmp_path):
    model = Written(lambda m, h: getattr(m, name)(h), **{name: nn.Sequential(nn.Linear(16, 16), nn.ReLU())})
    network = follows(model)
    weight = getattr(model, name)[0].weight
    assert f"{name}.0.weight" in network.state_dict()
    torch.testing.assert_close(network.get_parameter(f"{name}.0.weight"), weight, rtol=0, atol=0)
    with torch.no_grad():
        network.float()
    assert network.get_submodule(f"{name}.0").weight.dtype == torch.float32
    pairs = [(X, torch.arange(6) % 5)]
    assert snnfast.convert(model, pairs, method="qcfs", progress=False)(X, 3).shape == (6, 5)
    relu = Written(lambda m, h: getattr(m, name)(h), **{name: nn.ReLU()})
    assert name in [n.partition(".")[2].partition(".")[0] for n in follows(relu).state_dict()]


def test_per_channel_thresholds_before_a_pool_over_the_channels():
    """Three dimensions are an image without channels to AvgPool2d; a Flatten may leave some of them."""

    class Pools(nn.Module):
        def __init__(self, pool, features):
            super().__init__()
            self.conv, self.pool = nn.Conv1d(2, 6, 3), pool
            self.out = nn.Linear(features, 3)

        def forward(self, x):
            h = self.pool(F.relu(self.conv(x.flatten(2)[:, :, :14])))
            return self.out(h)

    torch.manual_seed(0)
    follows(Pools(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), 18), per_channel=True)
    follows(Pools(nn.Flatten(2), 12), per_channel=True)
    follows(Pools(nn.Flatten(), 72), per_channel=True)
    follows(Pools(nn.Sequential(nn.Flatten(), nn.MaxPool1d(4)), 18), per_channel=True)


def test_a_layer_that_only_looks_like_a_flatten():
    """The name of a layer does not decide its role: the module named ``flatten`` pools."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.flatten, self.out = nn.Conv1d(2, 6, 3), nn.AvgPool1d(2), nn.Linear(6, 3)

        def forward(self, x):
            return self.out(self.flatten(F.relu(self.conv(x.flatten(2)[:, :, :14])))).mean(1)

    torch.manual_seed(0)
    follows(Last(), per_channel=True)


class Clipped(nn.Linear):
    """Subclass of a known layer that computes something else."""

    def forward(self, x):
        return super().forward(x).clamp(max=0.1)


class Steeper(QCFS):
    def forward(self, x):
        return super().forward(2 * x)


def test_only_what_is_indexed_is_refused():
    with pytest.raises(ValueError, match=r"chunk in forward") as error:
        SpikingNetwork(Written(lambda m, h: h.chunk(2, 1)[0]))
    assert "getitem" not in str(error.value)


@pytest.mark.parametrize(
    ("layer", "message"),
    [(Clipped(16, 16), "clamp in same: it clips"), (Steeper(), "clamp in same: it clips")],
    ids=["Clipped", "Steeper"],
)
def test_derived_layers_are_looked_into(layer, message):
    refused(Written(lambda m, h: m.same(h), same=layer), message)


def test_a_parameter_that_changes_at_every_run_is_refused():
    def forward(m, h):
        scale = m.scale
        scale += 1
        return h * scale

    refused(Written(forward), "it changes a parameter or buffer in place")


def counts_up(m, h):
    m.norm.running_mean += 1
    return h + m.norm.running_mean


@pytest.mark.parametrize(
    ("forward", "message"), [(lambda m, h: h + torch.rand(16), "it draws at random"), (counts_up, "buffer in place")]
)
def test_what_runs_without_the_images_must_be_the_same_at_every_run(forward, message):
    refused(Written(forward, norm=norm()), f"forward of Written: .*{message}")


class Shift(nn.Module):
    def forward(self, x):
        return x + 1


def test_balance_refuses_every_constant():
    """This includes constants outside layers: in the paper's ratios they would have another weight in every layer."""

    class Chain(nn.Module):
        def __init__(self, between):
            super().__init__()
            self.one, self.two = (nn.Linear(n, 4, bias=False) for n in (128, 4))
            self.between = between

        def forward(self, x):
            return self.two(F.relu(self.between(self.one(x.flatten(1)))))

    with pytest.raises(ValueError, match="add in between adds a constant"):
        activation_based([images()], Chain(Shift()))
    assert len(activation_based([images()], Chain(nn.Identity()))) == 2
