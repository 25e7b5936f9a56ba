"""The network of Diehl and Cook 2015."""

import copy

import pytest
import torch

from snnfast import ops, plasticity
from snnfast.model import DiehlAndCook2015
from snnfast.model.diehl_cook2015_settings import PRESETS, RULES, change, preset
from snnfast.ops import Events, Rates

CURRENT_BASED = ["manual", "n3ml", "tuned"]


def lively(preset="manual", dtype=torch.float64, **changes):
    """A small network that spikes a lot, and learns fast enough to see it."""
    torch.manual_seed(2)
    return DiehlAndCook2015(
        6,
        (5, 4),
        preset,
        dtype=dtype,
        **{
            "norm": 0.3,
            "v_threshold": 3.0,
            "v_reset": 0.0,
            "inhibition": 0.5,
            "theta_plus": 0.3,
            "lr": 0.02,
            "duration": 60,
            **changes,
        },
    )


def rates(P=3):
    return torch.rand(P, 5, 4, generator=torch.Generator().manual_seed(1)) * 300


def spikes(P=3, T=60):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(P, T, 5, 4, generator=generator) < 0.15


def step_by_step(model, trains):
    counts = torch.zeros(len(trains), model.neurons, dtype=torch.int32)
    for p, train in enumerate(trains):
        model.init_param()
        for s in train:
            model.run({"inp": s})
            model.update()
            counts[p] += model.exc.s
        model.normalize()
    return counts


def assert_exact(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def assert_same(a, b):
    assert_exact(dict(a), dict(b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CURRENT_BASED)
def test_the_manuals_calls_and_present_give_the_same_weights(name, dtype):
    one, two = lively(name, dtype), lively(name, dtype)
    before = one.state_dict()["xe.w"].clone()
    fast = one.present(spikes(), return_spikes=True)
    slow = step_by_step(two, spikes())
    assert_exact(fast.counts, slow)
    assert_exact(fast.counts, fast.spikes.sum(1, dtype=torch.int32))
    assert (slow.sum(0) > 0).sum() >= 3
    assert_same(one.state_dict(), two.state_dict())
    assert (one.xe.w != before).any()
    assert (one.exc.theta > 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool, torch.int64, torch.half])
def test_run_takes_spikes_of_any_dtype_and_shape(dtype):
    one, two = lively(), lively()
    step_by_step(one, spikes(1))
    step_by_step(two, spikes(1).flatten(2).to(dtype))
    assert_same(one.state_dict(), two.state_dict())


def test_rates_are_the_spikes_of_the_poisson_op():
    one, two, three = lively(), lively(), lively()
    seeds = torch.tensor([5, 6, 7])
    hz = rates()
    trains = torch.stack(
        [ops.poisson(r * (1 / 1000), 60, seed=int(s), dtype=torch.bool) for r, s in zip(hz, seeds)]
    )
    counts = one.present(hz, seeds=seeds).counts
    assert_exact(counts, two.present(trains).counts)
    assert_exact(counts, three.present(Rates(hz.flatten(1), 60, seeds)).counts)
    assert_same(one.state_dict(), two.state_dict())
    assert_same(one.state_dict(), three.state_dict())


def test_one_image_and_one_spike_train_need_no_batch():
    one, two = lively(), lively()
    seeds = torch.tensor([5])
    assert_exact(
        one.present(rates(1)[0], seeds=seeds).counts,
        two.present(rates(1)[0].flatten(), seeds=seeds).counts,
    )
    assert one.present(spikes(1)[0]).counts.shape == (1, 6)
    assert one.present(rates(0)).counts.shape == (0, 6)


def test_events_are_spikes():
    one, two = lively(), lively()
    trains = spikes(2).flatten(2)
    events = Events(
        trains.nonzero()[:, 2].int(),
        torch.stack(
            [
                torch.cat([torch.zeros(1, dtype=torch.int64), trains[p].sum(1).cumsum(0)])
                + trains[:p].sum()
                for p in range(2)
            ]
        ),
    )
    assert_exact(one.present(events).counts, two.present(trains).counts)
    assert_same(one.state_dict(), two.state_dict())


def test_seeds_come_from_the_global_generator():
    one, two = lively(), lively()
    torch.manual_seed(3)
    one.present(rates())
    torch.manual_seed(3)
    two.present(rates())
    assert_same(one.state_dict(), two.state_dict())
    two.present(rates())
    assert (one.xe.w != two.xe.w).any()


def test_images_in_one_call_or_in_many_are_the_same():
    one, two = lively(), lively()
    one.present(spikes(3))
    for train in spikes(3):
        two.present(train)
    assert_same(one.state_dict(), two.state_dict())


def test_evaluation_mode_changes_nothing():
    model = lively(tau_theta=1e3)
    model.present(spikes())
    model.eval()
    before = copy.deepcopy(model.state_dict())
    first = model.present(spikes()).counts
    assert_exact(first, step_by_step(model, spikes()))
    assert first.sum() > 0
    assert_same(model.state_dict(), before)


def test_respond_walks_over_a_loader_and_learns_nothing():
    data = torch.utils.data.TensorDataset(rates(6), torch.arange(6) % 3)
    model = lively()
    before = copy.deepcopy(model.state_dict())
    counts, labels = model.respond(torch.utils.data.DataLoader(data, batch_size=4))
    assert counts.shape == (6, 6)
    assert counts.sum() > 0
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert model.training
    assert_same(model.state_dict(), before)
    with pytest.raises(ValueError, match=r"needs batches \(images, labels\), got a Tensor"):
        model.respond([rates(2)])


def test_fit_presents_every_batch_and_lowers_the_learning_rate():
    one, two = lively(lr_final=0.25), lively(lr_final=0.25)
    batches = [(rates(4)[:2], None), rates(4)[2:]]
    torch.manual_seed(0)
    assert one.fit(batches, epochs=2) is one
    torch.manual_seed(0)
    for k in range(4):
        two.set_progress(k / 4)
        two.present(rates(4)[:2] if k % 2 == 0 else rates(4)[2:])
    assert_same(one.state_dict(), two.state_dict())
    assert two.rule.lr_post == pytest.approx(0.02 * 0.25**0.75)


def test_weights_follow_the_manuals_rule_by_hand():
    """One input, one neuron: it spikes at step 2, when the trace of the spike at step 0 has decayed twice."""
    model = DiehlAndCook2015(1, 1, lr=0.5, x_tar=0.25, mu=0.5, v_threshold=0.1, dtype=torch.float64)
    model.xe.w.fill_(0.2)
    for t in range(2):
        model.init_param() if t == 0 else None
        model.run({"inp": torch.tensor([t == 0])})
        model.update()
    decay = torch.tensor(-1 / 20, dtype=torch.float64).exp()
    assert model.exc.s.tolist() == [True]
    expected = 0.2 + 0.5 * (decay - 0.25) * 0.8**0.5
    torch.testing.assert_close(model.xe.w[0, 0], expected)
    model.normalize()
    torch.testing.assert_close(model.xe.w[0, 0].item(), 0.1)


def test_normalize_leaves_neurons_alone_that_were_not_plastic():
    model = lively()
    before = model.xe.w.clone()
    model.init_param()
    silent = torch.zeros(5, 4)
    model.run({"inp": silent})
    model.update()
    model.normalize()
    assert_exact(model.xe.w, before)
    step_by_step(model, spikes(1))
    changed = (model.xe.w != before).any(1)
    assert changed.any()
    torch.testing.assert_close(
        model.xe.w[changed].sum(1), torch.full_like(before[changed].sum(1), 6.0)
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_neuron_has_the_same_sum_of_weights_from_the_beginning(preset, dtype):
    """Those, too, that have not learned yet: a larger sum would favour them."""
    model = DiehlAndCook2015(40, (8, 9), preset, dtype=dtype, duration=60)
    sums = torch.full((40,), model.norm, dtype=dtype)
    torch.testing.assert_close(model.xe.w.sum(1), sums)
    counts = model.present(
        torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0)) * 300
    ).counts
    if preset != "paper":  # whose neurons learn before they spike
        assert 0 < (counts.sum(0) > 0).sum() < 40
    model.normalize()
    torch.testing.assert_close(model.xe.w.sum(1), sums)
    model.xe.reset_parameters()
    torch.testing.assert_close(model.xe.w.sum(1), sums)


@pytest.mark.parametrize("stepwise", [False, True])
def test_a_backward_pass_through_weights_that_have_changed_is_refused(stepwise):
    model = lively()
    factor = torch.ones_like(model.xe.w, requires_grad=True)
    loss = (factor * model.xe.w).sum()
    if stepwise:
        step_by_step(model, spikes(1))
    else:
        model.present(spikes(1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parts_show_the_last_step():
    model = lively()
    assert model.exc.v.tolist() == [-65] * 6
    assert not model.exc.s.any()
    assert not model.inp.s.any()
    assert model.inp.x.tolist() == [0] * 20
    for s in spikes(1)[0]:
        model.run({"inp": s})
        model.update()
        assert_exact(model.inp.s, s.flatten())
        assert (model.inp.x[model.inp.s] == 1).all()
        assert (model.exc.v[model.exc.s] == -65).all()
        assert (model.exc.x[model.exc.s] == 1).all()
    assert model.exc.theta.sum() > 0
    model.init_param()
    assert model.exc.v.tolist() == [-65] * 6


def test_weights_lie_transposed_and_keep_that():
    model = lively(dtype=torch.float32)
    assert model.xe.w.shape == (6, 20)
    for other in (model, copy.deepcopy(model), model.double()):
        assert other.xe.w.T.is_contiguous()
        assert not other.xe.w.requires_grad
    torch.manual_seed(2)
    assert_exact(lively(dtype=torch.float32).xe.w, lively(dtype=torch.float32).xe.w)


def test_state_dict_round_trip(tmp_path):
    model = lively()
    model.present(spikes())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = DiehlAndCook2015(6, 20, dtype=torch.float64)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert_same(model.state_dict(), other.state_dict())
    assert other.xe.w.T.is_contiguous()
    assert set(model.state_dict()) == {"xe.w", "exc.theta"}


def test_presets_hold_their_sources_numbers():
    n3ml = preset("n3ml", 400)
    assert n3ml.rule == plasticity.pair(1e-10, 1e-3)
    assert n3ml.norm * 784 == pytest.approx(78.4)
    assert n3ml.keywords() == {
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
    # As fast per image where fewer neurons share the spikes.
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
    one, two = paper(), paper()
    result = one.present(spikes(2), return_spikes=True)
    for p in range(2):
        two.normalize()
        two.init_param()
        for t, s in enumerate(spikes(2)[p]):
            two.run({"inp": s})
            two.update()
            assert_exact(two.exc.s, result.spikes[p, t])
        assert two.exc.v.max() < 0
        assert two.inp.x.shape == (20,)
    assert result.counts.sum() > 10
    assert_same(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_weak_images_are_presented_again_with_higher_rates(training):
    one, two = (paper(min_spikes=n, theta_init=10.0, duration=40).train(training) for n in (4, 0))
    hz = torch.stack([torch.zeros(5, 4), torch.full((5, 4), 40.0), torch.full((5, 4), 600.0)])
    seeds = torch.tensor([3, 5, 7])
    result = one.present(hz, seeds=seeds, return_spikes=True)
    assert_exact(result.counts, result.spikes.sum(1, dtype=torch.int32))
    assert result.counts[0].sum() == 0
    times = []
    for p in range(3):
        for k in range(20):
            counts = two.present(hz[p] * (1 + k / 2), seeds=seeds[p : p + 1] + k).counts
            if counts.sum() >= 4 or p == 0:
                break
        times.append(k)
        assert_exact(counts[0], result.counts[p])
    assert times[1] > times[2]
    assert_same(one.state_dict(), two.state_dict())
    assert one.present(hz[:0]).counts.shape == (0, 6)


def test_rates_are_not_raised_beyond_a_spike_a_step():
    model = paper(min_spikes=10_000, duration=5).eval()
    assert model.present(torch.full((5, 4), 700.0)).counts.shape == (1, 6)


def test_every_setting_can_be_changed_by_its_name():
    settings = change(
        preset("tuned", 100), lr=0.5, inhibition=60.0, norm=0.2, duration=100, lr_pre=0.1
    )
    assert settings.rule.lr_post_triplet == 0.5
    assert settings.rule.lr_pre == 0.1
    assert settings.neurons.inhibition == 60
    assert (settings.norm, settings.num_steps) == (0.2, 100)
    for name, rule in RULES.items():
        changed = change(settings, rule=name, lr=0.25).rule
        assert 0.25 in (changed.lr_post, changed.lr_post_triplet)
        assert changed.kind == rule().kind


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"neurons": 0}, ValueError, "neurons must be at least 1, got 0"),
        ({"neurons": 2.0}, TypeError, "neurons must be an integer, got float"),
        ({"input_shape": (28, 0)}, ValueError, "input_shape must be at least 1, got 0"),
        ({"input_shape": None}, TypeError, "input_shape must be a sequence of integers, got None"),
        (
            {"preset": "best"},
            ValueError,
            "preset must be one of manual, n3ml, .*tuned.*, got 'best'",
        ),
        ({"preset": 3}, TypeError, "preset must be a name or Settings, got int"),
        ({"rule": "hebb"}, ValueError, "rule must be one of pair, .*triplet, got 'hebb'"),
        ({"lr": -1.0}, ValueError, "lr_post must be at least 0, got -1"),
        ({"tau_pre": -1.0}, ValueError, "tau_pre must be positive"),
        ({"norm": 0.0}, ValueError, "norm must be positive, got 0"),
        ({"w_init": 1.5}, ValueError, "w_init must be at most w_max, 1, got 1.5"),
        ({"lr_final": 0.0}, ValueError, r"lr_final must lie in \(0, 1\], got 0"),
        ({"norm": 2.0}, ValueError, "norm, .*, must lie between w_min and w_max, 0 and 1, got 2"),
        ({"one_winner": "maybe"}, TypeError, "one_winner must be True or False, got 'maybe'"),
        ({"refractory": -1.0}, ValueError, "refractory must be at least 0, got -1"),
        ({"min_spikes": 0.5}, TypeError, "min_spikes must be an integer, got float"),
        ({"boost": 0.9}, ValueError, "boost needs min_spikes, got boost=0.9 and min_spikes=0"),
        (
            {"preset": "tuned", "x_tar": 0.3},
            ValueError,
            "the rule in force, triplet, has no x_tar, got 0.3",
        ),
        ({"preset": "n3ml", "mu": 0.9}, ValueError, "the rule in force, additive, has no mu"),
        ({"beta": 2.0}, ValueError, "the rule in force, power, has no beta, got 2.0"),
        ({"tau_syn": 3.0}, ValueError, "there is no setting 'tau_syn'; known: beta, boost, dt,"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DiehlAndCook2015(**arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.full((2, 5, 4), -1.0),
            ValueError,
            r"x.hz must lie in \[0, 1000\] Hz, got values from -1",
        ),
        (torch.full((2, 5, 4), torch.nan), ValueError, "x.hz must lie in .* got values from nan"),
        (
            torch.full((2, 5, 4), 1001.0),
            ValueError,
            r"x.hz must lie in \[0, 1000\] Hz, got .* to 1001",
        ),
        (
            torch.zeros(2, 5, 5),
            ValueError,
            r"must have shape \[5, 4\] or \[P, 5, 4\], got \[2, 5, 5\]",
        ),
        (torch.zeros(2, 3, 5, 4), ValueError, r"must have shape \[5, 4\] or \[P, 5, 4\]"),
        (torch.zeros(5, 4).bool(), ValueError, r"must have shape \[T, 5, 4\] or \[P, T, 5, 4\]"),
        (torch.zeros(2, 5, 4).int(), TypeError, "rates in Hz .* or spikes .*, got torch.int32"),
        (torch.full((2, 3, 20), 7).byte(), ValueError, "of uint8 must be spikes, 0 or 1, got 7"),
        (
            torch.ones(5, 4),
            ValueError,
            "must be rates in Hz, but is 0 or 1 everywhere; give spikes as",
        ),
        ([1.0], TypeError, "x must be a tensor, Events or Rates, got list"),
        (torch.ones(2, 20).to_sparse(), TypeError, "x must be a dense tensor, got torch.sparse"),
    ],
)
def test_wrong_stimuli_are_named_and_change_nothing(x, error, message):
    model = lively()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message):
        model.present(x)
    assert_same(model.state_dict(), before)


def test_wrong_arguments_of_calls_are_named():
    model = lively(lr_final=0.5)
    with pytest.raises(TypeError, match="DiehlAndCook2015: seeds must be a tensor, got list"):
        model.present(rates(), seeds=[1, 2, 3])
    with pytest.raises(TypeError, match="DiehlAndCook2015: epochs must be an integer, got float"):
        model.fit([rates()], epochs=1.5)
    with pytest.raises(TypeError, match=r"loader must have a length, since .*, got generator"):
        model.fit(rates() for _ in range(2))


def test_thresholds_of_conductances_stay_float64():
    model = paper().to(torch.float32)
    assert (model.xe.w.dtype, model.exc.theta.dtype) == (torch.float32, torch.float64)
    assert_exact(model.exc.theta, paper().exc.theta)
    model.present(rates())
    assert lively().to(torch.float32).exc.theta.dtype == torch.float32


def test_wrong_steps_are_named_and_change_nothing():
    model = lively()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"run takes {'inp': spikes}, got the names \['exc'\]"):
        model.run({"exc": torch.zeros(20)})
    with pytest.raises(TypeError, match=r"run takes {'inp': spikes}, got Tensor"):
        model.run(torch.zeros(20))
    with pytest.raises(ValueError, match=r"spikes must have shape \[20\], got \[21\]"):
        DiehlAndCook2015(3, 20).run({"inp": torch.zeros(21)})
    with pytest.raises(ValueError, match=r"spikes must have shape \[5, 4\] or \[20\], got \[21\]"):
        model.run({"inp": torch.zeros(21)})
    with pytest.raises(TypeError, match="spikes must be a tensor, got list"):
        model.run({"inp": [0] * 20})
    with pytest.raises(RuntimeError, match="learn needs a step before it"):
        model.update()
    with pytest.raises(ValueError, match=r"progress must lie in \[0, 1\], got 2"):
        model.set_progress(2)
    with pytest.raises(ValueError, match="respond needs at least one batch"):
        model.respond([])
    with pytest.raises(ValueError, match="seeds are for images in Hz, got spikes"):
        model.present(spikes(1), seeds=torch.tensor([1]))
    assert_same(model.state_dict(), before)


def test_weights_out_of_bounds_are_refused():
    model = lively()
    model.xe.w[0, 0] = 2.0
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\], got .* to 2"):
        model.present(spikes(1))
    model.run({"inp": spikes(1)[0, 0]})
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\], got .* to 2"):
        model.update()


def test_the_encoders_float_spikes_are_spikes():
    x = spikes(3)
    for given in (x.float(), x.double(), x.float()[0], x.float()[0].flatten(1)):
        model, other = lively(), lively()
        of = x if given.dim() == x.dim() else x[0]
        a = model.present(given, return_spikes=True)
        b = other.present(of, return_spikes=True)
        assert a.counts.any()
        torch.testing.assert_close(a.spikes, b.spikes, rtol=0, atol=0)
        assert_same(model.state_dict(), other.state_dict())
    with pytest.raises(ValueError, match="seeds are for images in Hz, got spikes"):
        lively().present(x.float(), seeds=torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("shape", [(20,), (2, 10), (1, 5, 4), (1, 1, 4, 5)])
def test_images_of_any_shape_with_as_many_pixels(shape):
    seeds = torch.arange(3)
    rates = torch.rand(3, 5, 4) * 900
    want = lively().present(rates, seeds=seeds).counts
    got = lively().present(rates.view(3, *shape), seeds=seeds).counts
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    alone = lively().present(rates[0].view(shape), seeds=seeds[:1]).counts
    torch.testing.assert_close(alone, want[:1], rtol=0, atol=0)
    raster = spikes(2)
    got = lively().present(raster.view(*raster.shape[:2], *shape)).counts
    torch.testing.assert_close(got, lively().present(raster).counts, rtol=0, atol=0)


def test_weights_are_looked_at_again_when_others_changed_them():
    model = lively()
    model.present(spikes(2))
    model.present(spikes(1))
    with pytest.raises(ValueError, match=r"x.hz must lie in \[0, 1000\] Hz"):
        model.present(torch.full((1, 5, 4), 2000.0))
    model.xe.w[0, 0] = 2.0
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\], got .* to 2"):
        model.present(spikes(1))
    model.eval()
    model.present(spikes(1))
    model.train()
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\], got .* to 2"):
        model.present(spikes(1))
    model.load_state_dict(lively().state_dict())
    model.present(spikes(1))
    model.exc.theta[1] = torch.nan
    with pytest.raises(ValueError, match="theta must be finite"):
        model.present(spikes(1))
