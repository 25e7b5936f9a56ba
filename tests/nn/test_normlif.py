"""``NormLIF``: batch normalisation and LIF neurons in one pass equal the two layers to rounding."""

from copy import deepcopy

import pytest
import torch
from backends import force
from torch import nn

import snnfast.nn as sn
from snnfast import ops
from snnfast.nn import normlif as module
from snnfast.ops.repeat import repeat

CHANNELS = 5
# norm, shape of one step after the batch dimension
NORMS = {
    "BatchNorm1d": (lambda **k: nn.BatchNorm1d(CHANNELS, **k), ()),
    "BatchNorm1d of sequences": (lambda **k: nn.BatchNorm1d(CHANNELS, **k), (6,)),
    "BatchNorm2d": (lambda **k: nn.BatchNorm2d(CHANNELS, **k), (6, 7)),
    "BatchNorm3d": (lambda **k: nn.BatchNorm3d(CHANNELS, **k), (2, 3, 4)),
}
SETTINGS = {
    "plain": {},
    "momentum None": {"momentum": None},
    "eps": {"eps": 0.3, "momentum": 0.7},
    "not affine": {"affine": False},
    "no running statistics": {"track_running_stats": False},
}
NEURONS = {
    "LIF": lambda: sn.LIF(2.0),
    "soft": lambda: sn.LIF(3.0, v_reset=None, strict=True, surrogate="triangle"),
    "resting": lambda: sn.LIF(decay=0.7, v_rest=0.2, v_reset=-0.1, detach_reset=True),
    "unscaled": lambda: sn.LIF(2.0, decay_input=False, v_threshold=1.5),
    "tensors": lambda: sn.LIF(torch.full((CHANNELS, 1, 1), 2.5), v_threshold=nn.Parameter(torch.tensor(0.8))),
    "learned": lambda: sn.ParametricLIF(2.0, channels=CHANNELS),
    "stateful": lambda: sn.LIF(2.0, stateful=True),
    "v_seq": lambda: sn.LIF(2.0, return_v_seq=True),
}


@pytest.fixture
def passes(monkeypatch):
    """Count the calls that ran in one pass."""
    found = []

    def normlif(*arguments, **named):
        found.append(1)
        return of_ops(*arguments, **named)

    of_ops = ops.normlif
    monkeypatch.setattr(module.ops, "normlif", normlif)
    return found


def sequence(T=6, batch=4, rest=(6, 7), dtype=torch.float64, layout=torch.contiguous_format):
    x = torch.randn(T, batch, CHANNELS, *rest, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x = 3 * x + torch.linspace(-2, 2, CHANNELS).to(dtype).view(-1, *(1,) * len(rest))
    return x.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, (T, batch))


def pair(norm, neuron, dtype=torch.float64):
    """Return the network in one pass, and the two layers one after the other."""
    layers = sn.Time(norm), neuron
    with torch.no_grad():
        for p in norm.parameters():
            p.copy_(torch.linspace(0.5, 1.5, CHANNELS))
    if dtype is torch.float64:
        nn.Sequential(*layers).to(dtype)
    return sn.NormLIF(*deepcopy(layers)), nn.Sequential(*layers)


def run(net, x, calls=2):
    """Return outputs and states of several calls, and gradients."""
    leaf = x.detach().requires_grad_()
    outputs = []
    for _ in range(calls):
        y = net(leaf)
        outputs += y if isinstance(y, tuple) else (y,)
    if net[1].stateful:
        outputs.append(net[1].v)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) for y in outputs]
    wanted = [leaf, *net.parameters()]
    return outputs, torch.autograd.grad(outputs, wanted, grads)


def assert_close(got, want, tolerance=1e-12):
    for a, b in zip(got, want, strict=True):
        scale = max(b.abs().max().item(), 1e-30)
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


def assert_alike(fused, plain, x, tolerance=1e-12, spikes=0.0):
    """Assert equal outputs, gradients and statistics; at most a share ``spikes`` of the spikes may differ."""
    (y, grads), (y2, grads2) = run(fused, x), run(plain, x)
    if spikes:
        assert (y[0] != y2[0]).double().mean() <= spikes
    else:
        assert_close(y, y2, tolerance)
        assert_close(grads, grads2, tolerance)
    assert_close([b.double() for b in fused.buffers()], [b.double() for b in plain.buffers()], max(tolerance, 1e-12))
    assert y[0].stride() == y2[0].stride()
    assert 0 < (y[0] > 0).double().mean() < 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_normalisation_equals_the_two_layers(norm, setting, passes):
    make, rest = NORMS[norm]
    fused, plain = pair(make(**SETTINGS[setting]), sn.LIF(2.0))
    x = sequence(rest=rest)
    assert_alike(fused, plain, x)
    fused.eval(), plain.eval()
    assert_alike(fused, plain, x)
    assert len(passes) == 4


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("T", [1, 35])
def test_every_neuron_equals_the_two_layers(neuron, layout, T, passes):
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), NEURONS[neuron]())
    assert_alike(fused, plain, sequence(T, layout=layout))
    assert len(passes) == 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_weights_of_zero_learn(layout, passes):
    """Their gradient, as in the last normalisation of a residual block, does not follow from that of the input."""
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    with torch.no_grad():
        for net in (fused, plain):
            net[0].layer.weight[:2] = 0.0
    assert_alike(fused, plain, sequence(5, layout=layout))
    assert len(passes) == 2


def test_the_reference_runs_without_kernels():
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    with torch.profiler.profile() as profile, force("reference"):
        assert_alike(fused, plain, sequence(5, layout=torch.channels_last))
    assert not any(event.name.startswith("snnfast::") for event in profile.events())


def test_on_every_backend(kernels, passes):
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), NEURONS["soft"]())
    x = sequence(20).to(kernels.device)
    assert_alike(fused.to(kernels.device), plain.to(kernels.device), x)
    assert len(passes) == 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_float32_few_spikes_differ(layout, passes):
    """At most two of a million: only 1 / sqrt(var + eps), which PyTorch computes in float64, rounds differently."""
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0), torch.float32)
    x = sequence(16, 32, (20, 20), torch.float32, layout)
    assert_alike(fused, plain, x, 1e-6, spikes=2e-6)
    with torch.no_grad():
        sequences = [net.eval()(x) for net in (fused, plain)]
    assert (sequences[0] != sequences[1]).double().mean() <= 2e-6
    assert len(passes) == 3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_in_float32(layout):
    """Gradients agree where no spike differs."""
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0), torch.float32)
    x = sequence(7, dtype=torch.float32, layout=layout)
    assert_alike(fused, plain, x, 2e-5)


def test_bfloat16(passes):
    """The normalised input is not rounded, so the results are nearer to float64 than those of the two layers."""
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0), torch.bfloat16)
    exact, _ = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    x = sequence(9, 20, dtype=torch.bfloat16, layout=torch.channels_last)
    want, _ = run(exact, x.double(), 1)
    wrong = []
    for net in (fused, plain):
        y, found = run(net, x, 1)
        assert y[0].dtype == found[0].dtype == torch.bfloat16
        wrong.append((y[0] != want[0]).sum().item())
    assert passes == [1, 1]
    assert wrong[0] <= 1 < 10 < wrong[1]


def test_gradients_in_bfloat16():
    # A threshold far from all membranes, so that no spike differs
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0, v_threshold=9.0), torch.bfloat16)
    x = sequence(5, dtype=torch.bfloat16)
    assert_close(run(fused, x, 1)[1], run(plain, x, 1)[1], 2**-6)


def test_a_half_network_keeps_its_statistics(passes):
    net = sn.NormLIF(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0)).bfloat16()
    y = net(sequence(dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert 0 < y.float().mean() < 1
    assert passes == [1]


def test_worked_by_hand():
    # Channel 0 has mean 1, variance 1 and so -1 and 1 (eps 0), twice that and 0.5: -1.5, 2.5; h = 2.5 / 2 fires.
    net = sn.NormLIF(nn.BatchNorm1d(1, eps=0.0), sn.LIF(2.0, return_v_seq=True)).double()
    with torch.no_grad():
        net[0].layer.weight.fill_(2.0), net[0].layer.bias.fill_(0.5)
    x = torch.tensor([[0.0, 2.0], [2.0, 0.0]]).double().view(2, 2, 1)
    spikes, v_seq = net(x)
    assert spikes.flatten().tolist() == [0, 1, 0, 0]  # -1.5 / 4 + 2.5 / 2 = 0.875
    assert v_seq.flatten().tolist() == [-0.75, 0.0, 0.875, -0.75]
    norm = net[0].layer
    assert (norm.running_mean.item(), norm.running_var.item()) == (0.1, 0.9 + 0.1 * 4 / 3)


def apart(**change):
    """Return a network that does not run in one pass, and its input."""
    net, x = sn.NormLIF(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0, **change)).double(), sequence()
    return net, x


def hooked(name):
    def make():
        net, x = apart()
        net.get_submodule(name).register_forward_hook(lambda *_: None)
        return net, x

    return make


class Subclass(sn.LIF):
    def forward(self, x):
        return super().forward(2 * x)


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


APART = {
    "refractory": lambda: apart(refractory=1),
    "several spikes": lambda: apart(v_reset=None, max_spikes=3),
    "hook of the norm": hooked("0.layer"),
    "hook of Time": hooked("0"),
    "hook of the neuron": hooked("1"),
    "own neuron": lambda: (sn.NormLIF(nn.BatchNorm2d(CHANNELS), Subclass()).double(), sequence()),
    "own norm": lambda: (sn.NormLIF(OwnNorm(CHANNELS), sn.LIF()).double(), sequence()),
    "slow Time": lambda: (sn.NormLIF(sn.Time(nn.BatchNorm2d(CHANNELS), fast=False), sn.LIF()).double(), sequence()),
    "one image": lambda: (apart()[0], sequence(1)[0].expand(3, *sequence().shape[1:])),
}


@pytest.mark.parametrize("case", APART)
def test_what_else_there_is_runs_one_after_the_other(case, passes):
    net, x = APART[case]()
    plain = nn.Sequential(*deepcopy(net))
    assert_close([net(x)], [plain(x)], 0)
    assert_close([b.double() for b in net.buffers()], [b.double() for b in plain.buffers()], 0)
    assert not passes


def test_lengths_are_those_of_time():
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    x, lengths = sequence(), torch.tensor([6, 2, 3, 1])
    want = plain[1](plain[0](x, lengths))
    assert_close([fused(x, lengths)], [want], 0)
    assert_close([fused[0].layer.running_var], [plain[0].layer.running_var], 0)
    whole, _ = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    whole(x)
    assert not torch.equal(whole[0].layer.running_var, fused[0].layer.running_var)


def test_parts_of_a_sequence_and_steps_in_evaluation():
    fused, _ = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0, stateful=True))
    x = sequence(8)
    fused(x)
    fused.eval()
    sn.reset(fused)
    whole = fused(x)
    sn.reset(fused)
    assert_close([torch.cat([fused(x[:3]), fused(x[3:])])], [whole], 0)
    sn.reset(fused)
    assert_close([torch.stack([fused.step(x_t) for x_t in x])], [whole], 0)


def test_copies_and_state_dicts():
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0, stateful=True))
    x = sequence()
    fused(x)
    again = deepcopy(fused)
    assert_close([again(x)], [fused(x)], 0)
    assert list(fused.state_dict()) == list(nn.Sequential(*fused).state_dict())
    plain.load_state_dict(fused.state_dict())
    fresh = sn.NormLIF(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0, stateful=True)).double()
    fresh.load_state_dict(plain.state_dict())
    for net in (fused, plain, fresh):
        net.eval()
    assert_close([fresh(x)], [fused(x)], 0)
    sn.reset(plain)
    assert plain[1].v is None
    assert fused[1].v is not None


@pytest.mark.parametrize("training", [True, False])
def test_compiled(training):
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    fused.train(training), plain.train(training)
    fused.compile(backend="aot_eager", fullgraph=True)
    assert_alike(fused, plain, sequence())


def test_vmap_runs_many_networks():
    nets = [pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))[0].eval() for _ in range(3)]
    for k, net in enumerate(nets):
        net[0].layer.running_mean.fill_(k)
    params, buffers = torch.func.stack_module_state(nets)
    x = sequence()
    y = torch.vmap(lambda p, b: torch.func.functional_call(nets[0], (p, b), (x,)))(params, buffers)
    assert_close(y, [net(x) for net in nets])


def test_no_gradient_is_kept_or_wanted(passes):
    fused, _ = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    with torch.no_grad():
        assert not fused(sequence()).requires_grad
    fused.requires_grad_(False)
    assert not fused(sequence()).requires_grad
    x = sequence().requires_grad_()
    fused(x).sum().backward()
    assert x.grad.abs().max() > 0
    assert len(passes) == 3


def test_the_graph_keeps_the_input_and_no_normalised_one():
    """The only saved tensor of the size of the input; four steps have no checkpoint."""
    saved = []

    def pack(t):
        saved.append(t)
        return t

    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    x = sequence(4).requires_grad_()
    for net, tensors in ((fused, 1), (plain, 2)):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            net(x)
        large = {t.data_ptr() for t in saved if t.numel() == x.numel()}
        assert len(large) == tensors


def test_second_derivative_is_refused():
    fused, _ = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    x = sequence().requires_grad_()
    (grad,) = torch.autograd.grad(fused(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"second derivative|once_differentiable"):
        grad.sum().backward()


def test_reference_backend(passes):
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    with force("reference"):
        assert_alike(fused, plain, sequence())
    assert len(passes) == 2


def layer(channels=3, *arguments):
    return sn.NormLIF(nn.BatchNorm1d(channels), sn.LIF(*arguments))


NO_NORM = "NormLIF: norm must be nn.BatchNorm1d, 2d or 3d, got "
NO_NEURON = "NormLIF: neuron must be LIF or ParametricLIF of snnfast.nn, got "
REFUSED = "Time: BatchNorm1d does not take "
TAU = r"^normlif: tau must be a number or broadcast to x.shape\[1:\] = \[2, 3\]"
ERRORS = {
    "norm": (lambda: sn.NormLIF(nn.LayerNorm(3), sn.LIF()), TypeError, f"{NO_NORM}LayerNorm"),
    "no norm": (lambda: sn.NormLIF(3, sn.LIF()), TypeError, f"{NO_NORM}int"),
    "neuron": (lambda: sn.NormLIF(nn.BatchNorm1d(3), sn.IF()), TypeError, f"{NO_NEURON}IF"),
    "class": (lambda: sn.NormLIF(nn.BatchNorm1d(3), sn.LIF), TypeError, f"{NO_NEURON}the class LIF"),
    "channels": (lambda: layer()(torch.zeros(2, 2, 4)), RuntimeError, REFUSED),
    "dimensions": (lambda: layer()(torch.zeros(2, 2, 3, 4, 5)), ValueError, REFUSED),
    "one value": (lambda: layer()(torch.zeros(1, 1, 3)), ValueError, "more than 1 value"),
    "dtype": (lambda: layer()(torch.zeros(2, 2, 3).double()), RuntimeError, REFUSED),
    "no tensor": (lambda: layer()("x"), TypeError, "^Time: x must be a tensor, got str"),
    "step": (lambda: layer().step(torch.zeros(2, 3)), RuntimeError, "^LIF.step: needs stateful"),
    "tau": (lambda: layer(3, torch.ones(7))(torch.randn(2, 2, 3)), ValueError, TAU),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        make()


def test_a_sequence_that_repeats_is_normalised_once(passes):
    fused, plain = pair(nn.BatchNorm2d(CHANNELS), sn.LIF(2.0))
    x = sequence(1)
    for net in (fused, plain):
        net(repeat(x[0], 4))
    assert_close([fused[0].layer.running_var], [plain[0].layer.running_var], 0)
    assert not passes
