"""``ILIF``: integer spikes and a gradient worked out by hand, and SpikingJelly's neuron."""

import copy

import pytest
import torch
from torch import nn

from snnfast import backend
from snnfast.nn import ILIF, Rate, Time, like, reset

BACKENDS = ("cpu", "reference")


def exactly(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chosen", BACKENDS)
def test_a_single_step_rounds_and_clamps_and_passes_the_gradient_straight_through(chosen, dtype):
    """Half rounds to even; the ends of the range have a gradient, too."""
    values = [-3.0, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 3.0, 3.5, 4.0, 4.25, 9.0]
    x = torch.tensor(values, dtype=dtype).view(1, 1, -1).requires_grad_()
    with backend.use(chosen):
        y = ILIF(4)(x)
        y.backward(torch.full_like(y, 2.0))
    wanted = [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4]
    exactly(y.detach(), torch.tensor(wanted, dtype=dtype).view_as(y))
    exactly(y.detach(), x.detach().clamp(0, 4).round())
    exactly(x.grad, torch.tensor([0, 0, *[2] * 10, 0, 0], dtype=dtype).view_as(y))


@pytest.mark.parametrize("chosen", BACKENDS)
def test_two_steps_by_hand(chosen):
    """v_threshold = 2, decay = 1/2, at most 3 spikes.

    ===== ===== ======== ====== ===== =====
    step  x     h        h / 2  s     v
    ===== ===== ======== ====== ===== =====
    0     5     5        2.5    2     1
    1     3     3.5      1.75   2     -0.5
    ===== ===== ======== ====== ===== =====

    ds/dh = 1/2 at both. dv[0]/dh[0] = 1 - 2/2 = 0, so s[1] does not depend on x[0]: with a gradient of 1 for s[0] and
    10 for s[1] those of x are 1/2 and 5. With a detached reset dv[0]/dh[0] = 1, so x[0] has 1/2 + 10 1/2 1/2 = 3.
    """
    for detach, wanted in ((False, [0.5, 5.0]), (True, [3.0, 5.0])):
        x = torch.tensor([5.0, 3.0], dtype=torch.float64).view(2, 1, 1).requires_grad_()
        layer = ILIF(3, decay=0.5, v_threshold=2.0, detach_reset=detach, stateful=True, return_v_seq=True)
        with backend.use(chosen):
            spikes, v = layer(x)
            (spikes.flatten() @ torch.tensor([1.0, 10.0], dtype=torch.float64)).backward()
        assert spikes.flatten().tolist() == [2, 2]
        assert v.flatten().tolist() == [1, -0.5]
        assert x.grad.flatten().tolist() == wanted
        assert layer.v.item() == -0.5


def test_a_learned_threshold_has_its_gradient_by_hand():
    """At h = 2.6 and a threshold of 1: u = h/threshold, so ds/dthreshold = -h, and s = 3."""
    threshold = nn.Parameter(torch.ones((), dtype=torch.float64))
    layer = ILIF(4, v_threshold=threshold)
    y = layer(torch.full((1, 1, 1), 2.6, dtype=torch.float64))
    y.sum().backward()
    assert y.item() == 3
    assert threshold.grad.item() == pytest.approx(-2.6, rel=1e-12)


def test_it_is_spikingjellys_neuron():
    x = (3 * torch.randn(5, 4, 7, generator=torch.Generator().manual_seed(0))).requires_grad_()
    results = []
    for layer in (
        ILIF(3, decay=0.5, v_threshold=0.7),
        like("spikingjelly.ILIFNode", tau=2.0, v_threshold=0.7, max_spike_count=3),
    ):
        y = layer(x)
        (grad,) = torch.autograd.grad(y.square().sum(), x)
        results.append((y.detach(), grad))
    for a, b in zip(*results):
        exactly(a, b)
    assert {0.0, 1.0, 2.0, 3.0} == set(results[0][0].unique().tolist())


def test_a_network_learns_with_it_and_keeps_its_state():
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(8, 32)), ILIF(4), Time(nn.Linear(32, 4)), Rate())
    x, labels = torch.randn(1, 64, 8), torch.randint(0, 4, (64,))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    layer = ILIF(stateful=True)
    sequence = 3 * torch.rand(6, 2, 5)
    exactly(torch.cat([layer(part) for part in sequence.split(2)]), ILIF()(sequence))
    reset(layer)
    exactly(layer.step(sequence[0]), ILIF()(sequence)[0])
    assert copy.deepcopy(layer).most == 4
    assert repr(ILIF(2, stateful=True)) == "ILIF(most=2, decay=0.25, v_threshold=1.0, stateful=True)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"most": 0}, "ILIF: most must be at least 1, got 0"),
        ({"most": 2.5}, "ILIF: most must be an integer"),
        ({"decay": "a"}, "ILIF: decay must be a number, got str"),
        ({"v_threshold": None}, "v_threshold"),
        ({"stateful": 1}, "ILIF: stateful must be"),
        ({"surrogate": "atan"}, "surrogate"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ILIF(**arguments)(torch.zeros(1, 1, 1))
