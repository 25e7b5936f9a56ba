"""``Recomputed`` equals ``nn.Sequential``, and saves memory by running layers in parts, again in the backward pass."""

from copy import deepcopy

import pytest
import torch
from samples import assert_equal
from torch import nn
from torch.profiler import ProfilerActivity, profile

import snnfast
import snnfast.nn as sn
from snnfast.export import Step

STEPS, BATCH, WIDTH = 20, 3, 8
LIVELY = {"decay_input": False, "v_threshold": 0.6}


class Residual(nn.Module):
    """A module with its own ``forward``."""

    def __init__(self):
        super().__init__()
        self.product, self.neuron = sn.SpikeLinear(WIDTH, WIDTH, method="events"), sn.CubaLIF()

    def forward(self, x):
        return x + self.neuron(self.product(x))


def linear(inputs=WIDTH, outputs=WIDTH):
    return sn.Time(sn.SpikeLinear(inputs, outputs, method="events"))


@snnfast.neuron
def leaky(fire, x, v, *, k=0.7):
    s, _, v = fire(k * v + x, 1.0)
    return s, v


NETWORKS = {
    "two layers": lambda: (linear(), sn.LIF(v_reset=None), linear(WIDTH, 5), sn.LIF(3.0)),
    "several states": lambda: (
        linear(), sn.ALIF(refractory=2, **LIVELY), linear(), sn.AdLIF(WIDTH, v_threshold=0.3), sn.CubaLI()
    ),
    "learned": lambda: (linear(), sn.ParametricLIF(2.0, channels=WIDTH, **LIVELY), linear(), sn.LI(4.0)),
    "recurrent": lambda: (linear(), sn.Recurrent(sn.LIF(), WIDTH, max_delay=4.0)),
    "delays": lambda: (sn.Delay(WIDTH, 5.0), linear(), sn.LIF()),
    "one in another": lambda: (linear(), sn.Recomputed(sn.LIF(**LIVELY), linear(), sn.LI(4.0), every=3)),
    "delays between products": lambda: (sn.Time(nn.Linear(WIDTH, WIDTH)), sn.Delay(WIDTH, 5.0), linear(), sn.LIF()),
    "own forward": lambda: (Residual(), Residual()),
    "membranes": lambda: (linear(), sn.LIF(return_v_seq=True)),
    "stateful": lambda: (
        sn.LIF(stateful=True, **LIVELY), linear(), sn.IF(), linear(), sn.ALIF(stateful=True, **LIVELY)
    ),
    "images": lambda: (sn.Time(nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 1)), sn.LIF()),
    "own neuron": lambda: (linear(), leaky.layer()),
}  # fmt: skip


def spikes(steps=STEPS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, BATCH, WIDTH, generator=generator) < 0.4).to(dtype)


def both(network, every, dtype=torch.float64):
    torch.manual_seed(0)
    whole = nn.Sequential(*NETWORKS[network]()).to(dtype)
    with torch.no_grad():
        for p in whole.parameters():
            if p.dim() > 1:
                p *= 5
    return sn.Recomputed(*deepcopy(whole), every=every), whole


def run(net, calls=2):
    """Return outputs and states of some calls, and gradients."""
    outputs, leaves = [], [spikes(seed=k).requires_grad_() for k in range(calls)]
    for x in leaves:
        y = net(x)
        outputs += y if isinstance(y, tuple) else (y,)
    outputs += [getattr(m, n) for m in net.modules() if getattr(m, "stateful", 0) for n in m.states]
    generator = torch.Generator().manual_seed(9)
    grads = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in outputs]
    return outputs, torch.autograd.grad(outputs, [*leaves, *net.parameters()], grads)


@pytest.mark.parametrize("every", [1, 7, 10, 50])
@pytest.mark.parametrize("network", NETWORKS)
def test_parts_equal_the_whole(network, every):
    parts, whole = both(network, every)
    (y, grads), (want, wanted) = run(parts), run(whole)
    assert_equal(tuple(y), tuple(want))
    assert want[0].std() > 0
    for a, b in zip(grads, wanted, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * b.abs().max().item())


@pytest.mark.parametrize("network", NETWORKS)
def test_evaluation_runs_in_parts_too(network):
    parts, whole = both(network, 6)
    lengths = []
    next(parts.children()).register_forward_pre_hook(lambda _, inputs: lengths.append(len(inputs[0])))
    with torch.no_grad():
        y, want = parts.eval()(spikes()), whole.eval()(spikes())
    assert_equal(y if isinstance(y, tuple) else (y,), want if isinstance(want, tuple) else (want,))
    assert lengths == [5, 5, 5, 5]  # the fewest parts of at most 6, equally long


def test_states_are_handed_on_and_no_layer_keeps_what_it_did_not_keep():
    net, whole = both("stateful", 6)
    for _ in range(2):
        y, want = net(spikes()), whole(spikes())
        assert_equal((y, net[0].v, net[4].v, net[4].a), (want, whole[0].v, whole[4].v, whole[4].a))
        (y.sum() + net[4].a.sum()).backward()
        assert [layer.stateful for layer in (net[0], net[2], net[4])] == [True, False, True]
        assert net[2].v is None
        assert_equal((net[0].v,), (whole[0].v,))  # the backward pass ran earlier parts
        snnfast.nn.detach(net)
        snnfast.nn.detach(whole)
    snnfast.nn.reset(net)
    assert net[0].v is None
    net(spikes()).sum().backward()
    with pytest.raises(RuntimeError, match="the state v carries the graph of an earlier batch"):
        net(spikes())


def bytes_saved(net, x):
    """Return the bytes that a forward pass leaves allocated, without its output."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        y = net(x)
    assert y.requires_grad
    return sum(event.self_cpu_memory_usage for event in found.key_averages()) - y.nbytes


def test_it_keeps_states_instead_of_sequences():
    torch.manual_seed(0)
    whole = nn.Sequential(*(layer for _ in range(3) for layer in (linear(64, 64), sn.LIF(v_threshold=0.1))))
    whole.append(linear(64, 2))
    x = (torch.rand(1000, 4, 64) < 0.3).float()
    neurons = 1000 * 4 * 3 * 64
    parts = sn.Recomputed(*whole, every=50)
    for net in (whole, parts):
        net(x[:50]).sum().backward()  # gradients of weights, and what is made once
    assert bytes_saved(whole, x) > 4 * neurons
    # a state of 4 bytes every 50 steps, and the last 50 steps; besides, the states of the generator, 5 KB a part
    assert bytes_saved(parts, x) < (4 / 50 + 5 / 20) * neurons + 20 * 6000


def test_the_backward_pass_may_be_repeated_and_masks_of_dropout_are_drawn_once():
    net = sn.Recomputed(sn.Time(nn.Dropout(0.5), nn.Linear(WIDTH, WIDTH)), sn.LI(), every=6).double()
    x = torch.ones(STEPS, BATCH, WIDTH, dtype=torch.float64, requires_grad=True)
    y = net(x)
    grads = [torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for _ in range(2)]
    assert_equal(*grads)
    # of a linear network y is the gradient times x, plus the bias
    with torch.no_grad():
        net[0].layer[1].weight.zero_()
    torch.manual_seed(3)
    assert net(x).std(1).max() < 1e-12
    assert 0 < (grads[0] == 0).double().mean() < 1
    bias = net.eval()(x.detach())
    torch.testing.assert_close(y.sum(), (grads[0] * x).sum() + bias.sum())


REFUSED = {
    "Rate": (ValueError, sn.Rate, r"layer 1\.0, a Rate, needs all steps at once; put it outside"),
    "PSN": (ValueError, lambda: sn.PSN(STEPS), r"layer 1\.0, a PSN, needs all steps at once"),
    "norm": (
        ValueError,
        lambda: sn.Time(nn.BatchNorm1d(WIDTH)),
        r"layer 1\.0\.layer, a BatchNorm1d, normalises by the statistics of all steps; put it out.*, use .*LayerNorm",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_layers_that_need_all_steps_are_refused(case):
    error, make, message = REFUSED[case]
    with pytest.raises(error, match=f"^Recomputed: {message}"):
        sn.Recomputed(sn.LIF(), nn.Sequential(make()))(spikes())


def test_memories_of_another_library_are_refused():
    node = type("MemoryModule", (nn.Identity,), {"__module__": "spikingjelly.activation_based.base"})
    with pytest.raises(TypeError, match=r"^Recomputed: layer 0, a MemoryModule of SpikingJelly, .*replace first"):
        sn.Recomputed(node())(spikes())


def test_batch_normalisation_by_running_statistics_is_taken():
    torch.manual_seed(0)
    whole = nn.Sequential(linear(), sn.Time(nn.BatchNorm1d(WIDTH).eval()), sn.LIF(**LIVELY)).double()
    y = sn.Recomputed(*whole, every=6)(spikes())
    assert_equal((y,), (whole(spikes()),))
    whole[1].layer.running_mean = None
    with pytest.raises(ValueError, match="normalises by the statistics"):
        sn.Recomputed(*whole)(spikes())


def test_a_neuron_in_two_places_is_refused():
    """It would go on from the state of the first place."""
    lif = sn.LIF()
    net = sn.Recomputed(lif, linear(), lif, every=6).double()
    with pytest.raises(ValueError, match=r"^Recomputed: a LIF runs twice, but has one state to hand on; give"):
        net(spikes())
    assert not lif.stateful
    assert lif.v is None
    assert_equal((lif(spikes()),), (sn.LIF()(spikes()),))


@pytest.mark.parametrize("every", [0, -1, 1.5, "all", None, True])
def test_parts_have_a_whole_number_of_steps(every):
    with pytest.raises((TypeError, ValueError), match=r"^Recomputed: every must be"):
        sn.Recomputed(sn.LIF(), every=every)


@pytest.mark.parametrize("x", [3, None, torch.tensor(1.0)])
def test_what_is_no_sequence_is_refused(x):
    with pytest.raises((TypeError, ValueError), match=r"^Recomputed: x must"):
        sn.Recomputed(sn.LIF())(x)


def test_no_steps_are_a_sequence():
    parts, whole = both("two layers", 6)
    x = spikes()[:0].requires_grad_()
    y = parts(x)
    assert y.shape == whole(x).shape == (0, BATCH, 5)
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_bool_spikes_and_low_precision_are_taken():
    parts, whole = both("two layers", 6, torch.bfloat16)
    assert_equal((parts(spikes() > 0),), (whole(spikes() > 0),))
    parts, whole = both("two layers", 6, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, want = (net(spikes(dtype=torch.float32)) for net in (parts, whole))
    assert_equal((y,), (want,))
    y.sum().backward()  # in the types of the forward pass
    want.sum().backward()
    for a, b in zip(parts.parameters(), whole.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=0.02, atol=0.02 * b.grad.abs().max().item())


def test_tools_see_the_layers():
    parts, whole = both("two layers", 6)
    assert parts.state_dict().keys() == whole.state_dict().keys()
    x = spikes()
    plain = sn.Recomputed(sn.Time(nn.Linear(WIDTH, WIDTH)), sn.LIF(), every=6).double()
    fast = sn.accelerate(plain)
    assert type(fast) is sn.Recomputed
    assert fast.every == 6
    assert type(fast[0].layer) is sn.SpikeLinear
    step = Step(parts)
    states, outputs = step.start(x[0]), []
    for one in x:
        y, *states = step(one, *states)
        outputs.append(y)
    assert_equal((torch.stack(outputs),), (parts(x).detach(),))
    images = nn.Sequential(
        sn.Recomputed(sn.Time(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)), sn.LIF(), every=6)
    ).eval()
    fused = sn.fuse(images)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in fused.modules())
    assert_equal((fused(x.float()),), (images(x.float()),))


def test_vmap_runs_the_layers_as_they_are():
    parts, whole = both("two layers", 6)
    x = torch.stack([spikes(), spikes(seed=1)])
    assert_equal((torch.vmap(parts)(x),), (torch.stack([whole(one) for one in x]),))


def test_the_last_part_is_not_computed_again():
    net, _ = both("two layers", 6)
    lengths = []
    net[0].register_forward_pre_hook(lambda _, inputs: lengths.append(len(inputs[0])))
    net(spikes().requires_grad_()).sum().backward()
    assert lengths == [5] * 7
