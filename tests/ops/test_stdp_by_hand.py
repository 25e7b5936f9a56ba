"""Plasticity of a dense layer: worked by hand."""

import math

import pytest
import torch

from snnfast import ops, plasticity


def one_synapse(rule, pre, post, device, w=0.5, **arguments):
    """Return the weight after every step of spike trains like "..|.", in float64."""
    weight = torch.tensor([[w]], dtype=torch.float64, device=device)
    trains = [torch.tensor([c == "|" for c in s], device=device)[:, None, None] for s in (pre, post)]
    state, weights = None, []
    for s_pre, s_post in zip(*trains, strict=True):
        state = ops.stdp_(weight, s_pre[None], s_post[None], rule=rule, state=state, **arguments)
        weights.append(weight.item())
    return weights


def decay(steps, tau=20.0):
    return math.exp(-steps / tau)


class TestWorkedByHand:
    def test_pre_before_post_strengthens(self, backend):
        rule = plasticity.pair(0.1, 0.2)
        weights = one_synapse(rule, "|....", "...|.", backend.device)
        assert weights == pytest.approx([0.5] * 3 + [0.5 + 0.2 * decay(3)] * 2, abs=1e-15)

    def test_post_before_pre_weakens(self, backend):
        rule = plasticity.pair(0.1, 0.2, tau_post=5.0)
        weights = one_synapse(rule, "..|.", "|...", backend.device)
        assert weights == pytest.approx([0.5] * 2 + [0.5 - 0.1 * decay(2, 5.0)] * 2, abs=1e-15)

    def test_spikes_of_one_step_pair_both_ways(self, backend):
        assert one_synapse(plasticity.pair(0.1, 0.3), "|", "|", backend.device) == pytest.approx([0.7])

    def test_nearest_and_all_spikes(self, backend):
        for trace, x in (("nearest", decay(1)), ("all", decay(1) + decay(3))):
            rule = plasticity.pair(0.0, 0.1, trace=trace)
            weights = one_synapse(rule, "|.|.", "...|", backend.device)
            assert weights[-1] == pytest.approx(0.5 + 0.1 * x, abs=1e-15)

    def test_soft_bounds(self, backend):
        rule = plasticity.soft_bounds(0.1, 0.2, w_min=0.1, w_max=0.8)
        up = one_synapse(rule, "|.", ".|", backend.device)[-1]
        down = one_synapse(rule, ".|", "|.", backend.device)[-1]
        assert up == pytest.approx(0.5 + 0.2 * decay(1) * 0.3, abs=1e-15)
        assert down == pytest.approx(0.5 - 0.1 * decay(1) * 0.4, abs=1e-15)

    def test_power_law(self, backend):
        rule = plasticity.power_law(0.1, x_tar=0.4, mu=0.2)
        weights = one_synapse(rule, ".|", "||", backend.device)
        first = 0.5 + 0.1 * (0 - 0.4) * 0.5**0.2
        second = first + 0.1 * (1 - 0.4) * (1 - first) ** 0.2
        assert weights == pytest.approx([first, second], abs=1e-15)

    def test_exponential(self, backend):
        rule = plasticity.exponential(0.1, x_tar=0.4, beta=2.0)
        expected = 0.3 + 0.1 * (decay(1) * math.exp(-0.6) - 0.4 * math.exp(-1.4))
        actual = one_synapse(rule, "|.", ".|", backend.device, w=0.3)[-1]
        assert actual == pytest.approx(expected, abs=1e-15)

    def test_pre_post(self, backend):
        rule = plasticity.pre_post(0.1, 0.2, x_tar=0.4, mu=0.5)
        weights = one_synapse(rule, ".|", "|.", backend.device)
        first = 0.5 - 0.2 * 0.4 * 0.5**0.5
        assert weights == pytest.approx([first, first - 0.1 * decay(1) * first**0.5], abs=1e-15)

    def test_triplet(self, backend):
        rule = plasticity.triplet(0.01, 0.1, lr_pre_triplet=0.02, lr_post_pair=0.03)
        weights = one_synapse(rule, "|..|", ".|.|", backend.device)
        second = 0.5 + decay(1) * 0.03
        grown = 1 * (0.03 + 0.1 * decay(2, 40))
        lost = 1 * (0.01 + 0.02 * decay(3, 40))
        assert weights == pytest.approx([0.5, second, second, second + grown - lost], abs=1e-15)

    def test_first_spike_of_the_papers_triplet_strengthens_nothing(self, backend):
        assert one_synapse(plasticity.triplet(), "|.", ".|", backend.device) == [0.5, 0.5]

    def test_bounds_hold(self, backend):
        rule = plasticity.pair(2.0, 3.0, w_min=-1.0, w_max=2.0)
        assert one_synapse(rule, "|.", ".|", backend.device)[-1] == 2
        assert one_synapse(rule, ".|", "|.", backend.device)[-1] == -1

    def test_batch_is_summed_or_averaged(self, backend):
        for reduction, share in (("sum", 1.0), ("mean", 0.25)):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            pre, post = torch.ones((2, 1, 4, 1), dtype=torch.bool, device=backend.device)
            post[0, 2:] = False
            ops.stdp_(w, pre, post, rule=plasticity.pair(0.01, 0.1), reduction=reduction)
            # Two samples pair in both directions; the other two have no postsynaptic trace.
            assert w.item() == pytest.approx(0.5 + share * 2 * (0.1 - 0.01), abs=1e-15)

    def test_sequence_adds_up_before_it_clamps(self, backend):
        trains = torch.tensor([[[True]], [[True]]], device=backend.device)
        rule = plasticity.pair(1.0, 3.0, tau_pre=1e9, tau_post=1e9, w_max=10.0)
        for update, expected in (("step", 4.5), ("sequence", 4.5)):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            ops.stdp_(w, trains, trains, rule=rule, update=update)
            assert w.item() == pytest.approx(expected)
        rule = plasticity.soft_bounds(0.0, 0.5, tau_pre=1e9, trace="nearest")
        for update, expected in (("step", 0.875), ("sequence", 1.0)):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            ops.stdp_(w, trains, trains, rule=rule, update=update)
            assert w.item() == pytest.approx(expected)

    def test_reward_meets_eligibility(self, backend):
        rule = plasticity.reward_modulated(plasticity.pair(0.0, 0.1), tau_eligibility=5.0)
        w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
        pre, post = torch.zeros((2, 6, 1, 1), device=backend.device)
        pre[0] = post[1] = 1
        reward = torch.tensor([9.0, 0, 0, 2.0, 0, -1.0], dtype=torch.float64, device=backend.device)
        state = ops.stdp_(w, pre, post, rule=rule, reward=reward)
        e = [0.1 * decay(1) * decay(t - 1, 5.0) for t in range(6)]
        assert w.item() == pytest.approx(0.5 + 2 * e[3] - e[5], abs=1e-15)
        assert state.eligibility.item() == pytest.approx(e[5], abs=1e-15)

    def test_norm_scales_every_row_after_the_last_step(self, backend):
        w = torch.tensor([[1.0, 3.0], [0, 0], [0.5, 0.5]], device=backend.device)
        none = torch.zeros((1, 1, 3), device=backend.device)
        ops.stdp_(w, none[..., :2], none, rule=plasticity.pair(w_max=3.5), norm=2.0)
        assert w.tolist() == [[0.5, 1.5], [0, 0], [1, 1]]
        ops.stdp_(w, none[..., :2], none, rule=plasticity.pair(w_max=1.5), norm=3.0)
        assert w.tolist() == [[0.75, 1.5], [0, 0], [1.5, 1.5]]
