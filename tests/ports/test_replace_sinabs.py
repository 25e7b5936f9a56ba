"""Sinabs' neurons and networks compared with their copies on our kernels, where Sinabs is installed."""

import copy

import pytest
import torch
from backends import PRESENT
from replaced import agrees, inputs, loud, same
from torch import nn

from snnfast import nn as sn
from snnfast.backend import BackendWarning

layers = pytest.importorskip("sinabs.layers")
activation = pytest.importorskip("sinabs.activation")

SINGLE = {"spike_fn": activation.SingleSpike}
ZERO = {"reset_fn": activation.MembraneReset()}
GAUSS = {"surrogate_grad_fn": activation.Gaussian(sigma=0.4)}


def twice(layer, x):
    """Run two calls, the second from the state after the first."""
    layer.reset_states()
    outputs = [layer(x[:, :15]), layer(x[:, 15:])]
    return [torch.cat(outputs, 1), *(b for b in layer.buffers())]


def linear(bias):
    torch.manual_seed(0)
    return loud(nn.Linear(6, 6, bias=bias), 0.3)


CASES = [
    ("LIF", {"tau_mem": 5.0, **SINGLE}),
    ("LIF", {"tau_mem": 5.0, **SINGLE, **GAUSS}),
    ("LIF", {"tau_mem": torch.tensor([2.0, 3, 4, 5, 6, 7]), **SINGLE, **GAUSS}),
    ("LIF", {"tau_mem": 5.0, "norm_input": False, **SINGLE, **ZERO, **GAUSS}),
    ("LIF", {"tau_mem": 5.0, "tau_syn": 3.0, **SINGLE, **GAUSS}),
    ("LIF", {"tau_mem": 5.0, "tau_syn": 3.0, "train_alphas": True, **SINGLE, **GAUSS}),
    ("LIF", {"tau_mem": 5.0, "train_alphas": True, **SINGLE, **GAUSS}),
    ("LIF", {"tau_mem": 5.0}),
    ("LIF", {"tau_mem": 5.0, "tau_syn": 3.0, "spike_fn": activation.MaxSpike(2)}),
    ("IAF", {"surrogate_grad_fn": activation.PeriodicExponential()}),
    ("IAF", {**SINGLE, **GAUSS}),
    ("IAF", {"tau_syn": 3.0, **SINGLE, **ZERO, **GAUSS}),
    ("LIFRecurrent", {"tau_mem": 5.0, "rec_connect": linear(True), **SINGLE, **GAUSS}),
    ("LIFRecurrent", {"tau_mem": 5.0, "rec_connect": nn.Sequential(nn.Flatten(), linear(False)), **SINGLE, **GAUSS}),
    ("IAFRecurrent", {"rec_connect": linear(False), **SINGLE, **GAUSS}),
    ("LIFRecurrent", {"tau_mem": 5.0, "tau_syn": 3.0, "rec_connect": linear(True), **SINGLE, **GAUSS}),
    ("LIFRecurrent", {"tau_mem": 5.0, "tau_syn": 3.0, "rec_connect": linear(True)}),
    ("IAFRecurrent", {"rec_connect": linear(True), "spike_fn": activation.MaxSpike(2)}),
    ("LIF", {"tau_mem": 5.0, **ZERO}),
    ("LIF", {"tau_mem": 5.0, **SINGLE, "min_v_mem": -0.1, "tau_syn": 3.0}),
    ("IAF", {**SINGLE, "reset_fn": activation.MembraneReset(0.1)}),
    ("LIF", {"tau_mem": 5.0, **SINGLE, "reset_fn": activation.MembraneSubtract(0.5)}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 9.0, "spike_fn": activation.MultiSpike, "min_v_mem": -0.1}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 10.0}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 10.0, "train_alphas": True, **GAUSS}),
    ("ALIFRecurrent", {"tau_mem": 5.0, "tau_adapt": 10.0, "rec_connect": linear(True), **GAUSS}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 10.0, "adapt_scale": 0.5, **ZERO, **GAUSS}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 10.0, "tau_syn": 3.0, "train_alphas": True, **ZERO, **GAUSS}),
    ("ALIFRecurrent", {"tau_mem": 5.0, "tau_adapt": 9.0, "tau_syn": 2.0, "rec_connect": linear(True)}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 10.0, "reset_fn": activation.MembraneSubtract(1.0), **GAUSS}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::snnfast.backend.BackendWarning")
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_layer_gives_the_same_spikes_states_and_gradients(name, settings):
    layer, x = getattr(layers, name)(**settings), inputs(4, 30, 6, low=-1.0, high=4.0)
    agrees(layer, twice, x, rounding=3e-5)  # gradients of a decay are sums of 720 terms


TRAINED = [
    ("LIF", {"tau_mem": 5.0}),
    ("LIF", {"tau_mem": 5.0, "tau_syn": 3.0, **SINGLE}),
    ("IAFSqueeze", {"batch_size": 4, "min_v_mem": -1.0}),
    ("IAF", {"reset_fn": activation.MembraneReset(0.1), "spike_fn": activation.MaxSpike(2)}),
    ("LIF", {"tau_mem": 5.0, "surrogate_grad_fn": activation.MultiGaussian(grad_scale=0.7)}),
    ("IAF", {"surrogate_grad_fn": activation.Gaussian(mu=0.1)}),
    ("ALIF", {"tau_mem": 5.0, "tau_adapt": 10.0, "tau_syn": 3.0}),
]


@pytest.mark.filterwarnings("error::snnfast.backend.BackendWarning")
@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
@pytest.mark.parametrize(("name", "settings"), TRAINED)
def test_in_training_the_functions_of_the_library_are_compiled(name, settings):
    x = inputs(4, 30, 6, low=-1.0, high=4.0)
    if "batch_size" in settings:
        x = x.flatten(0, 1)
    layer = getattr(layers, name)(**settings)
    ours = sn.replace(layer)
    gradients = []
    for one in (layer, ours):
        leaf = x.clone().requires_grad_()
        outputs = [one(leaf), one.v_mem]
        weights = inputs(*outputs[0].shape, seed=5), inputs(*outputs[1].shape, seed=6)
        loss = sum((a * b).sum() for a, b in zip(outputs, weights))
        gradients.append([*outputs, *torch.autograd.grad(loss, [leaf])])
    same(gradients[1][0], gradients[0][0], exact=True)
    for found, want in zip(gradients[1][1:], gradients[0][1:]):
        same(found, want)


class Steep:
    """Surrogate gradient of a user, which may contain code that cannot be compiled."""

    def __call__(self, v, threshold):
        return torch.exp(-10 * (v - threshold).square())


def test_another_surrogate_runs_in_plain_pytorch_and_says_so():
    layer = layers.LIF(tau_mem=5.0, surrogate_grad_fn=Steep())
    with pytest.warns(BackendWarning, match=r"LIF runs in plain PyTorch.*is none of Sinabs'"):
        agrees(layer, twice, inputs(4, 30, 6, low=-1.0, high=4.0))


@pytest.mark.parametrize("settings", [{}, ZERO])
def test_a_threshold_learns_from_resets_alone(settings):
    layer = layers.LIF(tau_mem=5.0, **SINGLE, **GAUSS, **settings)
    layer.spike_threshold.requires_grad_()
    agrees(layer, twice, inputs(4, 30, 6, low=-1.0, high=4.0))


@pytest.mark.parametrize("tau_syn", [None, 3.0])
@pytest.mark.parametrize("reset_fn", [activation.MembraneReset(), activation.MembraneSubtract(1.0)])
def test_an_adaptive_layer_without_gradients_runs_all_steps_at_once(reset_fn, tau_syn):
    layer = layers.ALIF(tau_mem=5.0, tau_adapt=10.0, tau_syn=tau_syn, reset_fn=reset_fn)
    ours = sn.replace(layer)
    x = inputs(4, 30, 6, low=-1.0, high=4.0)
    with torch.no_grad():
        for _ in range(2):
            same(ours(x), layer(x), exact=True)
            same(ours.b, layer.b)
            same(ours.v_mem, layer.v_mem)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("LIF", {"tau_mem": 5.0, "norm_input": False}),
        ("LIF", {"tau_mem": 5.0, "tau_syn": 3.0, "norm_input": False}),
        ("IAF", {"spike_fn": activation.MaxSpike(2), "spike_threshold": torch.tensor(0.5)}),
        ("IAF", {"spike_threshold": torch.tensor(0.7)}),
        ("LIFRecurrent", {"tau_mem": 5.0, "norm_input": False, "rec_connect": linear(True)}),
        ("LIFRecurrent", {"tau_mem": 5.0, "tau_syn": torch.tensor([2.0, 3, 4, 5, 6, 7]), "rec_connect": linear(True)}),
    ],
)
def test_several_spikes_a_step_without_gradients_are_one_call(name, settings):
    layer = getattr(layers, name)(**settings)
    ours = sn.replace(layer)
    x = inputs(4, 30, 6, low=-1.0, high=3.0)
    with torch.no_grad():
        for _ in range(2):
            expected = layer(x)
            assert expected.max() > 1
            same(ours(x), expected, exact=True)
            same(ours.v_mem, layer.v_mem)


def test_recurrent_layers_are_verified_though_sinabs_cannot_copy_them():
    recurrent = layers.LIFRecurrent(tau_mem=5.0, rec_connect=linear(True), **SINGLE)
    net = nn.Sequential(nn.Linear(6, 6), recurrent)
    x = inputs(4, 30, 6, high=4.0)
    with torch.no_grad():
        ours = sn.replace(net, verify=x)
        same(ours(x), net(x))
        recurrent.rec_connect.weight.neg_()
        assert not torch.equal(ours(x), net(x)), "what was verified is a copy"


@pytest.mark.parametrize("norm_input", [False, True])
def test_a_readout_gives_the_same_membranes(norm_input):
    layer = layers.ExpLeak(tau_mem=5.0, norm_input=norm_input)
    agrees(layer, twice, inputs(4, 30, 6), fires=False)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("LIF", {"tau_mem": 5.0, "tau_syn": 3.0, **SINGLE}), ("IAF", SINGLE), ("ExpLeak", {"tau_mem": 5.0})],
)
def test_recordings_hold_every_step(name, settings):
    layer = getattr(layers, name)(**settings, record_states=True)
    ours = sn.replace(layer)
    x = inputs(4, 20, 6, high=3.0)
    for _ in range(2):
        layer(x), ours(x)
        assert ours.recordings.keys() == layer.recordings.keys()
        for key, recorded in layer.recordings.items():
            same(ours.recordings[key], recorded)


def test_states_at_rest_take_any_batch():
    """``from_model`` leaves such states: zeros for another batch size."""
    net = nn.Sequential(nn.Linear(4, 6), layers.IAF(**SINGLE))
    net[1].v_mem = torch.zeros(1, 6)
    ours, x = sn.replace(net), inputs(5, 4, 4)
    with torch.no_grad():
        same(ours(x), nn.Sequential(net[0], layers.IAF(**SINGLE))(x))


def test_recurrent_connections_stay_when_the_network_is_accelerated():
    settings = {"tau_mem": 5.0, **SINGLE, **GAUSS}
    net = nn.Sequential(layers.LIFRecurrent(rec_connect=linear(True), **settings))
    ours = sn.replace(net)
    x = inputs(3, 20, 6, high=3.0)
    same(sn.accelerate(ours)(x), ours(x))


def test_functions_and_thresholds_that_are_set_or_loaded_later():
    settings = {"reset_fn": activation.MembraneSubtract(1.0), **SINGLE, **GAUSS}
    threshold = torch.tensor(1.0)  # the default is one tensor for all layers
    layer = layers.LIF(tau_mem=5.0, norm_input=False, spike_threshold=threshold, **settings)
    ours = sn.replace(layer)
    x = inputs(4, 30, 6, low=-1.0, high=2.0)
    with torch.no_grad():
        layer.spike_threshold.fill_(0.5)
        ours.load_state_dict(layer.state_dict())
        same(ours(x), layer(x), exact=True)
        for one in (layer, ours):
            one.reset_fn, one.spike_fn = activation.MembraneSubtract(), activation.MultiSpike
        expected = layer(x)
        assert expected.max() > 1
        same(ours(x), expected, exact=True)
    for one in (layer, ours):
        one.reset_states()
        one.spike_fn, one.surrogate_grad_fn = activation.SingleSpike, activation.Heaviside()
    gradients = [torch.autograd.grad(one(x).sum(), one.tau_mem)[0] for one in (layer, ours)]
    same(*gradients)
    ours.spike_fn = torch.round
    with pytest.raises(ValueError, match=r"its spike_fn .* is not one of Sinabs'"), torch.no_grad():
        ours(x)


def test_copies_take_recordings_without_their_graph():
    ours = sn.replace(layers.LIF(tau_mem=5.0, **SINGLE, **GAUSS, record_states=True))
    ours(inputs(3, 20, 6).requires_grad_())
    other = copy.deepcopy(ours)
    assert ours.recordings["v_mem"].requires_grad
    same(other.recordings["v_mem"], ours.recordings["v_mem"].detach())


def test_states_are_saved_reset_and_detached():
    layer = layers.LIF(tau_mem=5.0, **SINGLE, **GAUSS)
    ours = sn.replace(layer)
    x = inputs(4, 20, 6, high=3.0)
    layer(x), ours(x)
    fresh = sn.replace(layers.LIF(tau_mem=5.0, **SINGLE, **GAUSS))
    fresh.load_state_dict(layer.state_dict())  # with the state of a batch
    same(fresh.v_mem, ours.v_mem)
    expected = layer(x)
    same(fresh(x), expected, exact=True)
    sn.detach(ours)
    assert not ours.v_mem.requires_grad
    ours(x).sum().backward()
    with pytest.raises(RuntimeError, match=r"the state v_mem carries the graph of an earlier batch"):
        ours(x)
    ours.zero_grad()
    ours(x)
    with pytest.raises(ValueError, match=r"^LIF: the state v_mem has shape \[4, 6\], but a step has \[2, 6\]"):
        ours(x[:2])
    sn.reset(ours)
    layer.reset_states()
    same(ours(x[:2]), layers.LIF(tau_mem=5.0, **SINGLE)(x[:2]), exact=True)


def test_a_network_of_the_library():
    torch.manual_seed(0)
    net = nn.Sequential(
        loud(nn.Conv2d(1, 4, 3)), layers.IAFSqueeze(batch_size=3, **SINGLE), nn.MaxPool2d(2), nn.Flatten(),
        loud(nn.Linear(36, 5)), layers.LIFSqueeze(tau_mem=5.0, num_timesteps=10, **SINGLE),
        nn.Unflatten(0, (3, 10)), layers.ExpLeak(tau_mem=4.0),
    )  # fmt: skip
    x = inputs(30, 1, 8, 8)
    with torch.no_grad():
        ours = sn.replace(net, verify=x)
        assert list(ours.state_dict()) == list(net.state_dict())
        for _ in range(2):
            same(ours(x), net(x))


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("LIF", {"tau_mem": 5.0, "spike_fn": torch.round}, "^replace: net, a LIF of sinabs, .*: its spike_fn"),
        ("LIF", {"tau_mem": 5.0, "reset_fn": torch.round}, "is not one of Sinabs'"),
        ("ExpLeak", {"tau_mem": 5.0, "min_v_mem": -1.0}, "min_v_mem bounds"),
        ("IAFRecurrent", {"rec_connect": nn.Conv2d(1, 1, 3), **SINGLE}, "a matrix, and its are Conv2d"),
        ("IAFRecurrent", {"rec_connect": linear(True), "record_states": True}, "of the step after"),
        ("ALIF", {"tau_mem": 5.0, "tau_adapt": 9.0, "record_states": True}, "of the step after"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused(name, settings, error):
    with pytest.raises(ValueError, match=error):
        sn.replace(getattr(layers, name)(**settings))
