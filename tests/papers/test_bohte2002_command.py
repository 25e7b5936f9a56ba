"""The command ``snnfast train spikeprop``."""

import json
from functools import partial

import command
import pytest
import torch

from snnfast_zoo.papers.bohte2002 import train as bohte2002
from snnfast_zoo.train import figures
from snnfast_zoo.train.checkpoint import read_checkpoint

QUICK = ["--hidden", "4", "--terminals", "3", "--device", "cpu", "--epochs", "2"]


pytestmark = pytest.mark.usefixtures("one_thread")


call = partial(command.call, "train", "spikeprop")


def test_options_reach_the_settings(tmp_path):
    options = ["--dataset", "cancer", "--code", "latency", "--tau", 8, "--loss", "squared-error"]
    options += ["--hidden", 5, "--jitter", 0.1, "--batch-size", 100, "--lr", 0.02, "--seed", 3]
    text = call(*QUICK, *options, "--validate", "--epochs", 1, "--out", tmp_path)
    assert "validation accuracy" in text
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    settings = read_checkpoint(tmp_path / "checkpoint.pt")["settings"]
    expected = {"dataset": "cancer", "code": "latency", "tau": 8.0, "loss": "squared-error"}
    expected |= {"hidden": [4, 5], "jitter": 0.1, "batch_size": 100, "lr": 0.02, "seed": 3}
    expected |= {"validate": True, "epochs": 1, "terminals": 3, "folds": None}
    assert {name: settings[name] for name in expected} == expected


def test_a_network_without_spikes_says_so(tmp_path):
    text = call(*QUICK, "--tau", 1e30, "--out", tmp_path)
    assert "spikes whose slope is below slope_min, by layer: no spikes, no spikes" in text
    assert "nan" not in text
    assert json.loads((tmp_path / "result.json").read_text())["clipped"] == [None, None]


def test_images_are_moved(tmp_path):
    call("--dataset", "digits", "--hidden", 4, "--shift", 1, "--epochs", 0, "--out", tmp_path)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["settings"]["shift"] == 1


def test_run_interrupted_and_resumed_equals_the_whole(tmp_path, monkeypatch):
    common = [*QUICK, "--code", "latency", "--seed", 4]
    call(*common, "--out", tmp_path / "whole")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(figures.Figures, "update", interrupt)
        text = call(*common, "--out", tmp_path / "parts", code=130)
        assert "repeat the command with --resume" in text
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["epoch"] == 1
    text = call(*common, "--out", tmp_path / "parts", "--resume")
    assert "after 2 epochs" in text
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for k in one["model"]:
        torch.testing.assert_close(one["model"][k], two["model"][k], rtol=0, atol=0)


def test_seeds_and_folds(tmp_path):
    arguments = [*QUICK, "--code", "latency", "--folds", 2, "--seeds", 2, "--out", tmp_path]
    text = call(*arguments)
    assert "mean over 2 seeds, 2 folds each" in text
    assert "--resume" in call(*arguments, code=2)
    assert call(*arguments, "--resume") == text


def test_repeats_that_are_interrupted_say_so(tmp_path, monkeypatch):
    def interrupt(settings, train):
        raise KeyboardInterrupt

    monkeypatch.setattr(bohte2002, "model", interrupt)
    text = call(*QUICK, "--seeds", 2, "--out", tmp_path, code=130)
    assert "nothing was saved yet" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "moons"], "dataset must be one of xor, iris, cancer, yin-yang, digits, mnist"),
        (["--dataset", "mnist"], "mnist needs --data"),
        (["--dataset", "mnist", "--data", "nowhere"], "MNIST is not in"),
        (["--dataset", "digits", "--code", "population"], "the population code is for iris"),
        (["--code", "rate"], "code must be one of population, latency"),
        (["--epochs", "-1"], "epochs must be at least 0"),
        (["--hidden", "0"], "hidden must be at least 1, got 0"),
        (["--dataset", "xor", "--folds", "2"], "xor has four patterns"),
        (["--low", "1.5"], "low must be less than 1, got 1.5"),
        (["--fire-at", "5"], "fire_at must be 2 values, got 1: (5.0,)"),
        (["--targets", "5"], "targets must be 2 values, got 1: (5.0,)"),
        (["--code", "latency", "--fields", "3"], "fields is for the population code, got latency"),
        (["--code", "latency", "--beta", "3"], "beta is for the population code, got latency"),
        (["--threshold", "0.2"], "threshold is for the latency code, got population"),
        (
            ["--loss", "cross-entropy", "--targets", "5", "--targets", "6"],
            "targets is for squared-error, got cross-entropy",
        ),
        (["--resume"], "there is no checkpoint"),
        (["--resume", "--seeds", "2"], "there are no results"),
    ],
)
def test_wrong_input_is_told_in_a_line(tmp_path, arguments, message):
    text = call("--out", tmp_path / "out", *arguments, code=2)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()
