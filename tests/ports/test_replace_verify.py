"""``replace(verify=...)``: comparisons, tolerated differences, and messages."""

import copy
import re
import warnings

import pytest
import torch
from looping import STEPS, Layers, changed, loop, neuron
from replaced import loud, norse
from torch import nn

from snnfast import nn as sn
from snnfast.ports.compare import agree


class IFNode(nn.Module):
    """Stand-in for SpikingJelly's neuron in step mode "m"; ``more`` is added to the input."""

    def __init__(self, more=0.0):
        super().__init__()
        self.v_threshold, self.v_reset, self.v, self.more = 1.0, 0.0, 0.0, more
        self.step_mode, self.detach_reset, self.store_v_seq = "m", False, False
        self.surrogate_function = type("Sigmoid", (), {"__module__": "spikingjelly", "alpha": 4.0, "spiking": True})()

    def reset(self):
        self.v = 0.0

    def forward(self, x):
        spikes = []
        for x_t in x + self.more:
            v = self.v + x_t
            spikes.append((v >= 1.0).to(v))
            self.v = torch.where(v >= 1.0, 0.0, v)
        return torch.stack(spikes)


IFNode.__module__ = "spikingjelly.activation_based.neuron"


class Net(nn.Module):
    """Network whose rate is ``change(spikes, neuron)``, so that it may differ from that of its copy."""

    def __init__(self, change=lambda x: x):
        super().__init__()
        self.fc, self.neuron, self.change = loud(nn.Linear(4, 6)), IFNode(), change

    def forward(self, x, y=None):
        spikes = self.neuron(self.fc(x if y is None else x + y))
        return {"spikes": [spikes], "rate": self.change(spikes, self.neuron)}


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
    with pytest.raises(ValueError, match=r"neurons$"):
        sn.replace(net.eval(), verify=X)


def ties(*samples):
    """Return a network with membranes within rounding of the threshold in these of 100 samples, and a second layer."""
    x = torch.zeros(4, 100, 200)
    x[1, list(samples), 7] = 1 - 5e-7
    return nn.Sequential(IFNode(1e-6), nn.Linear(200, 3), IFNode(), nn.Linear(3, 3)), x


def test_membranes_within_rounding_of_the_threshold():
    net, x = ties(3, 50)
    with torch.no_grad():
        net[1].weight.fill_(2.0), net[1].bias.zero_()
    words = "left out 2 of 100 samples from where 2 neurons fire otherwise"
    with pytest.warns(UserWarning, match=words):
        sn.replace(net, verify=x)
    _, x = ties(3, 50, 51)
    with pytest.raises(ValueError, match=r"spikes of 0, a IFNode, differ from step 1 on, .* in 3 of"):
        sn.replace(net, verify=x)
    # Differences in other samples count.
    net[2].more = 1.0
    _, x = ties(3, 50)
    with pytest.raises(ValueError, match="spikes of 2, a IFNode, differ from step 0 on"):
        sn.replace(net, verify=x)


@pytest.mark.parametrize(("less", "forgiven"), [(1e-6, True), (0.1, False)])
def test_membranes_that_are_returned_have_to_be_at_the_threshold(less, forgiven):
    net = changed(loop(lambda s, x, t, m: s.lif1(x[t], m), steps=3), lif2=nn.Identity()).float()
    net = sn.replace(net, sequences=False)
    x = torch.zeros(3, 5, 6)
    x[1, 2, 4] = 1 - less / 2
    other = copy.deepcopy(net)
    other.lif1.threshold -= less
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error, words = (UserWarning, "left out 1 of 5") if forgiven else (ValueError, "in 1 of 30")
        with pytest.raises(error, match=words):
            agree(net, other, ["lif1"], [(x,)])
        # A single sample cannot be left out.
        with pytest.raises(ValueError, match="in 1 of 6"):
            agree(net, other, ["lif1"], [(x[:, 2:3],)])


def test_a_neuron_that_never_runs():
    net = changed(loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))).float()
    ours = sn.replace(net, sequences=False)
    agree(ours, sn.replace(net, sequences=True), ["lif1", "lif2"], [(X[0],)], sequences=True)


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
