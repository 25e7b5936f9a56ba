"""The network of Diehl and Cook 2015: values of its presets, and the preset of the paper."""

import pytest
import torch
from diehl_cook2015_cases import CURRENT_BASED, assert_exact, assert_same, lively, rates, spikes

from snnfast import plasticity
from snnfast.model import DiehlAndCook2015
from snnfast_zoo.papers.diehl_cook2015.settings import PRESETS, RULES, change, preset


def test_presets_hold_their_sources_numbers():
    n3ml = preset("n3ml", 400)
    assert n3ml.rule == plasticity.pair(1e-10, 1e-3)
    assert n3ml.norm * 784 == pytest.approx(78.4)
    assert n3ml.keywords() == {
        "synapses": "current",
        "dt": 1.0,
        "tau": 100.0,
        "v_threshold": -52 + 65,
        "v_reset": -60 + 65,
        "refractory": 5.0,
        "inhibition": 120.0,
        "inhibition_delay": 2,
        "one_winner": False,
        "theta_plus": 0.05,
        "tau_theta": None,
    }
    manual = preset("manual", 400).rule
    assert (manual.kind, manual.lr_pre, manual.mu) == ("power", 0, 0.2)
    growth = {n: preset("tuned", n).neurons.theta_plus for n in (100, 400, 1600)}
    assert growth == pytest.approx({100: 0.0125, 400: 0.05, 1600: 0.2})
    assert preset("tuned", 400, presentations=60_000).neurons.theta_plus == pytest.approx(0.1)
    assert set(PRESETS) == {*CURRENT_BASED, "paper"}


def test_the_papers_preset_is_that_of_the_authors_program():
    paper = preset("paper", 400)
    assert paper.rule == plasticity.triplet(1e-4, 1e-2)
    assert (paper.norm * 784, paper.theta_init, paper.min_spikes) == (78, 20, 5)
    # A pixel of 255 fires with 255 / 8 Hz times an intensity of 2, 3, 4 ...
    assert paper.intensity == 255 / 8 * 2
    assert paper.intensity * (1 + paper.boost) == 255 / 8 * 3
    assert (paper.num_steps, paper.neurons.rest, paper.neurons.dt) == (700, 150, 0.5)
    assert (paper.neurons.tau_theta, paper.neurons.theta_plus) == (1e7, 0.05)
    # The same rate per image if fewer neurons share the spikes.
    assert preset("paper", 100).neurons.theta_plus == 0.0125
    model = DiehlAndCook2015(5, 50, "paper")
    assert model.exc.theta.tolist() == [20] * 5
    assert model.exc.theta.dtype == torch.float64
    assert (model.xe.delays.min(), model.xe.delays.max()) == (0, 20)
    assert set(model.state_dict()) == {"xe.w", "xe.delays", "exc.theta"}


def paper(**changes):
    torch.manual_seed(2)
    small = {"theta_init": 5.0, "norm": 0.5, "rest": 0.0, "duration": 60, "theta_plus": 0.3}
    return DiehlAndCook2015(6, (5, 4), "paper", dtype=torch.float64, **{**small, **changes})


def test_paper_step_by_step_and_in_one_call():
    first, second = paper(), paper()
    result = first.present(spikes(2), return_spikes=True)
    for p in range(2):
        second.normalize()
        second.init_param()
        for t, s in enumerate(spikes(2)[p]):
            second.run({"inp": s})
            second.update()
            assert_exact(second.exc.s, result.spikes[p, t])
        assert second.exc.v.max() < 0
        assert second.inp.x.shape == (20,)
    assert result.counts.sum() > 10
    assert_same(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_weak_images_are_presented_again_with_higher_rates(training):
    first, second = (paper(min_spikes=n, theta_init=10.0, duration=40).train(training) for n in (4, 0))
    hz = torch.stack([torch.zeros(5, 4), torch.full((5, 4), 40.0), torch.full((5, 4), 600.0)])
    seeds = torch.tensor([3, 5, 7])
    result = first.present(hz, seeds=seeds, return_spikes=True)
    assert_exact(result.counts, result.spikes.sum(1, dtype=torch.int32))
    assert result.counts[0].sum() == 0
    times = []
    for p in range(3):
        for k in range(20):
            counts = second.present(hz[p] * (1 + k / 2), seeds=seeds[p : p + 1] + k).counts
            if counts.sum() >= 4 or p == 0:
                break
        times.append(k)
        assert_exact(counts[0], result.counts[p])
    assert times[1] > times[2]
    assert_same(first.state_dict(), second.state_dict())
    assert first.present(hz[:0]).counts.shape == (0, 6)


def test_rates_are_not_raised_beyond_a_spike_a_step():
    model = paper(min_spikes=10_000, duration=5).eval()
    assert model.present(torch.full((5, 4), 700.0)).counts.shape == (1, 6)


def test_every_setting_can_be_changed_by_its_name():
    settings = change(preset("tuned", 100), lr=0.5, inhibition=60.0, norm=0.2, duration=100, lr_pre=0.1)
    assert settings.rule.lr_post_triplet == 0.5
    assert settings.rule.lr_pre == 0.1
    assert settings.neurons.inhibition == 60
    assert (settings.norm, settings.num_steps) == (0.2, 100)
    for name, rule in RULES.items():
        changed = change(settings, rule=name, lr=0.25).rule
        assert 0.25 in (changed.lr_post, changed.lr_post_triplet)
        assert changed.kind == rule().kind


def test_thresholds_of_conductances_stay_float64():
    model = paper().to(torch.float32)
    assert (model.xe.w.dtype, model.exc.theta.dtype) == (torch.float32, torch.float64)
    assert_exact(model.exc.theta, paper().exc.theta)
    model.present(rates())
    assert lively().to(torch.float32).exc.theta.dtype == torch.float32
