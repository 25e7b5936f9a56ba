"""The procedure BP-STDP: data as intensities, training, resumption, XOR, figures, and its command."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import command
import pytest
import torch
from procedures import interrupted, quiet

from snnfast import data
from snnfast.encoder import RegularEncoder
from snnfast_zoo.papers.procedures import bp_stdp
from snnfast_zoo.papers.tavanaei_maida2017 import train as tavanaei_maida2017
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint
from snnfast_zoo.train.figures import Figures
from snnfast_zoo.train.place import Data
from snnfast_zoo.train.repeats import repeat

SMALL = {"hidden": (8,), "epochs": 3, "num_steps": 10}
Settings, preset = bp_stdp.Settings, bp_stdp.preset


pytestmark = pytest.mark.usefixtures("one_thread")


def go(settings, out=None):
    return quiet(bp_stdp, settings, out).run


def weights(run):
    return torch.cat([w.flatten() for w in run.model.network.weights])


# Data as intensities.


def test_networks_are_the_papers():
    sizes = {"xor": [2, 20, 2], "iris": [4, 30, 3], "mnist": [784, 500, 10]}
    for dataset, expected in sizes.items():
        part = torch.zeros(1, expected[0]), torch.zeros(1, dtype=torch.int64)
        model = bp_stdp.model(preset(dataset), Data(part, part))
        shapes = [list(w.shape) for w in model.network.weights]
        assert shapes == [[o, i] for i, o in pairwise(expected)]
    assert preset("mnist", hidden=(500, 150)).hidden == (500, 150)


def test_features_are_divided_by_the_largest_value_of_the_training_part():
    parts = bp_stdp.load(preset("iris", folds=5, fold=1))
    assert parts.train[0].max() == 1
    assert parts.held_out[0].max() <= 1
    flowers, species = data.as_tensors(data.iris("all"))
    training = data.stratified_folds(species, 5, seed=0) != 1
    torch.testing.assert_close(parts.train[0], flowers[training] / flowers[training].max(), rtol=0, atol=0)


def test_xor_is_four_patterns_and_scored_over_many_presentations():
    parts = bp_stdp.load(preset("xor"))
    inputs = [[0.2, 0.2], [0.2, 1.0], [1.0, 0.2], [1.0, 1.0]]
    torch.testing.assert_close(parts.train[0], torch.tensor(inputs))
    assert parts.train[1].tolist() == [0, 1, 1, 0]
    assert len(parts.held_out[0]) == 100
    torch.testing.assert_close(parts.held_out[0][4:8], parts.train[0], rtol=0, atol=0)


# Training.


def test_xor_is_learned():
    settings = preset("xor", epochs=60)
    result = quiet(bp_stdp, settings)
    run, cycles = result.run, result.measured["converged"]
    assert 1 < cycles <= 40
    assert run.history[cycles - 2]["held_out_accuracy"] < 1
    assert all(row["held_out_accuracy"] == 1 for row in run.history[cycles - 1 :])
    for epochs in (0, 1):
        settings = preset("xor", epochs=epochs)
        assert quiet(bp_stdp, settings).measured["converged"] is None


@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_an_epoch_is_fit_of_the_model(hidden):
    """The procedure, with many batches per call, equals the loop of the model."""
    settings = preset("digits", **SMALL | {"hidden": hidden, "epochs": 1, "batch_size": 1024})
    parts = bp_stdp.load(settings)
    trained = go(settings)
    torch.manual_seed(settings.seed)
    spiking = bp_stdp.model(settings, parts)
    order = torch.randperm(len(parts.train[0]))
    batches = [(parts.train[0][i], parts.train[1][i]) for i in order.split(1024)]
    encoder = RegularEncoder(settings.num_steps, settings.scale, dtype=torch.uint8)
    result = spiking.network.fit(batches, encoder, lr=settings.lr, update=settings.update)
    found = torch.cat([w.flatten() for w in spiking.network.weights])
    torch.testing.assert_close(weights(trained), found, rtol=0, atol=0)
    assert trained.history[0]["accuracy"] == result.accuracy
    assert trained.history[0]["loss"] == pytest.approx(result.loss)


def test_seed_fixes_a_run():
    one, two, other = (go(preset("iris", seed=s, **SMALL)) for s in (1, 1, 2))
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=0)
    assert not torch.equal(weights(one), weights(other))


def test_learning_rate_falls_along_a_cosine():
    settings = Settings(lr=0.02, epochs=4)
    rates = [tavanaei_maida2017.learning_rate(settings, epoch) for epoch in range(5)]
    assert rates == pytest.approx([0.02, 0.017071, 0.01, 0.002929, 0], abs=1e-6)
    assert tavanaei_maida2017.learning_rate(replace(settings, cosine=False), 3) == 0.02


def test_shift_moves_training_images(monkeypatch):
    seen = []
    monkeypatch.setattr(
        tavanaei_maida2017.EncodedNetwork, "encode", lambda self, x: seen.append(x) or torch.zeros(10, *x.shape)
    )
    settings = preset("digits", shift=1, **SMALL | {"epochs": 1})
    go(settings)
    images = bp_stdp.load(settings).train[0]
    assert len(seen[0]) < len(images)
    known = {tuple(x) for x in images.tolist()}
    moved = [tuple(x) not in known for x in seen[0].tolist()]
    assert 0.8 < sum(moved) / len(moved) < 0.97  # one of nine stays


@pytest.mark.parametrize("dataset", ["iris", "digits"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, dataset):
    settings = preset(dataset, **SMALL)
    whole = go(settings)
    interrupted(bp_stdp, settings, tmp_path)
    torch.manual_seed(99)
    rest = quiet(bp_stdp, settings, tmp_path, resume=True).run
    torch.testing.assert_close(weights(whole), weights(rest), rtol=0, atol=0)
    names = ("loss", "accuracy", "held_out_loss", "held_out_accuracy")
    assert [[row[n] for n in names] for row in whole.history] == [[row[n] for n in names] for row in rest.history]


def test_train_writes_checkpoint_and_figures(tmp_path):
    settings = preset("iris", **SMALL)
    result = quiet(bp_stdp, settings, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*("checkpoint.pt", "curves.png", "raster.png", "result.json")}
    for name in ("curves", "raster"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"{100 * result.accuracy:.2f} % after 3 epochs" in result.summary()
    with pytest.raises(FileExistsError, match="--resume"):
        quiet(bp_stdp, settings, tmp_path)
    with pytest.raises(CheckpointError, match=r"lr: 0[.]\d+ there, 0[.]5 here"):
        quiet(bp_stdp, replace(settings, lr=0.5), tmp_path, resume=True)


def test_drawing_does_not_change_the_course_of_a_run(tmp_path, monkeypatch):
    settings = preset("iris", **SMALL)
    monkeypatch.setattr(Figures, "update", Figures.draw)
    torch.testing.assert_close(weights(go(settings)), weights(go(settings, tmp_path)), rtol=0, atol=0)


def test_repeats_train_every_seed_and_fold(tmp_path):
    settings = preset("iris", folds=2, **SMALL)
    result = repeat(bp_stdp, settings, [4, 5], tmp_path, progress=False)
    assert [(r["seed"], r["fold"]) for r in result.runs] == [(4, 0), (4, 1), (5, 0), (5, 1)]
    by_hand = go(replace(settings, seed=5, split_seed=5, fold=1))
    assert result.runs[3]["accuracy"] == by_hand.history[-1]["held_out_accuracy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "cancer"}, "dataset must be one of xor, iris, digits, mnist, or your own: .* got 'cancer'"),
        ({"encoding": "morse"}, "encoding must be one of regular, bernoulli"),
        ({"update": "epoch"}, "update must be one of step, sequence"),
        ({"dataset": "xor", "validate": True}, "xor has four patterns"),
        ({"dataset": "mnist", "folds": 5}, "folds are for the data sets in the package"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"epsilon": 0}, "epsilon must be at least 1, got 0"),
        ({"dataset": "iris", "shift": 1}, "shift is for digits and mnist, got iris"),
        ({"shift": -1}, "shift must be at least 0, got -1"),
        ({"lr": float("nan")}, "lr must be finite, got nan"),
        ({"scale": 0.0}, "scale must be more than 0, got 0.0"),
        ({"beta": -1.0}, "beta must be at least 0, got -1.0"),
        ({"std": (1.0, 1.0, 1.0)}, "std must be one number, or one a layer, 2, got 3"),
        ({"folds": 5, "fold": 5}, r"fold must lie in \[0, 5\), got 5"),
    ],
)
def test_settings_name_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=f"bp-stdp: {message}"):
        Settings(**change)


# The command.


call = partial(command.call, "train", "bp-stdp")
QUICK = ["--dataset", "iris", "--hidden", 6, "--device", "cpu", "--epochs", 2, "--steps", 10]


def test_options_reach_the_settings(tmp_path):
    options = ["--encoding", "bernoulli", "--scale", 3, "--hidden", 5, "--update", "sequence"]
    options += ["--batch-size", 7, "--lr", 0.02, "--seed", 3, "--validate", "--epochs", 1]
    options += ["--std", 0.1, "--std", 0.2, "--std", 0.3]
    assert "validation accuracy" in call(*QUICK, *options, "--out", tmp_path)
    settings = read_checkpoint(tmp_path / "checkpoint.pt")["settings"]
    expected = {"dataset": "iris", "encoding": "bernoulli", "scale": 3.0, "hidden": [6, 5]}
    expected |= {"update": "sequence", "batch_size": 7, "lr": 0.02, "seed": 3, "validate": True}
    expected |= {"std": [0.1, 0.2, 0.3], "epochs": 1, "num_steps": 10, "folds": None}
    assert {name: settings[name] for name in expected} == expected


def test_command_interrupted_and_resumed_equals_the_whole(tmp_path, monkeypatch):
    call(*QUICK, "--out", tmp_path / "whole")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Figures, "update", interrupt)
        text = call(*QUICK, "--out", tmp_path / "parts", code=130)
        assert "repeat the command with --resume" in text
    assert "after 2 epochs" in call(*QUICK, "--out", tmp_path / "parts", "--resume")
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert one["model"].keys() == two["model"].keys() != set()
    torch.testing.assert_close(one["model"], two["model"], rtol=0, atol=0)


def test_seeds_of_xor_and_folds_of_iris(tmp_path):
    few = ["--dataset", "xor", "--seeds", 2, "--epochs", 40, "--out", tmp_path / "xor"]
    assert "2 of 2 seeds learned XOR within 40 cycles" in call(*few)
    text = call(*QUICK, "--folds", 2, "--seeds", 2, "--out", tmp_path / "iris")
    assert "mean over 2 seeds, 2 folds each" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "moons"], "dataset must be one of xor, iris, digits, mnist"),
        (["--dataset", "mnist"], "mnist needs --data"),
        (["--dataset", "mnist", "--data", "nowhere"], "MNIST is not in"),
        (["--hidden", "0"], "hidden must be at least 1, got 0"),
        (["--std", "-1"], "std must be at least 0"),
        (["--epochs", "-1"], "epochs must be at least 0"),
        (["--resume"], "there is no checkpoint"),
        (["--resume", "--seeds", "2"], "there are no results"),
        (["--dataset", ""], "dataset must be one of xor, iris, digits, mnist"),
    ],
)
def test_wrong_input_is_told_in_a_line(tmp_path, arguments, message):
    text = call("--out", tmp_path / "out", *arguments, code=2)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()
