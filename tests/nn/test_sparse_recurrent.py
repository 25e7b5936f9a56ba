"""``SparseRecurrent``: state, weights, monitor, and refusals of what cannot export it."""

import copy

import pytest
import torch
from samples import assert_equal, share_of_loss_left
from torch import nn

import snnfast
from snnfast import connect, ops
from snnfast.nn import ALIF, LIF, SparseRecurrent

C = connect.fixed_outdegree(9, outdegree=3, seed=1).with_delay(torch.arange(27) % 4 + 1)


def x(steps=12, batch=2, seed=0):
    return torch.rand(steps, batch, 9, generator=torch.Generator().manual_seed(seed)) * 2


def build(neuron=None, weight=None, connectivity=C):
    torch.manual_seed(0)
    return SparseRecurrent(neuron or LIF(), connectivity, weight=weight)


@pytest.mark.parametrize("neuron", [LIF, ALIF])
def test_it_is_its_op(neuron):
    layer = build(neuron(tau=3.0))
    spikes = layer(x())
    assert_equal(spikes, ops.sparse_recurrent(x(), layer.weight, C, neuron=layer.neuron.op, tau=3.0)[0])
    assert spikes.any()
    (grad,) = torch.autograd.grad(spikes.sum(), layer.weight)
    assert grad.any()


def test_weights_are_a_number_a_buffer_or_a_parameter():
    number, buffer, learned = (build(weight=w) for w in (0.5, torch.full((27,), 0.5), nn.Parameter(torch.ones(9))))
    assert_equal(number(x()), buffer(x()))
    assert [len(list(layer.parameters())) for layer in (number, buffer, learned, build())] == [0, 0, 1, 1]
    assert build().weight.shape == (27,)
    assert "connectivity=Connectivity(9 -> 9 neurons, 27 synapses, delay 1 to 4), weight=0.5" in repr(number)


def test_in_parts_gives_the_bits_of_the_whole():
    parts, whole = build(LIF(stateful=True)), build()
    found = torch.cat([parts(part) for part in x(30).split([1, 9, 2, 18])])
    assert_equal(found.detach(), whole(x(30)).detach())
    assert parts.past.shape == (4, 2, 9)
    other = build(LIF(stateful=True))
    other.load_state_dict(parts.state_dict())
    assert_equal(other(x(3)).detach(), parts(x(3)).detach())
    snnfast.nn.reset(parts)
    assert parts.past is parts.neuron.v is None
    assert_equal(parts(x(30)).detach(), whole(x(30)).detach())


def test_noise_goes_on_in_parts_without_input():
    parts, whole, noise = build(LIF(stateful=True)), build(), connect.PoissonNoise(1.0, 0.5, seed=1)
    found = [parts(None, num_steps=steps, batch=2, noise=noise.after(t)) for t, steps in ((0, 7), (7, 1), (8, 12))]
    spikes = whole(None, num_steps=20, batch=2, noise=noise)
    assert_equal(torch.cat(found).detach(), spikes.detach())
    assert_equal(spikes, whole(torch.zeros(20, 2, 9), noise=noise))
    assert spikes.any()
    with pytest.raises(ValueError, match="SparseRecurrent: x=None needs num_steps"):
        whole(None)


def test_weights_of_another_connectivity_are_refused():
    other = connect.fixed_outdegree(9, outdegree=3, seed=2).with_delay(C.delays())
    with pytest.raises(RuntimeError, match="SparseRecurrent: weight belongs to another connectivity, 27 synapses of 9"):
        build(connectivity=other).load_state_dict(build().state_dict())
    copy.deepcopy(build()).load_state_dict(build().state_dict())


def test_a_network_learns():
    torch.manual_seed(0)
    c = connect.fixed_indegree(40, indegree=8, seed=0)
    net = nn.Sequential(snnfast.nn.Time(nn.Linear(9, 40)), SparseRecurrent(LIF(), c), snnfast.nn.Rate())
    net[0].requires_grad_(False)
    assert share_of_loss_left(net, x(20), torch.rand(2, 40) / 2) < 0.7


def test_the_monitor_counts_spikes_and_synaptic_operations():
    layer = build(LIF(stateful=True))
    with torch.no_grad():
        layer.weight[::5] = 0
    first, second = x(7), x(6, seed=1)
    with snnfast.monitor(layer) as watching:
        spikes = torch.cat([layer(first), layer(second)])
    (neurons,) = watching.activity().neurons
    assert (neurons.kind, neurons.neurons) == ("SparseRecurrent", 9)
    (product,) = watching.activity().products
    pre, _ = C.edges()
    operations = dense = 0
    for e, delay in enumerate(C.delays().tolist()):
        arrived = spikes[: len(spikes) - delay, :, pre[e]]
        operations += int(arrived.sum()) * (e % 5 != 0)
        dense += arrived.numel()
    assert product.accumulates * watching.samples == operations
    assert product.dense * watching.samples == dense


def test_explain_names_the_layer_once():
    assert snnfast.backend.explain(build(), x()).startswith("SparseRecurrent: sparse_recurrent: CPU kernels")


def test_nir_and_c_export_refuse_it_by_name(tmp_path):
    net = nn.Sequential(build())
    with pytest.raises((TypeError, ValueError), match="SparseRecurrent"):
        snnfast.export_c(net, tmp_path, input_shape=(9,))
    pytest.importorskip("nir")
    with pytest.raises(ValueError, match="NIR has no equal for 0, a SparseRecurrent"):
        snnfast.nir.to_nir(net, (9,), dt=1e-3, scheme="euler")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Linear(2, 2), C), "neuron must be a layer of neurons that fire, such as LIF.., got Linear"),
        ((LIF(), torch.ones(9, 9)), "connectivity must be a Connectivity, made by snnfast.connect, got Tensor"),
        ((LIF(), connect.fixed_total(3, 4, total=5)), "must connect neurons with themselves, got 3 -> 4 neurons"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"SparseRecurrent: .*{message}"):
        SparseRecurrent(*arguments)
    with pytest.raises(ValueError, match=r"SparseRecurrent: weight must have shape \[27\] or \[9\], got \[9, 9\]"):
        build(weight=torch.ones(9, 9))
    with pytest.raises(ValueError, match=r"SparseRecurrent: x must have shape \[T, ..., 9\], got \[3, 2, 4\]"):
        build()(torch.ones(3, 2, 4))
