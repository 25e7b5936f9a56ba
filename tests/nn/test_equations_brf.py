"""Balanced resonators: the property that gave their name, a run by hand, and a network of them."""

import math

import pytest
import torch

from snnfast import surrogate
from snnfast.nn.equations import brf
from snnfast_zoo.papers.sequence.model import SequenceNetwork


@pytest.mark.parametrize("omega", [3.0, 20.0, 90.0])
def test_without_an_offset_the_magnitude_stays(omega):
    """On the divergence boundary (Higuchi et al. 2024, equation 8) every step has a factor of magnitude 1."""
    x, start = torch.zeros(1000, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    settings = {"omega": omega, "v_threshold": 9.0, "return_state": True}
    *_, u, w, q = brf(x, start, 0 * start, 0 * start, b_offset=0.0, **settings)
    assert math.hypot(u.item(), w.item()) == pytest.approx(1.0, abs=1e-9)
    assert q.item() == 0
    *_, u, w, _ = brf(x[:100], start, 0 * start, 0 * start, b_offset=1.0, **settings)
    assert math.hypot(u.item(), w.item()) < 0.7  # 100 steps of 0.01


def test_by_hand():
    """omega 60 and dt 0.01: sqrt(1 - 0.36) is 0.8, so b = -20 - 1 - q, and 1 + dt b = 0.79 - dt q."""
    x = torch.tensor([[100.0], [100.0], [0.0]]).double().requires_grad_()
    s, u, w, q = brf(x, omega=60.0, b_offset=1.0, v_threshold=1.0, return_state=True, surrogate=surrogate.atan())
    u1, q1 = 1.0, 1.0  # fires
    u2, w2, q2 = u1 + 0.01 * (-22 * u1) + 1.0, 0.01 * 60 * u1, 0.9 * q1  # 1.78, below 1 + 1
    u3, w3 = u2 + 0.01 * (-21.9 * u2 - 60 * w2), w2 + 0.01 * (60 * u2 - 21.9 * w2)
    assert s.flatten().tolist() == [1.0, 0.0, 0.0]
    assert [v.item() for v in (u, w, q)] == pytest.approx([u3, w3, 0.9 * q2], abs=1e-12)
    s.sum().backward()
    assert (x.grad != 0).all()


def test_a_network_of_them_learns_frequencies_and_damping():
    torch.manual_seed(0)
    net = SequenceNetwork(3, (8,), 2, neuron="brf", omega=(5.0, 8.0))
    learned = dict(net.named_parameters())
    for name, least, most in (("omega", 5.0, 8.0), ("b_offset", 0.1, 1.0)):
        value = learned[f"layers.1.neuron.{name}"]
        assert value.shape == (8,)
        assert ((value >= least) & (value <= most)).all()
    net(20 * torch.rand(4, 100, 3)).sum().backward()
    assert learned["layers.1.neuron.omega"].grad.abs().sum() > 0
    assert learned["layers.1.weight"].grad.abs().sum() > 0
