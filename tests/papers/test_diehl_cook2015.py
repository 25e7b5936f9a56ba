"""The network of Diehl and Cook 2015: calls, weights and parts."""

import copy

import pytest
import torch
from diehl_cook2015_cases import CURRENT_BASED, assert_exact, assert_same, lively, rates, spikes
from samples import assert_all

from snnfast import ops
from snnfast.model import DiehlAndCook2015
from snnfast.ops import Events, Rates
from snnfast_zoo.papers.diehl_cook2015.settings import PRESETS


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CURRENT_BASED)
def test_the_manuals_calls_and_present_give_the_same_weights(name, dtype):
    first, second = lively(name, dtype), lively(name, dtype)
    before = first.state_dict()["xe.w"].clone()
    fast = first.present(spikes(), return_spikes=True)
    slow = step_by_step(second, spikes())
    assert_exact(fast.counts, slow)
    assert_exact(fast.counts, fast.spikes.sum(1, dtype=torch.int32))
    assert (slow.sum(0) > 0).sum() >= 3
    assert_same(first.state_dict(), second.state_dict())
    assert (first.xe.w != before).any()
    assert (first.exc.theta > 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool, torch.int64, torch.half])
def test_run_takes_spikes_of_any_dtype_and_shape(dtype):
    first, second = lively(), lively()
    step_by_step(first, spikes(1))
    step_by_step(second, spikes(1).flatten(2).to(dtype))
    assert_same(first.state_dict(), second.state_dict())


def test_rates_are_the_spikes_of_the_poisson_op():
    first, second, third = lively(), lively(), lively()
    seeds = torch.tensor([5, 6, 7])
    hz = rates()
    trains = torch.stack([ops.poisson(r * (1 / 1000), 60, seed=int(s), dtype=torch.bool) for r, s in zip(hz, seeds)])
    counts = first.present(hz, seeds=seeds).counts
    assert_exact(counts, second.present(trains).counts)
    assert_exact(counts, third.present(Rates(hz.flatten(1), 60, seeds)).counts)
    assert_same(first.state_dict(), second.state_dict())
    assert_same(first.state_dict(), third.state_dict())


def test_a_bad_image_changes_nothing():
    model, images = lively(), rates(3)
    before = copy.deepcopy(model.state_dict())
    images[2, 0, 0] = 2000.0
    with pytest.raises(ValueError, match=r"x.hz must lie in \[0, 1000\] Hz"):
        model.present(images)
    assert_same(model.state_dict(), before)


def test_one_image_and_one_spike_train_need_no_batch():
    first, second = lively(), lively()
    seeds = torch.tensor([5])
    assert_exact(
        first.present(rates(1)[0], seeds=seeds).counts, second.present(rates(1)[0].flatten(), seeds=seeds).counts
    )
    assert first.present(spikes(1)[0]).counts.shape == (1, 6)
    assert first.present(rates(0)).counts.shape == (0, 6)


def test_events_are_spikes():
    first, second = lively(), lively()
    trains = spikes(2).flatten(2)
    events = Events(
        trains.nonzero()[:, 2].int(),
        torch.stack(
            [
                torch.cat([torch.zeros(1, dtype=torch.int64), trains[p].sum(1).cumsum(0)]) + trains[:p].sum()
                for p in range(2)
            ]
        ),
    )
    assert_exact(first.present(events).counts, second.present(trains).counts)
    assert_same(first.state_dict(), second.state_dict())


def test_seeds_come_from_the_global_generator():
    first, second = lively(), lively()
    torch.manual_seed(3)
    first.present(rates())
    torch.manual_seed(3)
    second.present(rates())
    assert_same(first.state_dict(), second.state_dict())
    second.present(rates())
    assert (first.xe.w != second.xe.w).any()


def test_images_in_one_call_or_in_many_are_the_same():
    first, second = lively(), lively()
    first.present(spikes(3))
    for train in spikes(3):
        second.present(train)
    assert_same(first.state_dict(), second.state_dict())


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
    first, second = lively(lr_final=0.25), lively(lr_final=0.25)
    batches = [(rates(4)[:2], None), rates(4)[2:]]
    torch.manual_seed(0)
    assert first.fit(batches, epochs=2) is first
    torch.manual_seed(0)
    for k in range(4):
        second.set_progress(k / 4)
        second.present(rates(4)[:2] if k % 2 == 0 else rates(4)[2:])
    assert_same(first.state_dict(), second.state_dict())
    assert second.rule.lr_post == pytest.approx(0.02 * 0.25**0.75)


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
    torch.testing.assert_close(model.xe.w[changed].sum(1), torch.full_like(before[changed].sum(1), 6.0))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_neuron_has_the_same_sum_of_weights_from_the_beginning(preset, dtype):
    """This includes neurons that have not learned yet: a larger sum would favour them."""
    model = DiehlAndCook2015(40, (8, 9), preset, dtype=dtype, duration=60)
    sums = torch.full((40,), model.norm, dtype=dtype)
    torch.testing.assert_close(model.xe.w.sum(1), sums)
    counts = model.present(torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0)) * 300).counts
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
        assert_all(model.inp.x[model.inp.s], 1)
        assert_all(model.exc.v[model.exc.s], -65)
        assert_all(model.exc.x[model.exc.s], 1)
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


def test_the_encoders_float_spikes_are_spikes():
    x = spikes(3)
    for stimulus in (x.float(), x.double(), x.float()[0], x.float()[0].flatten(1)):
        model, other = lively(), lively()
        same_spikes = x if stimulus.dim() == x.dim() else x[0]
        a = model.present(stimulus, return_spikes=True)
        b = other.present(same_spikes, return_spikes=True)
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
