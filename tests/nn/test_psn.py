"""Parallel spiking neurons: by hand, causality, gradients of the plain equation, comparison with SpikingJelly."""

import pytest
import torch

from snnfast.nn import PSN, SlidingPSN


def test_worked_by_hand():
    layer = PSN(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0, 2], [0.5, 1, 0], [0, 0.25, 1]]))
        layer.bias.copy_(torch.tensor([1.0, 1.5, 1.0]))
    x = torch.tensor([[0.0, 1], [1.0, 1], [0.5, 0.5]]).view(3, 1, 2)
    # h = 0 + 2/2, 1 + 2/2; 0 + 1, 1/2 + 1; 1/4 + 1/2 twice
    assert layer(x).view(3, 2).tolist() == [[1, 1], [0, 1], [0, 0]]
    sliding = SlidingPSN(2)
    assert sliding.weight.tolist() == [0.5, 1]
    assert sliding(torch.tensor([0.9, 0.6, 0.0, 1.0]).view(4, 1)).flatten().tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("order", [1, 3, 6, 9])
def test_masked_and_sliding_see_only_so_many_steps_before(order):
    torch.manual_seed(0)
    x = torch.randn(6, 2, 5, dtype=torch.float64)
    masked, sliding = PSN(6, order=order).double(), SlidingPSN(order).double()
    with torch.no_grad():
        sliding.weight.normal_()
        band = torch.zeros(6, 6, dtype=torch.float64)
        for t in range(6):
            for back in range(min(order, t + 1)):
                band[t, t - back] = sliding.weight[order - 1 - back]
        masked.weight.copy_(band + 7 * torch.ones(6, 6).triu(1) + 7 * torch.ones(6, 6).tril(-order))
        masked.bias.fill_(0.4)
        sliding.bias.fill_(0.4)
    wanted = torch.einsum("ti,ibn->tbn", band, x) - 0.4
    grads = {}
    for layer in (masked, sliding):
        x.grad = None
        got = layer(x.requires_grad_())
        torch.testing.assert_close(got, (wanted >= 0).to(x), rtol=0, atol=0)
        got.square().sum().backward()
        grads[layer] = x.grad.clone()
    torch.testing.assert_close(grads[masked], grads[sliding], rtol=1e-12, atol=1e-12)
    assert grads[masked].any()
    for back in range(min(order, 6)):  # the gradient of a shared tap is the sum of those of separate taps
        tap = masked.weight.grad.diagonal(-back).sum()
        torch.testing.assert_close(sliding.weight.grad[order - 1 - back], tap, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(sliding.bias.grad, masked.bias.grad.sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["PSN", "MaskedPSN", "SlidingPSN"])
def test_equals_spikingjelly(kind):
    theirs = pytest.importorskip("spikingjelly.activation_based.neuron")
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4)
    if kind == "SlidingPSN":
        node, ours = theirs.SlidingPSN(k=3, step_mode="m"), SlidingPSN(3)
    elif kind == "MaskedPSN":
        node, ours = theirs.MaskedPSN(k=2, T=6, lambda_init=1.0, step_mode="m"), PSN(6, order=2)
    else:
        node, ours = theirs.PSN(T=6), PSN(6)
    with torch.no_grad():
        node.bias.copy_(torch.randn_like(node.bias))
        ours.weight.copy_(node.weight)
        ours.bias.copy_(-node.bias.view_as(ours.bias))
    torch.testing.assert_close(ours(x), node(x), rtol=0, atol=0)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"PSN: x must have 4 steps, .*SlidingPSN takes any number"):
        PSN(4)(torch.rand(3, 2))
    with pytest.raises(ValueError, match="PSN: order must be at least 1"):
        PSN(4, order=0)
    with pytest.raises(TypeError, match="SlidingPSN: order must be an integer"):
        SlidingPSN(2.5)
    with pytest.raises(ValueError, match="name must be one of"):
        PSN(4, surrogate="Atan")
