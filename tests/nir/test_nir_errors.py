"""Errors of reading and writing NIR: they name the layer or node."""

import sys

import numpy as np
import pytest
import torch
from graphs import graph_of
from torch import nn

import snnfast
from snnfast import nir as sn
from snnfast import nn as sn_nn
from snnfast.nn import ALIF, LI, LIF, Delay, Rate, Time
from snnfast.papers import SequenceNetwork

nir = pytest.importorskip("nir")


class Parts(nn.Module):
    """Layers of the refused networks."""

    def __init__(self):
        super().__init__()
        self.fc, self.one, self.lif = Time(nn.Linear(3, 3)), Time(nn.Linear(3, 1)), LIF()
        self.bn, self.flat = Time(nn.BatchNorm1d(3)), nn.Flatten(2)


class NormalisedBesides(Parts):
    def forward(self, x):
        y = self.fc(x)
        return self.bn(y) + y


class Viewed(Parts):
    def forward(self, x):
        y = self.fc(x)
        flat = self.flat(y)
        y += self.lif(y)
        return self.one(flat)


class Broadcast(Parts):
    def forward(self, x):
        return self.fc(x) + self.one(x)


def hooked():
    net = nn.Sequential(Time(nn.Linear(3, 3)), LIF())
    net[0].layer.register_forward_hook(lambda layer, inputs, result: result * 2)
    return net


def converted():
    return snnfast.convert(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), [torch.rand(5, 3)])


@pytest.mark.parametrize(
    ("net", "error"),
    [
        (nn.Sequential(LIF(v_reset=None)), r"^to_nir: 0 resets by subtraction"),
        (nn.Sequential(Time(nn.Linear(3, 3)), ALIF()), r"^to_nir: NIR has no equal for 1, a ALIF"),
        (nn.Sequential(LIF(), Rate()), r"^to_nir: NIR has no equal for "),
        (nn.Sequential(Time(nn.ReLU())), r"^to_nir: NIR has no equal for 0, a ReLU"),
        (nn.Sequential(Time(nn.BatchNorm1d(3))), r"^to_nir: 0\.layer, a BatchNorm1d, cannot be folded: it does not"),
        (NormalisedBesides(), r"^to_nir: bn\.layer, a BatchNorm1d, cannot be folded: it does .* nothing else sees"),
        (Viewed(), r"^to_nir: iadd in forward: it changes in place what is read again by another name"),
        (SequenceNetwork(3, (4,), 2), r"^to_nir: SequenceNetwork cannot be traced by torch\.fx: Seq.*: x must"),
        (Broadcast(), r"^to_nir: add in forward adds samples \[3\] and \[1\]"),
        (hooked(), r"^to_nir: 0\.layer, a Linear, has a forward hook"),
        (converted(), r"^to_nir: net must take .* but a SpikingNetwork takes .*; give net\.sequential\(\)$"),
        (nn.Sequential(LIF(v_init=0.5)), r"^to_nir: 0 starts at v_init, NIR's neurons at rest; NIR has no equal: of"),
        (nn.Sequential(Time(nn.Linear(4, 3))), r"^to_nir: 0\.layer, a Linear, does not take \[3\], which input_shape"),
        (
            nn.Sequential(Time(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))),
            r"^to_nir: 0\.layer\.1, a BatchNorm1d, cannot be folded: it has no running statistics",
        ),
        (nn.Sequential(LIF(), nn.Flatten()), r"^to_nir: 1, a Flatten, mixes samples; start_dim must be at least 2"),
        (nn.Sequential(LIF(return_v_seq=True)), r"^to_nir: 0, a LIF, returns more than one tensor"),
        (nn.Sequential(LI(decay=1.0)), r"^to_nir: 0: a decay of 1 has no time constant"),
        (nn.Sequential(Delay(3, 2.0)), None),
        (3, r"^to_nir: net must be a module, got int"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named(net, error):
    if error is None:
        net[0].sigma = 0.5
        error = r"^to_nir: 0 spreads spikes by sigma = 0\.5"
    with pytest.raises((ValueError, TypeError), match=error):
        sn.to_nir(net, (3,), dt=1.0, scheme="euler")


def test_a_decay_of_0_has_no_exponential_time_constant():
    with pytest.raises(ValueError, match=r"^to_nir: 0: a decay of 0 has no time constant with"):
        sn.to_nir(nn.Sequential(LIF(1.0)), (3,), dt=1.0, scheme="exponential")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dt": 1.0}, r"^from_nir: the graph does not say its scheme"),
        ({"scheme": "euler"}, r"^from_nir: the graph does not say its dt"),
        ({"dt": 0.0, "scheme": "euler"}, r"^from_nir: dt must be"),
        ({"dt": 1.0, "scheme": "exact"}, r"^from_nir: scheme must be one of euler, exponential"),
        ({"dt": 9.0, "scheme": "euler"}, r"^from_nir: n0: a time constant of 2 s is shorter than"),
    ],
)
def test_steps_are_never_guessed(options, error):
    node = nir.LI(tau=np.array([2.0]), r=np.ones(1), v_leak=np.zeros(1))
    with pytest.raises(ValueError, match=error):
        sn.from_nir(graph_of(node, shape=(1,)), **options)


def test_what_cannot_be_read_is_named():
    def read(graph):
        return sn.from_nir(graph, dt=1.0, scheme="euler")

    with pytest.raises(TypeError, match=r"^from_nir: graph must be a NIRGraph, got int"):
        read(3)
    lost = graph_of(nir.Linear(weight=np.eye(3)))
    lost.edges.append(("in", "q"))
    with pytest.raises(ValueError, match=r"^from_nir: the edge from in to q names no node q"):
        read(lost)
    with pytest.raises(ValueError, match=r"^from_nir: n0 must have a weight \[out, in\]"):
        read(graph_of(nir.Linear(weight=np.ones((2, 3, 4)))))
    with pytest.raises(ValueError, match=r"^from_nir: n0 has several delays in a channel"):
        read(graph_of(nir.Delay(delay=np.array([[1.0, 2.0]])), shape=(1, 2)))
    with pytest.raises(ValueError, match=r"^from_nir: n0 has one delay for any number"):
        read(graph_of(nir.Delay(delay=np.array(1.0))))
    two = graph_of(nir.Linear(weight=np.eye(3)))
    two.nodes["more"] = nir.Input(np.array([3]))
    with pytest.raises(ValueError, match=r"^from_nir: the graph must have one Input, got in, more"):
        read(two)

    class Unknown(nir.NIRNode):
        def __init__(self):
            self.metadata = {}

    with pytest.raises(ValueError, match=r"^from_nir: there is no equal for n0, a Unknown"):
        read(graph_of(Unknown()))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r'^to_nir: needs nir, .*pip install "\.\[nir\]"'):
        sn.to_nir(LIF(), (3,), dt=1.0, scheme="euler")


def test_an_old_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0.4")
    with pytest.raises(ImportError, match=r"^from_nir: needs nir 1\.0\.8 or later, got 1\.0\.4: pip"):
        sn.from_nir(nir.NIRGraph({}, [], type_check=False))


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (
            lambda: sn_nn.like("spikingjelly.KLIFNode"),
            "^to_nir: NIR has no equal for block.lif, a Klif, whose equation is a step function$",
        ),
        (
            lambda: sn_nn.Recurrent(sn_nn.like("spikingjelly.KLIFNode"), 3),
            "NIR has no equal for block.lif, a Recurrent of Klif, whose equation is a step function, ",
        ),
    ],
)
def test_a_neuron_from_a_step_function_has_no_equal(layer, error):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Module()
            self.block.fc, self.block.lif = Time(nn.Linear(3, 3)), layer()

        def forward(self, x):
            return self.block.lif(self.block.fc(x))

    with pytest.raises(ValueError, match=error):
        sn.to_nir(Net(), (3,), dt=1e-3, scheme="euler")
