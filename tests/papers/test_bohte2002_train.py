"""The procedure SpikeProp: data as spike times, training, resumption, repeats, figures."""

import json
import math
from dataclasses import replace

import pytest
import torch
from procedures import interrupted, quiet
from samples import assert_all

import snnfast
from snnfast import data
from snnfast.nn import loss
from snnfast_zoo.papers.bohte2002 import train as bohte2002
from snnfast_zoo.papers.bohte2002.figures import potentials, spikes
from snnfast_zoo.papers.procedures import spikeprop
from snnfast_zoo.train import repeats
from snnfast_zoo.train.checkpoint import CheckpointError

INF = math.inf
Settings = spikeprop.Settings
SMALL = {"hidden": (4,), "terminals": 3, "epochs": 2}


pytestmark = pytest.mark.usefixtures("one_thread")


# Data as spike times.


def test_sizes_are_the_papers():
    sizes = {("iris", None): 50, ("iris", "latency"): 5, ("cancer", None): 64, ("xor", None): 3}
    sizes["digits", None] = 65
    for (dataset, code), inputs in sizes.items():
        settings = preset(dataset, code)
        parts = spikeprop.load(settings)
        assert parts.train[0].shape[1] == inputs
        assert_all(parts.train[0][:, -settings.bias :], 0)
    assert [preset(d).hidden for d in ("iris", "cancer", "xor", "mnist")] == [(10,), (15,), (5,), (400,)]


def test_xor_is_the_papers():
    times, labels = spikeprop.load(preset("xor")).train
    assert times.tolist() == [[6, 6, 0], [6, 0, 0], [0, 6, 0], [0, 0, 0]]
    assert labels.tolist() == [0, 1, 1, 0]
    settings = preset("xor")
    t = torch.tensor([[16.0], [10.0], [12.0], [15.0]])
    assert bohte2002.objective(settings)(t, labels).item() == (2**2 + 1) / 2 / 4
    decide = bohte2002.decide(settings)
    assert decide(torch.tensor([[10.0], [12.9], [13.1], [41.0]])).tolist() == [1, 1, 0, -1]


def test_paper_coding_of_iris():
    times = spikeprop.load(Settings()).train[0]
    fired = times[times.isfinite()]
    torch.testing.assert_close(fired, fired.round(), rtol=0, atol=0)
    assert 0 <= fired.min() < fired.max() == 9


def test_direct_coding_spans_the_training_range_and_stays_in_it():
    parts = spikeprop.load(preset("iris", "latency", folds=5, fold=1))
    assert (parts.train[0][:, :4].amin(0), parts.train[0][:, :4].amax(0)) == (
        pytest.approx(torch.zeros(4)),
        pytest.approx(torch.full((4,), 10.0)),
    )
    assert parts.held_out[0].min() >= 0
    assert parts.held_out[0].max() <= 10


def preset(dataset, code=None, **changes):
    return spikeprop.preset(dataset, **({} if code is None else {"code": code}), **changes)


def rows(part):
    return sorted(part[0].tolist())


@pytest.mark.parametrize("validate", [False, True])
def test_folds_share_nothing_and_validation_comes_from_the_training_folds(validate):
    fold = data.stratified_folds(data.iris("all").tensors[1], 5, seed=3)
    held_out = []
    for i in range(5):
        settings = preset("iris", "latency", folds=5, fold=i, split_seed=3, validate=validate)
        parts = spikeprop.load(settings)
        assert len(parts.train[0]) == (96 if validate else 120)
        assert len(parts.held_out[0]) == (24 if validate else 30)
        assert parts.split == ("validation" if validate else "test")
        held_out.append(parts.held_out[1])
        expected = data.iris("all").tensors[1][(fold != i) if validate else (fold == i)]
        classes = torch.cat([parts.train[1], parts.held_out[1]]) if validate else parts.held_out[1]
        torch.testing.assert_close(classes.bincount(), expected.bincount(), rtol=0, atol=0)
    if not validate:
        assert torch.cat(held_out).bincount().tolist() == [50, 50, 50]


def test_code_is_fitted_to_the_training_part_alone(monkeypatch):
    seen = []
    code = bohte2002.coder
    monkeypatch.setattr(bohte2002, "coder", lambda s, x: seen.append(x) or code(s, x))
    spikeprop.load(preset("iris", folds=5, fold=0))
    assert [len(x) for x in seen] == [120]


def test_noise_is_of_the_training_copies_alone():
    plain = spikeprop.load(preset("iris", "latency"))
    same = spikeprop.load(preset("iris", "latency", copies=2))
    torch.testing.assert_close(same.train[0], plain.train[0].repeat(2, 1), rtol=0, atol=0)
    noisy = [spikeprop.load(preset("iris", "latency", copies=20, noise=0.1, seed=s)) for s in (0, 0, 1)]
    torch.testing.assert_close(noisy[0].train[0], noisy[1].train[0], rtol=0, atol=0)
    assert not torch.equal(noisy[0].train[0], noisy[2].train[0])
    torch.testing.assert_close(noisy[0].train[1], plain.train[1].repeat(20), rtol=0, atol=0)
    torch.testing.assert_close(noisy[0].held_out[0], plain.held_out[0], rtol=0, atol=0)
    # A tenth of the range is one of the ten milliseconds of the code; values are clipped at the ends.
    inside = (plain.train[0] > 4) & (plain.train[0] < 6)
    distance = (noisy[0].train[0].view(20, -1, 5) - plain.train[0])[:, inside]
    assert distance.mean().abs() < 0.1
    assert distance.std() == pytest.approx(1.0, abs=0.1)
    times = spikeprop.load(preset("digits", noise=0.5)).train[0]  # of pixels within their bounds
    assert times[times.isfinite()].max() <= preset("digits").span


# Objectives and decisions.


def test_objectives():
    t, labels = torch.tensor([[10.0, 12.0, 14.0]]), torch.tensor([1])
    entropy = bohte2002.objective(Settings(t_max=20.0))(t, labels)
    assert entropy == loss.first_spike_cross_entropy(t, labels, t_max=20.0)
    error = bohte2002.objective(Settings(loss="squared-error", targets=(12.0, 15.0)))(t, labels)
    assert error.item() == (5**2 + 0 + 1) / 2
    assert bohte2002.decide(Settings(t_max=20.0))(torch.tensor([[21.0, 22.0]])).tolist() == [-1]


# Training.


def go(settings):
    return quiet(spikeprop, settings).run


def repeat(settings, seeds, out, **options):
    return repeats.repeat(spikeprop, settings, seeds, out, **options)


def test_network_is_calibrated_before_training():
    settings = preset("iris", epochs=0)
    run = go(settings)
    times = run.model.spike_times(spikeprop.load(settings).train[0])
    for t, wanted in zip(times[1:], settings.fire_at):
        reached = t.detach().clamp(max=settings.t_max).mean(0)
        torch.testing.assert_close(reached, torch.full_like(reached, wanted), rtol=0, atol=0.3)


def test_seed_fixes_a_run():
    one, two, other = (go(preset("iris", seed=s, jitter=0.2, **SMALL)) for s in (1, 1, 2))
    weights = [torch.cat([p.flatten() for p in run.model.parameters()]) for run in (one, two, other)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[0], weights[2])


def test_jitter_keeps_silence_and_zero(monkeypatch):
    seen = []
    settings = preset("iris", beta=1.5, jitter=2.0, **SMALL)
    monkeypatch.setattr(bohte2002, "fit", lambda run, train, held_out, augment, **how: seen.append(augment(*train)[0]))
    go(settings)
    first = seen[0]
    assert first.isinf().float().mean() > 0.5
    assert first.min() >= 0
    assert not torch.equal(first[first.isfinite()], first[first.isfinite()].round())


def test_shift_moves_images_and_nothing_else():
    settings = preset("digits", shift=1, jitter=0.0)
    times = torch.full((200, 65), INF)
    times[:, 27], times[:, 64] = 3.0, 0.0  # row 3, column 3, and the input that always fires
    torch.manual_seed(0)
    moved = bohte2002.augmentation(settings)(times, None)[0]
    assert_all(moved[:, 64], 0)
    where = moved[:, :64].argmin(1)
    assert_all(moved[:, :64].isfinite().sum(1), 1)
    assert set(where.tolist()) == {8 * row + column for row in (2, 3, 4) for column in (2, 3, 4)}
    times[:, 27], times[:, 0] = INF, 3.0  # moves out of the image in five of nine cases
    gone = bohte2002.augmentation(settings)(times, None)[0][:, :64].isinf().all(1).float().mean()
    assert 0.4 < gone < 0.7
    assert bohte2002.augmentation(preset("iris")) is None


def test_xor_is_learned():
    run = go(preset("xor"))
    assert bohte2002.converged(preset("xor"), run) <= 100
    assert run.history[-1]["accuracy"] == 1
    settings = preset("xor", epochs=1)
    assert bohte2002.converged(settings, go(settings)) is None


def test_squared_error_and_two_hidden_layers_train():
    run = go(preset("iris", "latency", loss="squared-error", **SMALL | {"hidden": (5, 4)}))
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    settings = preset("iris", "latency", jitter=0.1, **SMALL | {"epochs": 3})
    whole = go(settings)
    interrupted(spikeprop, settings, tmp_path)
    torch.manual_seed(99)
    rest = quiet(spikeprop, settings, tmp_path, resume=True).run
    for one, two in zip(whole.model.parameters(), rest.model.parameters()):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_train_writes_checkpoint_and_figures(tmp_path):
    result = quiet(spikeprop, preset("iris", **SMALL), tmp_path)
    names = {"checkpoint.pt", "curves.png", "spikes.png", "potentials.png", "result.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert f"{100 * result.accuracy:.2f} % after 2 epochs" in result.summary()
    hidden, output = result.measured["clipped"]
    assert 0 <= hidden <= 1
    shown = f"below slope_min, by layer: {100 * hidden:.1f} %, {100 * output:.1f} %"
    assert shown in result.summary()
    with pytest.raises(FileExistsError, match="--resume"):
        quiet(spikeprop, preset("iris", **SMALL), tmp_path)
    with pytest.raises(CheckpointError, match=r"lr: 0[.]01 there, 0[.]5 here"):
        quiet(spikeprop, preset("iris", **SMALL, lr=0.5), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "moons"}, "dataset must be one of xor, iris, cancer, yin-yang, digits, mnist"),
        ({"code": "rate"}, "code must be one of population, latency, got 'rate'"),
        ({"loss": "hinge"}, "loss must be one of cross-entropy, squared-error"),
        ({"dataset": "digits"}, "the population code is for iris and cancer"),
        ({"dataset": "xor", "code": "latency"}, "xor has four patterns"),
        ({"dataset": "mnist", "code": "latency", "folds": 5}, "folds are for the data sets in"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"terminals": 0}, "terminals must be at least 1, got 0"),
        ({"shift": 1}, "shift is for digits and mnist, got iris"),
        ({"dataset": "mnist", "code": "latency", "shift": -1}, "shift must be at least 0, got -1"),
        ({"lr": 0.0}, "lr must be more than 0, got 0.0"),
        ({"tau": INF}, "tau must be finite, got inf"),
        ({"jitter": -0.1}, "jitter must be at least 0, got -0.1"),
        ({"noise": INF}, "noise must be finite, got inf"),
        ({"copies": 0}, "copies must be at least 1, got 0"),
        ({"beta": 0.0}, "beta must be more than 0, got 0.0"),
        ({"folds": 5, "fold": 5}, r"fold must lie in \[0, 5\), got 5"),
    ],
)
def test_settings_name_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=f"spikeprop: {message}"):
        Settings(**change)


# Repeats.


def test_repeats_train_every_seed_and_fold_once(tmp_path):
    settings = preset("iris", "latency", folds=2, **SMALL | {"epochs": 1})
    result = repeat(settings, [4, 5], tmp_path, progress=False)
    assert [(r["seed"], r["fold"]) for r in result.runs] == [(4, 0), (4, 1), (5, 0), (5, 1)]
    by_hand = go(replace(settings, seed=5, split_seed=5, fold=1))
    assert result.runs[3]["accuracy"] == by_hand.history[-1]["held_out_accuracy"]
    assert result.by_seed()[5] == (result.runs[2]["accuracy"] + result.runs[3]["accuracy"]) / 2
    text = result.summary()
    assert "mean over 2 seeds, 2 folds each" in text
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) == 4


def test_repeats_go_on_where_they_ended(tmp_path, monkeypatch):
    settings = preset("iris", "latency", **SMALL | {"epochs": 1})
    repeat(settings, [0], tmp_path, progress=False)
    seeds = []
    model = spikeprop.model
    monkeypatch.setattr(bohte2002, "model", lambda s, d: seeds.append(s.seed) or model(s, d))
    result = repeat(settings, [0, 1], tmp_path, resume=True, progress=False)
    assert seeds == [1]
    assert [r["seed"] for r in result.runs] == [0, 1]
    with pytest.raises(FileExistsError, match="--resume"):
        repeat(settings, [0], tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings \(lr: 0[.]02 there, 0[.]3 here\)"):
        repeat(replace(settings, lr=0.3), [0], tmp_path, resume=True)
    row = '{"fold": 0, "accuracy": 1.0, "converged": null, "seconds": 1.0}'
    rows = f'{{"settings": {{}}, "runs": [{row}]}}'
    for content, why in (("{}", "'settings'"), ('{"settings": null, "runs": []}', ""), (rows, "run 0 lacks seed")):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(CheckpointError, match=f"results.json holds no results: {why}"):
            repeat(settings, [0], tmp_path, resume=True)
    with pytest.raises(FileNotFoundError, match="there are no results"):
        repeat(settings, [0], tmp_path / "none", resume=True)
    with pytest.raises(ValueError, match="at least one seed"):
        repeat(settings, [], tmp_path)


def test_a_run_among_many_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    settings = preset("iris", "latency", **SMALL | {"epochs": 4})
    whole = repeat(settings, [0, 1], tmp_path / "whole", progress=False)
    assert [file.name for file in (tmp_path / "whole").iterdir()] == ["results.json"]
    monkeypatch.setattr(repeats, "SAVE_EVERY", 0.0)
    begun = []
    save = repeats.OneOfMany.save

    def interrupt(place, run):
        save(place, run)
        begun.append((run.settings["seed"], run.epoch))
        if begun[-1] in ((1, 2), (1, 3)):
            raise KeyboardInterrupt

    out = tmp_path / "parts"
    with monkeypatch.context() as patched:
        patched.setattr(repeats.OneOfMany, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            repeat(settings, [0, 1], out, progress=False)
        assert len(repeats.unfinished(out)) == 1
        with pytest.raises(FileExistsError, match="--resume"):
            repeat(settings, [0, 1], out)
        (out / "results.json").unlink()  # as if the first run had been interrupted
        with pytest.raises(FileExistsError, match=r"unfinished-.*--resume"):
            repeat(settings, [0, 1], out)
        with pytest.raises(CheckpointError, match=r"other settings \(lr: 0[.]02 there, 0[.]3 here\)"):
            repeat(replace(settings, lr=0.3), [1], out, resume=True)
        begun.clear()
        with pytest.raises(KeyboardInterrupt):
            repeat(settings, [0, 1], out, resume=True, progress=False)
        assert begun[-1] == (1, 3)
    begun.clear()
    monkeypatch.setattr(repeats.OneOfMany, "save", lambda place, run: begun.append((run.settings["seed"], run.epoch)))
    parts = repeat(settings, [0, 1], out, resume=True, progress=False)
    assert begun[0] >= (1, 2)
    assert [r["accuracy"] for r in parts.runs] == [r["accuracy"] for r in whole.runs]
    assert not repeats.unfinished(out)


def test_repeats_tell_how_many_learned_xor(tmp_path):
    runs = [
        {"seed": s, "fold": 0, "accuracy": 1.0, "seconds": 0.1, "converged": c}
        for s, c in enumerate([30, None, 20, 40])
    ]
    result = repeats.Repeats(preset("xor"), runs, tmp_path)
    expected = "3 of 4 seeds learned XOR within 100 cycles: median 30, nine of ten within 40, the slowest 40"
    assert expected in result.summary()
    silent = repeats.Repeats(preset("xor"), runs[1:2], tmp_path)
    assert "0 of 1 seeds learned XOR within 100 cycles\n" in silent.summary()
    folds = repeats.Repeats(preset("iris", folds=3), runs[1:2], tmp_path)
    assert "accuracy 100.00 %, 1 seed, mean over 3 folds\n" in folds.summary()


# Figures.


def test_figures_show_spikes_and_potentials_of_one_sample(tmp_path):
    settings = preset("iris", **SMALL)
    parts = spikeprop.load(settings)
    run = quiet(spikeprop, settings, tmp_path).run
    t = spikes(run.model, parts.held_out[0])
    assert list(t) == ["input", "hidden", "output"]
    torch.testing.assert_close(t["output"], run.model(parts.held_out[0])[0], rtol=0, atol=0)
    figure = potentials(run.model, parts.held_out[0])
    assert len(figure.axes) == 3
    for name in ("curves", "spikes", "potentials"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# Neurons that may fire several times.


def test_lif_neurons_are_those_of_eventprop():
    """Hidden neurons have the settings; outputs fire once, with virtual times after the end if they are silent."""
    settings = preset("yin-yang", neurons="lif", hidden=(5,), max_spikes=3, tau_syn=20.0, epochs=1)
    parts = spikeprop.load(settings)
    assert parts.train[0].shape == (5000, 5)
    model = spikeprop.model(settings, parts)
    hidden, output = model.layers
    assert (hidden.max_spikes, hidden.tau_mem, hidden.tau_syn) == (3, 60.0, 20.0)
    assert (output.max_spikes, output.out_features) == (1, 3)
    t = model(parts.train[0][:50])
    want = output(hidden(parts.train[0][:50]))[..., 0]
    fired = want.isfinite()
    assert fired.any()
    torch.testing.assert_close(t[fired], want[fired], rtol=0, atol=0)
    assert (t[~fired] > 30).all()


def test_lif_neurons_learn_the_symbol(tmp_path):
    how = {"neurons": "lif", "hidden": (30,), "epochs": 2, "validate": True}
    result = snnfast.procedure.spikeprop("yin-yang", **how, out=tmp_path, progress=False)
    assert result.accuracy > 0.6
    labels = snnfast.load(tmp_path)(data.yin_yang("test").tensors[0])
    assert (labels == data.yin_yang("test").tensors[1]).float().mean() > 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau_syn": 3.0}, "spikeprop: tau_syn is for lif, got srm"),
        ({"max_spikes": 2}, "spikeprop: max_spikes is for lif, got srm"),
        ({"neurons": "lif", "terminals": 4}, "spikeprop: neurons lif need terminals 1, and another data set than xor"),
    ],
)
def test_settings_of_lif_neurons(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        preset("yin-yang", **changes)
