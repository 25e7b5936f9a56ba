"""The network of Diehl and Cook: worked by hand, and against a network with explicit inhibitory neurons."""

import math

import pytest
import torch
from backends import PRESENT, force
from samples import assert_equal

from snnfast import ops, plasticity


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_by_hand(name):
    """Two neurons, one input each; potentials decay to exactly 1/2 in a step."""
    dt = 1.0
    tau = -1 / math.log(0.5)
    with force(name) as on:
        w = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=on.device)
        theta = torch.tensor([0.0, 0.25], dtype=torch.float64, device=on.device)
        spikes = torch.tensor([[[1, 1], [1, 1], [0, 1], [0, 0], [0, 0]]], device=on.device).bool()
        result = ops.diehl_cook_(
            spikes,
            w,
            theta,
            dt=dt,
            tau=tau,
            v_threshold=1.4,
            v_reset=-0.5,
            refractory=1.0,
            inhibition=0.25,
            inhibition_delay=0,
            theta_plus=0.5,
            rule=plasticity.pair(0.125, 0.25, tau_pre=tau, tau_post=tau),
            return_spikes=True,
            return_state=True,
        )
        # v before the spike: neuron 0: 0, 1, 1.5* ; neuron 1: 0, 1, 1.5 < 1.65, then 1.25 / 2 + 1 = 1.625 < 1.65 ...
        assert result.spikes[0].nonzero().tolist() == [[2, 0]]
        assert theta.tolist() == [0.5, 0.25]
        # Traces of the inputs at step 2: 1/2 and 1. Weight 0 is clipped; input 1 spikes when x_post is 1: 0.25 - 0.125.
        assert w[0].tolist() == [1.0, 0.125]
        assert w[1].tolist() == [0.0, 1.0]
        # Neuron 0 after its spike: -0.5, -0.25, -0.125. Neuron 1: 1.25 (inhibited), 1.625, 0.8125.
        assert result.state.v.tolist() == [-0.125, 0.8125]
        assert result.state.refractory.tolist() == [0, 0]
        assert result.state.trace_pre.tolist() == [0.125, 0.25]
        assert result.state.trace_post.tolist() == [0.25, 0.0]


def explicit_network(spikes, w, exc, inh, steps):
    """Run n3ml's populations step by step: a connection takes a step, and each neuron has an inhibitory partner."""
    n = w.shape[0]
    v, refractory, theta, s = (
        torch.full((n,), -65.0, dtype=w.dtype),
        torch.zeros(n),
        torch.zeros(n, dtype=w.dtype),
        torch.zeros(n, dtype=w.dtype),
    )
    v_i, refractory_i, s_i = (torch.full((n,), -60.0, dtype=w.dtype), torch.zeros(n), torch.zeros(n, dtype=w.dtype))
    s_in, raster = torch.zeros(w.shape[1], dtype=w.dtype), []
    decay, decay_i = math.exp(-1 / 100), math.exp(-1 / 10)
    for t in range(steps):
        drive = w @ s_in - exc * (s_i.sum() - s_i)
        drive_i = inh * s
        s_in = spikes[t].to(w.dtype)
        v = -65 + (v + 65) * decay + (refractory <= 0) * drive
        refractory = refractory - 1
        s = (v >= -52 + theta).to(w.dtype)
        theta = theta + 0.05 * s
        v[s > 0], refractory[s > 0] = -60.0, 5.0
        v_i = -60 + (v_i + 60) * decay_i + (refractory_i <= 0) * drive_i
        refractory_i = refractory_i - 1
        s_i = (v_i >= -40).to(w.dtype)
        v_i[s_i > 0], refractory_i[s_i > 0] = -45.0, 2.0
        raster.append(s.bool())
    return torch.stack(raster), theta


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_direct_inhibition_is_that_of_inhibitory_partners(name):
    """With n3ml's constants, networks with and without inhibitory neurons have the same spikes."""
    generator = torch.Generator().manual_seed(3)
    w = torch.rand(30, 100, generator=generator, dtype=torch.float64) * 0.3
    spikes = torch.rand(1, 250, 100, generator=generator) < 0.05
    raster, theta = explicit_network(spikes[0], w, 120.0, 22.5, 250)
    with force(name) as on:
        adaptive = torch.zeros(30, dtype=torch.float64, device=on.device)
        result = ops.diehl_cook_(spikes.to(on.device), w.to(on.device), adaptive, return_spikes=True)
    assert raster.sum() > 10
    assert_equal(result.spikes[0].cpu(), raster)
    torch.testing.assert_close(adaptive.cpu(), theta, rtol=0, atol=1e-12)
