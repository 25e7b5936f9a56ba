"""Several processes, as ``torchrun`` starts them, train one network together, or each its own seeds."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from torchrun import children, torchrun

from snnfast import procedure
from snnfast.train import Output, Run, fit
from snnfast_zoo.train.place import CHECKPOINT
from snnfast_zoo.train.processes import Processes
from snnfast_zoo.train.result import RESULT

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="PyTorch without Gloo"),
]
# Several commands in one start of the processes.
COMMANDS = """
import sys
import torch
from snnfast_zoo import cli
from snnfast_zoo.train.processes import joined

with joined(torch.device("cpu")):
    for command in sys.argv[1:]:
        cli.app([*command.split("|"), "--device", "cpu"], standalone_mode=False)
"""


HOW = {"hidden": (60,), "epochs": 4, "batch_size": 32, "batch_norm": True, "encoding": "bernoulli"}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Train a network together, divide seeds, and begin a run without end, in which a process is killed."""
    folder = tmp_path_factory.mktemp("together")
    program = folder / "program.py"
    program.write_text(COMMANDS)
    process = torchrun(
        2,
        program,
        "train|stbp|--hidden|60|--batch-size|32|--batch-norm|--encoding|bernoulli|--epochs|4|--out|together",
        "train|spikeprop|--dataset|xor|--epochs|3|--seeds|3|--out|seeds",
        "train|stbp|--hidden|8|--steps|2|--batch-size|200|--epochs|100000|--out|endless",
        folder=folder,
    )
    try:
        deadline = time.monotonic() + 240
        while not (folder / "endless" / "curves.png").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(children(process)[-1], signal.SIGKILL)
        said, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return SimpleNamespace(folder=folder, code=process.returncode, said=said, errors=errors)


def test_two_processes_reach_the_accuracy_of_one(together):
    out = together.folder / "together"
    alone = procedure.stbp("digits", **HOW, echo=None, progress=False)
    assert together.said.count("test accuracy") == 2, "one process tells"
    result = json.loads((out / RESULT).read_text())
    assert alone.accuracy > 0.9
    assert result["accuracy"] == pytest.approx(alone.accuracy, abs=0.03)
    # Counts are those of all images: the last image of an odd number is presented twice.
    assert result["history"][-1]["held_out_accuracy"] == pytest.approx(result["accuracy"], abs=0.02)
    assert [row["lr"] for row in result["history"]] == [row["lr"] for row in alone.run.history]
    # One process goes on with a checkpoint of two.
    assert procedure.stbp("digits", **HOW, out=out, resume=True, echo=None, progress=False).run.epoch == 4


def test_two_processes_divide_seeds(together):
    rows = json.loads((together.folder / "seeds" / "results.json").read_text())["runs"]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    for row in rows:
        one = procedure.spikeprop("xor", epochs=3, seed=row["seed"], echo=None, progress=False)
        assert row["accuracy"] == one.accuracy


def test_a_killed_process_ends_the_run(together):
    assert together.code != 0
    assert "SIGKILL" in together.errors or "-9" in together.errors
    assert (together.folder / "endless" / CHECKPOINT).is_file()


def test_a_rule_of_its_own_has_one_process():
    several = Processes(0, 2)
    with pytest.raises(ValueError, match=r"^fit: a rule of its own trains in one.*--seeds"):
        fit(Run(torch.nn.Linear(1, 1)), (torch.zeros(1, 1), torch.zeros(1)), None, epochs=1, batch_size=1,
            step=lambda x, y: (x, None), output=Output(processes=several))  # fmt: skip


@pytest.mark.parametrize(("size", "total"), [(2, 5), (3, 2), (4, 8), (5, 2)])
def test_shares_have_one_length_and_hold_every_sample(size, total):
    shares = []
    for rank in range(size):
        shares.append(Processes(rank, size).share(torch.arange(total)).tolist())
    assert {len(share) for share in shares} == {-(-total // size)}
    assert {sample for share in shares for sample in share} == set(range(total))
