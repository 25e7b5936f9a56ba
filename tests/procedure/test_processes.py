"""Several processes, as ``torchrun`` starts them, train one network together, or seeds side by side."""

import json

import numpy as np
import pytest
import torch
from interpreter import Interpreter

from snnfast.processes import Processes
from snnfast.train import Run, fit
from snnfast_zoo.papers import procedures as procedure

# Several commands in one start of two processes.
COMMANDS = """
import os, sys
from torch import distributed
from snnfast_zoo.cli import app

numbers = {"rank": int(os.environ["RANK"]), "world_size": 2}
import torch._dynamo  # as snnfast.processes.together does
distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], **numbers)
for command in sys.argv[2:]:
    app([*command.split("|"), "--device", "cpu"], standalone_mode=False)  # else a GPU for each, and there may be one
distributed.destroy_process_group()
"""
STBP = {
    "hidden": (60,),
    "num_steps": 8,
    "encoding": "bernoulli",
    "epochs": 3,
    "batch_size": 16,
    "shift": 1.0,
    "lr": 0.005,
    "batch_norm": True,
}


@pytest.fixture
def images(tmp_path):
    """Write 37 images in three classes: the last batch has 5, of which the processes get 3 and 2."""
    rng = np.random.default_rng(0)
    labels = np.arange(37) % 3
    x = (rng.random((37, 1, 6, 6)) * 150).astype(np.uint8)
    x[np.arange(37), :, 2 * labels] = 255
    path = tmp_path / "own.npz"
    np.savez(path, train_images=x, train_labels=labels, test_images=x[:11], test_labels=labels[:11])
    return path


def two(commands, folder):
    """Run ``commands`` in two processes and return the output of each."""
    variables = {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        Interpreter(COMMANDS, folder / "store", *commands, RANK=rank, LOCAL_RANK=rank, **variables)
        for rank in ("0", "1")
    ]
    return [process.wait().stdout for process in processes]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="PyTorch without Gloo")
def test_two_processes_train_as_one_and_seeds_side_by_side(images, tmp_path, monkeypatch):
    dataset = str(images)
    alone = procedure.stbp(dataset, **STBP, echo=None, progress=False)
    out, seeds = tmp_path / "together", tmp_path / "seeds"

    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupt(run: Run) -> None:
        raise Interrupted

    # One epoch in this process alone; two more in two.
    settings = procedure.stbp.preset(dataset, **STBP)
    data = procedure.stbp.load(settings)
    run = procedure.stbp.prepare(settings, data)
    out.mkdir()
    how = procedure.stbp.learning(settings, run, data)
    with pytest.raises(Interrupted):
        fit(run, data.train, data.held_out, epochs=3, **how, checkpoint=out / "checkpoint.pt",
            after_epoch=interrupt, echo=None, progress=False)  # fmt: skip

    options = [
        f"--dataset|{dataset}",
        "--hidden|60",
        "--steps|8",
        "--encoding|bernoulli",
        "--epochs|3",
        "--shift|1",
        "--lr|0.005",
        "--batch-norm",
    ]
    stbp = "|".join(["train", "stbp", *options, "--batch-size|16", f"--out|{out}", "--resume"])
    xor = f"train|spikeprop|--dataset|xor|--epochs|3|--seeds|3|--out|{seeds}"
    # The last batch of 12 has one image, so that one process gets none. The network of vgg16 has batch norm, and uses
    # SGD, because Adam makes large steps from gradients that are only rounding errors.
    others = {
        "diehl2015": {"network": "dense", "batch_size": 12, "dropout": 0.3},
        "sequence": {"hidden": 20, "batch_size": 12},
        "vgg16": {"optimizer": "sgd", "lr": 0.02, "batch_size": 16, "dropout": 0.3},
    }
    rest = [
        f"train|{name}|--dataset|{dataset}|--epochs|2|--out|{tmp_path / name}"
        + "".join(f"|--{key.replace('_', '-')}|{value}" for key, value in changes.items())
        for name, changes in others.items()
    ]
    first, second = two([stbp, xor, *rest], tmp_path)
    assert first.count("test accuracy") == 5
    assert not second, "one process tells"
    for name, changes in others.items():
        found = json.loads((tmp_path / name / "result.json").read_text())["history"]
        if "hidden" in changes:
            changes["hidden"] = (changes["hidden"],)
        want = getattr(procedure, name)(dataset, **changes, epochs=2, echo=None, progress=False)
        losses = [row["loss"] for row in want.run.history]
        assert [row["loss"] for row in found] == pytest.approx(losses, rel=1e-4), name

    result = json.loads((out / "result.json").read_text())
    assert len({row["loss"] for row in result["history"]}) == 3
    # By rounding, an output may spike once more or less: its rate over 8 steps changes by 1/8, its squared error by
    # 17/64 at most, and an image may be classified differently. There are 37 training images, 11 held out, 3 classes.
    for mine, theirs in zip(result["history"], alone.run.history):
        for part, images in (("", 37), ("held_out_", 11)):
            loss, accuracy = part + "loss", part + "accuracy"
            per_spike = 17 / 64 / (3 * images)
            assert mine[loss] == pytest.approx(theirs[loss], rel=1e-4, abs=per_spike), loss
            assert mine[accuracy] == pytest.approx(theirs[accuracy], abs=1.01 / images), accuracy
    assert result["accuracy"] == pytest.approx(alone.accuracy, abs=1.01 / 11)
    # A checkpoint of two processes resumes in one.
    _, again, _ = procedure.stbp.reopen(out)
    assert again.epoch == 3

    rows = json.loads((seeds / "results.json").read_text())["runs"]
    want = procedure.spikeprop.repeat(
        procedure.spikeprop.preset("xor", epochs=3), range(3), tmp_path / "alone", progress=False
    )
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in want.runs]


def test_a_rule_of_its_own_has_one_process():
    run = Run(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"^fit: a rule with a step of its own trains in one.*--seeds"):
        fit(run, (torch.zeros(1, 1), torch.zeros(1)), None, epochs=1, batch_size=1,
            step=lambda x, y: (x, None), processes=object())  # fmt: skip


@pytest.mark.parametrize(("size", "total"), [(2, 5), (3, 2), (4, 8)])
def test_shares_follow_each_other(size, total):
    shares = []
    for rank in range(size):
        process = object.__new__(Processes)
        process.rank, process.size = rank, size
        shares.append(range(total)[process.share(total)])
    assert [i for share in shares for i in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
