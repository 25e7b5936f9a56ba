"""Training in epochs: exact resumption, checkpoints, history, interruption."""

import copy
import functools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from procedures import interrupted, quiet
from torch import nn
from train_cases import DATA, QUIET, go, tiny

from snnfast.train import Output, Run, evaluate, fit
from snnfast_zoo.papers.procedures import stbp
from snnfast_zoo.papers.wu2018.train import rate_error
from snnfast_zoo.train.checkpoint import CheckpointError, load_weights, read_checkpoint
from snnfast_zoo.train.fit import recalibrate

pytestmark = pytest.mark.usefixtures("one_thread")


def without_time(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_same_run(a, b):
    assert a.epoch == b.epoch
    assert without_time(a.history) == without_time(b.history)
    for one, two in zip(a.model.state_dict().values(), b.model.state_dict().values()):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    torch.testing.assert_close(a.score.state_dict(), b.score.state_dict(), rtol=0, atol=0)
    states = [run.optimizer.state_dict()["state"] for run in (a, b)]
    assert states[0].keys() == states[1].keys()
    for i in states[0]:
        torch.testing.assert_close(states[0][i], states[1][i], rtol=0, atol=0)


@pytest.mark.parametrize("stop_after", [0, 1, 3])
@pytest.mark.parametrize("encoding", ["bernoulli", "direct"])
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path, stop_after, encoding):
    settings, whole = tiny(encoding=encoding)
    go(settings, whole, 4)

    _, first = tiny(encoding=encoding)
    if stop_after == 0:
        first.save(tmp_path / "c.pt")
    go(settings, first, stop_after, checkpoint=tmp_path / "c.pt")
    torch.manual_seed(12345)  # as in another process
    _, second = tiny(encoding=encoding)
    torch.rand(17)
    second.load(tmp_path / "c.pt")
    go(settings, second, 4, checkpoint=tmp_path / "c.pt")
    assert_same_run(whole, second)

    _, third = tiny(encoding=encoding)
    third.load(tmp_path / "c.pt")
    assert_same_run(whole, third)


def test_scoring_does_not_change_the_course_of_a_run():
    settings, run = tiny()
    go(settings, run, 2)
    settings, watched = tiny()
    go(settings, watched, 1)
    evaluate(watched.model, DATA, loss=rate_error)
    go(settings, watched, 2)
    assert_same_run(run, watched)


def test_history_has_a_row_an_epoch():
    settings, run = tiny()
    seen = []
    go(settings, run, 3, after_epoch=lambda r: seen.append(r.epoch))
    assert seen == [1, 2, 3]
    assert len(run.history) == 3
    assert set(run.history[0]) == {"loss", "accuracy", "held_out_loss", "held_out_accuracy", "seconds", "lr"}
    assert run.history[0]["lr"] > run.history[2]["lr"]


def test_no_epochs_changes_nothing():
    settings, run = tiny()
    before = copy.deepcopy(run.model.state_dict())
    go(settings, run, 0)
    assert run.history == []
    torch.testing.assert_close(dict(run.model.state_dict()), before, rtol=0, atol=0)


def test_recalibration_computes_statistics_over_plain_images_and_can_be_repeated():
    settings, run = tiny(batch_norm=True, encoding="direct")
    go(settings, run, 2)
    for _ in range(2):
        recalibrate(run, DATA[0], lambda images: images / 2)
        # By hand: the first layer's currents over all images, halved and not moved.
        first, norm = run.model.layers[0].layer
        currents = first(DATA[0] / 2).transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, currents.mean(1))
        torch.testing.assert_close(norm.running_var, currents.var(1), rtol=1e-2, atol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recalibrated_run_is_resumed_bit_for_bit(tmp_path, precision):
    changes = {"recalibrate": True, "precision": precision, "epochs": 2, "batch_size": 500, "width": 0.2}
    settings = stbp.preset("digits", batch_norm=True, encoding="bernoulli", **changes)
    whole = quiet(stbp, settings, tmp_path / "whole")
    interrupted(stbp, settings, tmp_path / "parts")
    parts = quiet(stbp, settings, tmp_path / "parts", resume=True)
    assert_same_run(whole.run, parts.run)
    assert parts.accuracy == whole.accuracy
    again = quiet(stbp, settings, tmp_path / "parts", resume=True)
    assert_same_run(whole.run, again.run)
    usual = quiet(
        stbp, stbp.preset("digits", **{**changes, "batch_norm": True, "encoding": "bernoulli", "recalibrate": False})
    )
    norms = [run.model.layers[0].layer[1] for run in (whole.run, usual.run)]
    torch.testing.assert_close(norms[0].weight, norms[1].weight, rtol=0, atol=0)
    assert not torch.allclose(norms[0].running_mean, norms[1].running_mean)


def test_evaluate_counts():
    class Fixed(nn.Module):  # without parameters
        def forward(self, x):
            return torch.eye(10)[x.long().flatten()]

    images = torch.tensor([0.0, 1, 2, 3]).view(4, 1)
    score = evaluate(Fixed(), (images, torch.tensor([0, 1, 2, 9])), loss=lambda o, y: o.sum(), batch_size=3)
    assert score.accuracy == 0.75
    assert score.loss == (3 * 3 + 1 * 1) / 4


def test_checkpoint_holds_plain_values_and_replaces_in_one_step(tmp_path):
    settings, run = tiny()
    go(settings, run, 1, checkpoint=tmp_path / "deep" / "c.pt")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["c.pt"]
    content = torch.load(tmp_path / "deep" / "c.pt", weights_only=True)
    assert content["epoch"] == 1
    assert content["settings"]["num_steps"] == 3


def test_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    settings, run = tiny()
    go(settings, run, 1, checkpoint=tmp_path / "c.pt")

    def half(content, stream):
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        go(settings, run, 2, checkpoint=tmp_path / "c.pt")
    assert read_checkpoint(tmp_path / "c.pt")["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_weights_of_another_run_start_a_run(tmp_path):
    settings, run = tiny()
    go(settings, run, 1, checkpoint=tmp_path / "c.pt")
    _, other = tiny(seed=5)
    load_weights(other.model, tmp_path / "c.pt")
    assert other.epoch == 0
    for one, two in zip(run.model.state_dict().values(), other.model.state_dict().values()):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load_weights(nn.Linear(2, 2), tmp_path / "c.pt")


def test_a_scheduler_that_wants_a_loss_steps_after_the_epoch():
    _, run = tiny()
    run.scheduler = plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(run.optimizer, patience=0)
    arguments = {"epochs": 3, "batch_size": 16, "loss": rate_error}
    with pytest.raises(TypeError, match="scheduler must step without a value"):
        fit(run, DATA, None, output=Output(**QUIET), **arguments)
    run.scheduler, before = None, run.optimizer.param_groups[0]["lr"]
    output = Output(after_epoch=lambda run: plateau.step(run.epoch), **QUIET)
    fit(run, DATA, None, output=output, **arguments)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(before / 100)


def test_a_checkpoint_may_be_named_by_a_string(tmp_path):
    settings, run = tiny()
    go(settings, run, 1, checkpoint=str(tmp_path / "c.pt"))
    assert read_checkpoint(tmp_path / "c.pt")["epoch"] == 1


def test_interrupt_leaves_a_checkpoint_that_resumes(tmp_path):
    command = [sys.executable, "-m", "snnfast", "train", "stbp", "--steps", "2", "--threads", "1"]
    command += ["--out", str(tmp_path), "--epochs", "400", "--batch-size", "200"]
    # A shell's background jobs ignore SIGINT, and so would what they start.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "curves.png").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pt")
    assert 1 <= checkpoint["epoch"] == len(checkpoint["history"])


def test_losses_and_their_sum_are_not_in_bfloat16():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    run = Run(model, torch.optim.SGD(model.parameters(), lr=0.0), precision=torch.bfloat16)
    seen = []

    def loss(scores, labels):
        seen.append(scores.dtype)
        return nn.functional.cross_entropy(scores, labels)

    images, labels = (torch.cat([part] * 25) for part in DATA)
    fit(run, (images, labels), (images, labels), epochs=1, batch_size=2, loss=loss, output=Output(**QUIET))
    assert set(seen) == {torch.float32}
    expected = nn.functional.cross_entropy(model(images), labels).item()
    assert run.history[0]["loss"] == pytest.approx(expected, rel=1e-3)
    assert run.history[0]["held_out_loss"] == pytest.approx(expected, rel=1e-3)
