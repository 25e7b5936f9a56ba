"""``verify=`` of ``replace``, ``accelerate`` and ``fuse``: comparisons, what rounding may do, and messages."""

import re
import warnings

import pytest
import torch
from looping import STEPS, Layers, changed, loop, neuron
from replaced import loud, norse
from torch import nn

from snnfast import nn as sn
from snnfast.nn.verify import agree


class Spike(torch.autograd.Function):
    """A spike where ``u`` is at least 0, with the gradient of ``sigmoid(4 u)``."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        s = (4 * ctx.saved_tensors[0]).sigmoid()
        return grad * 4 * s * (1 - s)


class IFNode(nn.Module):
    """Stand-in for SpikingJelly's neuron in step mode "m"; ``more`` is added to the input, which is ``rounded``."""

    def __init__(self, more=0.0, rounded=lambda v: v):
        super().__init__()
        self.v_threshold, self.v_reset, self.v, self.more, self.rounded = 1.0, 0.0, 0.0, more, rounded
        self.step_mode, self.detach_reset, self.store_v_seq = "m", False, False
        self.surrogate_function = type("Sigmoid", (), {"__module__": "spikingjelly", "alpha": 4.0, "spiking": True})()

    def reset(self):
        self.v = 0.0

    def forward(self, x):
        spikes = []
        for x_t in x + self.more:
            v = self.rounded(self.v + x_t)
            s = Spike.apply(v - 1.0)
            spikes.append(s)
            self.v = (1 - s) * v
        return torch.stack(spikes)


IFNode.__module__ = "spikingjelly.activation_based.neuron"


class Net(nn.Module):
    """Network whose rate is ``change(spikes, neuron)``, so that it may differ from that of its copy."""

    def __init__(self, change=lambda x: x):
        super().__init__()
        self.fc, self.neuron, self.change = loud(nn.Linear(4, 6)), IFNode(), change

    def forward(self, x, y=None):
        spikes = self.neuron(self.fc(x if y is None else x + y))
        return {"spikes": [spikes.detach()], "rate": self.change(spikes, self.neuron)}


X = torch.rand(8, 5, 4, generator=torch.Generator().manual_seed(1))


def if_ported(theirs, ours):
    return lambda spikes, neuron: (ours if isinstance(neuron, sn.IF) else theirs)(spikes)


@pytest.mark.parametrize(
    ("this", "that", "words"),
    [
        (lambda s: s.mean(0), lambda s: s.sum(0), r"outputs differ in call 0: \['rate'\] does in \d+ of 30 values"),
        (lambda s: s.mean(0), lambda s: s.mean(1), r"\['rate'\] has shape \[8, 6\], expected \[5, 6\]"),
        (lambda s: s.mean(0), lambda s: [s.mean(0)], "the network returns 2 tensors, its copy 2, at other places"),
    ],
)  # fmt: skip
def test_what_the_networks_return_is_compared(this, that, words):
    assert sn.replace(Net(if_ported(this, this)), verify=X)
    with pytest.raises(ValueError, match=words):
        sn.replace(Net(if_ported(this, that)), verify=X)


def test_several_arguments_of_a_call():
    net = Net(if_ported(torch.mean, torch.mean))
    assert sn.replace(net, verify=[(X, X), (X, None), X])
    net = Net(if_ported(torch.mean, torch.sum))
    with pytest.raises(ValueError, match="outputs differ in call 0"):
        sn.replace(net, verify=[(X, X)])
    with pytest.raises(TypeError, match=r"^replace: verify must be a tensor"):
        sn.replace(net, verify=[()])
    with pytest.raises(ValueError, match=r"one sequence, got 2; .* give \[\(x, y\)\]"):
        sn.replace(nn.Sequential(IFNode()), sequences=True, verify=(X, X))


class Noisy(nn.Sequential):
    pass


def test_a_network_in_training_mode_is_told():
    norm = nn.BatchNorm1d(5)
    net = nn.Sequential(loud(nn.Linear(4, 6)), nn.Dropout(0.5), IFNode(0.25), norm)
    with pytest.raises(ValueError, match=r"trains BatchNorm1d, Dropout: compare net.eval\(\)$"):
        sn.replace(net, verify=X)
    with pytest.raises(ValueError, match=r"neurons, also in float64$"):
        sn.replace(net.eval(), verify=X)


def tenths(rounded=lambda v: v + 100 - 100):
    """Return a network whose membrane is 1 after ten steps, but for rounding, and its input, of a single sample."""
    net = nn.Sequential(IFNode(rounded=rounded), loud(nn.Linear(3, 3)), IFNode())
    return net, torch.full((12, 1, 3), 0.1)


def test_float64_decides_where_rounding_moves_a_spike():
    net, x = tenths()
    words = (
        r"replace: spikes of 0, a IFNode, differ from step 9 on, .* in 3 of 3 neurons; in float64 the networks agree"
    )
    with pytest.warns(UserWarning, match=words):
        sn.replace(net, verify=x)
    with pytest.raises(ValueError, match=r"differ from step 9 on, at that step in 3 of 3 neurons, also in float64$"):
        sn.replace(tenths(lambda v: v - 1e-3)[0], verify=x)
    with pytest.raises(ValueError, match=r"differ from step 9 on, at that step in 3 of 3 neurons$"):
        sn.replace(tenths(lambda v: v - 1e-3)[0].double(), verify=x.double())
    with pytest.raises(ValueError, match="in 3 of 3 neurons; they do not run in float64: RuntimeError: "):
        sn.replace(tenths(lambda v: (v.t() @ torch.ones(1, 1)).t() + 100 - 100)[0], verify=x)


def halved(x):
    """Return ``x`` with half its gradient."""
    return x / 2 + x.detach() / 2


def test_gradients_are_compared():
    net = Net(if_ported(lambda s: s, halved))
    words = "replace: gradients differ, from the last layer back: first that of the output of neuron, before the result"
    with pytest.raises(ValueError, match=f"{words}, by .*; that of fc.weight by up .*; that of fc.bias by up"):
        sn.replace(net, verify=X)
    with torch.no_grad():
        assert sn.replace(net, verify=X)
    with pytest.raises(ValueError, match="the results of the network have a gradient, those of its copy none"):
        sn.replace(Net(if_ported(torch.clone, torch.detach)), verify=X)


def test_gradients_of_inputs_are_compared():
    net = Net(if_ported(lambda s: s, halved)).requires_grad_(False)
    with pytest.raises(ValueError, match=r"; that of input 0 of call 0 by up to [\d.]+ of [\d.]+, also in float64$"):
        sn.replace(net, verify=X)


class Scaled(nn.Linear):
    """A layer whose weight has another gradient behind a replaced neuron."""

    def forward(self, x):
        return nn.functional.linear(x, halved(self.weight) if self.behind else self.weight, self.bias)


def test_the_parameter_with_another_gradient_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.neuron, self.last = loud(nn.Linear(4, 6)), IFNode(), Scaled(6, 2)

        def forward(self, x):
            self.last.behind = isinstance(self.neuron, sn.IF)
            return self.last(self.neuron(self.fc(x)))

    words = r"from the last layer back: that of last.weight by up to [\d.]+ of [\d.]+, also"
    with pytest.raises(ValueError, match=words):
        sn.replace(Net(), verify=X)


def test_nothing_changes():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5), nn.Dropout(0.5), IFNode(), nn.Linear(6, 2))
    net[3].v = torch.full((5, 6), 0.25)
    net(X).sum().backward()
    before = [t.clone() for t in (*net.state_dict().values(), *(p.grad for p in net.parameters()), net[3].v)]
    drawn, mode = torch.get_rng_state(), net.training
    for function in (sn.replace, sn.accelerate, sn.fuse):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(net, verify=[X, X])
            except ValueError as error:
                assert "trains" in str(error)  # noqa: PT017
    after = (*net.state_dict().values(), *(p.grad for p in net.parameters()), net[3].v)
    torch.testing.assert_close([torch.get_rng_state(), *after], [drawn, *before], rtol=0, atol=0)
    assert net.training == mode


class Told(nn.Module):
    """A network that a rewritten layer changes."""

    def __init__(self, told):
        super().__init__()
        self.time = sn.Time(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
        self.lif, self.fc, self.told = sn.LIF(2.0, v_threshold=0.1), nn.Linear(4, 2), told

    def forward(self, x):
        y = self.fc(self.lif(self.time(x)))
        norm = self.time.layer[1]
        return self.told(y) if isinstance(self.fc, sn.SpikeLinear) or isinstance(norm, nn.Identity) else y


@pytest.mark.parametrize("function", [sn.accelerate, sn.fuse])
def test_verify_of_other_functions(function):
    x, name = torch.rand(3, 2, 2, 4, 4), function.__name__
    assert function(Told(lambda y: y).eval(), verify=x)
    with pytest.raises(ValueError, match=f"^{name}: outputs differ in call 0: the result does in 144 of 144 values"):
        function(Told(lambda y: 2 * y).eval(), verify=x)
    with pytest.raises(ValueError, match=f"^{name}: gradients differ, .*: first that of the output of fc, before the"):
        function(Told(halved).eval(), verify=x)
    with pytest.raises(TypeError, match=f"^{name}: verify must be a tensor"):
        function(Told(halved), verify=[3])


def test_a_neuron_that_never_runs():
    net = changed(loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))).float()
    ours = sn.replace(net, sequences=False)
    agree("replace", ours, sn.replace(net, sequences=True), [(X[0],)], neurons=["lif1", "lif2"])


def test_neurons_that_are_replaced_already():
    once = sn.replace(Layers().float())
    with pytest.raises(ValueError, match=r"replaced already; give the library's network"):
        sn.replace(once, sequences=True)


def test_layers_that_take_sequences_already():
    settings = {"tau_mem_inv": 100.0, "tau_syn_inv": 200.0, "v_leak": 0.0, "v_th": 1.0}
    layer = norse("LIF", "norse.torch.module.lif")(settings | {"v_reset": 0.0, "dt": 0.001})
    with pytest.raises(ValueError, match=r"^replace: 1, a LIF, already takes sequences; leave"):
        sn.replace(Noisy(nn.Linear(4, 6), layer), sequences=True)


def reset(net):
    pass


reset.__module__ = "snntorch.utils"


def test_resets_by_snntorch_are_told():
    def forward(self, x):
        reset(self)
        return x

    with pytest.warns(UserWarning, match="forward of Changed calls snntorch.utils.reset, which"):
        sn.replace(changed(forward).float())


def test_states_that_nothing_in_the_copy_resets_are_told():
    def forward(self, x):
        return self.lif1(x)

    def resetting(self, x):
        self.lif1.reset_mem()
        return self.lif1(x)

    for run, told in ((forward, True), (resetting, False)):
        net = changed(run, lif1=neuron(), lif2=nn.Identity()).float()
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            sn.replace(net, sequences=False)
            assert not found
            net.lif1.init_hidden = True
            sn.replace(net, sequences=False)
        words = "init_hidden=True keep their states between calls, .* call snnfast.nn.reset on the copy"
        assert [bool(re.search(words, str(warning.message))) for warning in found] == [True] * told


def test_batch_normalisation_over_all_steps_is_refused():
    lif = neuron()
    lif.init_hidden = True
    net = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6)), lif).float()
    words = r"1\.0, a BatchNorm1d, takes its statistics at every step"
    with pytest.raises(ValueError, match=f"^replace: {words}"):
        sn.replace(net, sequences=True)
    fast = sn.replace(net.eval(), sequences=True)
    x = torch.rand(STEPS, 5, 4)
    fast(x)
    fast.train()
    with pytest.raises(RuntimeError, match=r"1\.0, a BatchNorm1d, takes its statistics at every step"):
        fast(x)


def test_an_input_is_needed():
    with pytest.raises(ValueError, match="replace: verify must have an input, got none"):
        sn.replace(nn.Sequential(nn.Linear(2, 2)), verify=[])
