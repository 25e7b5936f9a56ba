"""Errors of training: checkpoints of other runs, files that are not checkpoints, arguments and settings."""

import pytest
import torch
from procedures import quiet
from torch import nn
from train_cases import DATA, QUIET, tiny

from snnfast.train import Output, Run, fit
from snnfast_zoo.papers.procedures import stbp
from snnfast_zoo.papers.wu2018.train import rate_error
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def test_recalibration_of_a_model_without_batch_norm_is_refused_before_it_learns():
    settings = stbp.preset("digits", recalibrate=True, epochs=10**6)
    with pytest.raises(ValueError, match="recalibrate needs batch normalisation, the model"):
        quiet(stbp, settings)


def test_other_settings_are_refused_and_named(tmp_path):
    _, run = tiny()
    run.save(tmp_path / "c.pt")
    _, other = tiny(seed=5)
    with pytest.raises(CheckpointError, match="seed: 0 there, 5 here"):
        other.load(tmp_path / "c.pt")


def test_checkpoint_of_another_network_is_refused(tmp_path):
    _, run = tiny()
    run.settings, run.kind = {}, "run"
    run.save(tmp_path / "c.pt")
    model = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        Run(model, torch.optim.Adam(model.parameters())).load(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_bad_checkpoint_files_are_refused(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pt is no readable checkpoint: it is damaged"):
        read_checkpoint(tmp_path / "c.pt")


def test_truncated_checkpoint_is_refused(tmp_path):
    _, run = tiny()
    run.save(tmp_path / "c.pt")
    whole = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"c\.pt is no readable checkpoint: it is damaged"):
        read_checkpoint(tmp_path / "c.pt")


def test_foreign_and_missing_checkpoints_are_refused(tmp_path):
    torch.save({"weights": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        read_checkpoint(tmp_path / "c.pt")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"train": (DATA[0], DATA[1][:7])}, "train must hold as many labels as images, got 40 images and 7 l"),
        ({"held_out": (DATA[0][:7], DATA[1])}, "held_out must hold as many labels as images, got 7"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"loss": None, "step": lambda x, y: (x, None)}, "held_out needs a loss to score it by, got loss=None"),
        ({"loss": None, "held_out": None}, "give run an optimizer and fit a loss, or give fit a step"),
        ({"train": (DATA[0][:0], DATA[1][:0])}, "train holds no images"),
        ({"loss": lambda o, y: o.sum() * float("nan")}, "the loss became nan in epoch 1/1"),
    ],
)
def test_fit_names_what_is_wrong(change, message):
    _, run = tiny()
    arguments = {"train": DATA, "held_out": DATA, "epochs": 1, "batch_size": 16, "loss": rate_error}
    with pytest.raises(ValueError, match=message):
        fit(run, **(arguments | change), output=Output(**QUIET))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clip", -1.0, "fit: clip must be positive, got -1"),
        ("precision", "bf16", "precision must be torch.float32 or torch.bfloat16, got 'bf16'"),
        ("precision", torch.float16, "precision must be .*, got torch.float16"),
    ],
)
def test_fit_names_what_is_wrong_with_a_run(field, value, message):
    _, run = tiny()
    setattr(run, field, value)
    with pytest.raises(ValueError, match=message):
        fit(run, DATA, DATA, epochs=1, batch_size=16, loss=rate_error, output=Output(**QUIET))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 1.5}, "fit: epochs must be an integer, got float"),
        ({"batch_size": 2.5}, "fit: batch_size must be an integer, got float"),
    ],
)
def test_fit_names_what_is_of_the_wrong_type(change, message):
    _, run = tiny()
    arguments = {"train": DATA, "held_out": DATA, "epochs": 1, "batch_size": 16, "loss": rate_error}
    with pytest.raises(TypeError, match=message):
        fit(run, **(arguments | change), output=Output(**QUIET))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "cifar"}, "dataset must be one of digits, mnist, or your own: "),
        ({"epochs": -3}, "epochs must be at least 0, got -3"),
        ({"lr": 0.0}, "lr must be more than 0, got 0.0"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
        ({"shift": -1.0}, "shift must be at least 0, got -1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_settings_name_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        stbp.Settings(**change)
