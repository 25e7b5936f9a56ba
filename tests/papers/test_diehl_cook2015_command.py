"""The commands ``snnfast train | assign | infer stdp``."""

import json

import pytest
from command import call

from snnfast_zoo.papers.diehl_cook2015 import train as diehl_cook2015
from snnfast_zoo.papers.procedures import stdp
from snnfast_zoo.train.checkpoint import read_checkpoint
from snnfast_zoo.train.figures import Figures

QUICK = ["--neurons", "12", "--duration", "50", "--theta-plus", "0.1", "--device", "cpu"]


def test_train_ends_with_labels_scores_and_figures(tmp_path):
    text = call("train", "stdp", *QUICK, "--epochs", 1, "--out", tmp_path)
    assert "neurons of each class: 0: " in text
    assert "test accuracy" in text
    assert {p.name for p in tmp_path.iterdir()} == {
        *("checkpoint.pt", "labels.pt", "result.json", "confusion.png"),
        *("curves.png", "receptive_fields.png"),
    }
    said = [line for line in text.splitlines() if line.startswith(("neurons of", "test accuracy"))]
    assert call("assign", "stdp", "--out", tmp_path).splitlines() == said[1:]
    assert set(said) <= set(call("infer", "stdp", "--out", tmp_path).splitlines())
    call("assign", "stdp", "--out", tmp_path, "--images", 50)
    call("infer", "stdp", "--out", tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["assignment_images"] == 50


def test_ctrl_c_and_resume(tmp_path, monkeypatch):
    common = ("train", "stdp", *QUICK, "--epochs", 2, "--seed", 4, "--images-per-call", 500)
    monkeypatch.setattr(Figures, "draw", lambda figures, run: None)
    call(*common, "--out", tmp_path / "whole")
    add, calls = diehl_cook2015.Responses.add, []

    def cut(score, *arguments):
        add(score, *arguments)
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(diehl_cook2015.Responses, "add", cut)
        text = call(*common, "--out", tmp_path / "parts", code=130)
    assert "repeat the command with --resume to go on" in text
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["epoch"] == 1
    call(*common, "--out", tmp_path / "parts", "--resume")
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts"))
    for result in (one, two):
        del result["seconds"]
        for row in result["history"]:
            del row["seconds"]
    assert one == two


def test_options_become_settings(tmp_path):
    call(
        *("train", "stdp", *QUICK, "--epochs", 1, "--preset", "manual", "--validate"),
        *("--rule", "pre_post", "--lr", 0.02, "--lr-final", 0.5, "--norm", 0.2, "--intensity", 400),
        *("--set", "x_tar=0.15", "--set", "trace=all", "--set", "one_winner=False"),
        *("--out", tmp_path, "--threads", 1),
    )
    settings = stdp.Settings(**read_checkpoint(tmp_path / "checkpoint.pt")["settings"])
    assert settings.validate
    network = settings.network(1000)
    assert (network.rule.kind, network.rule.lr_post, network.rule.x_tar) == ("power", 0.02, 0.15)
    assert (network.rule.trace, network.rule.lr_pre) == ("all", 1e-4)
    assert (network.norm, network.intensity, network.lr_final) == (0.2, 400, 0.5)
    assert network.neurons.one_winner is False
    assert "validation accuracy" in call("infer", "stdp", "--out", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "cifar"], "dataset must be one of digits, mnist"),
        (["--dataset", "mnist"], "mnist needs --data"),
        (["--dataset", "mnist", "--data", "nowhere"], "MNIST is not in"),
        (["--preset", "best"], "preset must be one of manual, n3ml, paper, tuned, got 'best'"),
        (["--rule", "hebb"], "rule must be one of pair,"),
        (["--neurons", "0"], "neurons must be at least 1"),
        (["--epochs", "-1"], "epochs must be at least 0"),
        (["--lr", "nan"], "must be finite, got nan"),
        (["--intensity", "nan"], "intensity must be finite"),
        (["--intensity", "1500"], "intensity must be at most a spike a step, 1000 Hz, got 1500"),
        (["--norm", "3"], "norm, the mean weight of an input, must lie between w_min and w_max"),
        (["--set", "speed=3"], "there is no setting 'speed'"),
        (["--set", "one_winner=maybe"], "one_winner must be True or False, got 'maybe'"),
        (["--set", "refractory=-1"], "refractory must be at least 0, got -1"),
        (["--set", "x_tar=0.2"], "the rule in force, triplet, has no x_tar"),
        (["--set", "neurons=3"], "changes (--set) must not hold neurons, which has its own option"),
        (["--norm", "1", "--set", "norm=2"], "changes (--set) must not hold norm, which has its"),
        (["--set", "speed"], "--set must be NAME=VALUE, got 'speed'"),
        (["--resume"], "there is no checkpoint"),
    ],
)
def test_wrong_input_is_told_in_a_line(tmp_path, arguments, message):
    text = call("train", "stdp", "--out", tmp_path / "out", *arguments, code=2)
    assert message in text.replace("\n", " ")
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_a_run_of_other_settings_is_neither_labelled_nor_scored(tmp_path):
    call("train", "stdp", *QUICK, "--epochs", 0, "--out", tmp_path)
    for command in ("assign", "infer"):
        text = call(command, "stdp", "--dataset", "mine.npz", "--out", tmp_path, code=2)
        assert "dataset: 'digits' there, 'mine.npz' here" in " ".join(text.split())
        text = call(command, "stdp", "--neurons", 11, "--out", tmp_path, code=2)
        assert "neurons: 12 there, 11 here" in " ".join(text.split())
        call(command, "stdp", "--dataset", "digits", "--neurons", 12, "--out", tmp_path)


@pytest.mark.parametrize("command", ["assign", "infer"])
def test_commands_that_need_a_run_say_so(tmp_path, command):
    text = call(command, "stdp", "--out", tmp_path, code=2)
    assert "there is no checkpoint" in text
