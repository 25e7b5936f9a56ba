"""Several processes, as ``torchrun`` starts them, train one network together, or each its own seeds."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

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


def torchrun(*commands, folder):
    """Start two processes that run ``commands`` one after the other."""
    program = folder / "program.py"
    program.write_text(COMMANDS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program, *commands]
    return subprocess.Popen(
        [str(word) for word in words], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes_reach_the_accuracy_of_one_and_divide_seeds(tmp_path):
    how = {"hidden": (60,), "epochs": 4, "batch_size": 32, "batch_norm": True, "encoding": "bernoulli"}
    alone = procedure.stbp("digits", **how, echo=None, progress=False)
    out, seeds = tmp_path / "together", tmp_path / "seeds"
    options = "--hidden|60|--batch-size|32|--batch-norm|--encoding|bernoulli|--epochs|4"
    xor = f"train|spikeprop|--dataset|xor|--epochs|3|--seeds|3|--out|{seeds}"
    process = torchrun(f"train|stbp|{options}|--out|{out}", xor, folder=tmp_path)
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert said.count("test accuracy") == 2, "one process tells"
    result = json.loads((out / RESULT).read_text())
    assert alone.accuracy > 0.9
    assert result["accuracy"] == pytest.approx(alone.accuracy, abs=0.03)
    # Counts are those of all images: the last image of an odd number is presented twice.
    assert result["history"][-1]["held_out_accuracy"] == pytest.approx(result["accuracy"], abs=0.02)
    assert [row["lr"] for row in result["history"]] == [row["lr"] for row in alone.run.history]
    # One process goes on with a checkpoint of two.
    assert procedure.stbp("digits", **how, out=out, resume=True, echo=None, progress=False).run.epoch == 4
    rows = json.loads((seeds / "results.json").read_text())["runs"]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    for row in rows:
        one = procedure.spikeprop("xor", epochs=3, seed=row["seed"], echo=None, progress=False)
        assert row["accuracy"] == one.accuracy


def test_a_killed_process_ends_the_run(tmp_path):
    command = f"train|stbp|--hidden|8|--steps|2|--batch-size|200|--epochs|100000|--out|{tmp_path / 'run'}"
    process = torchrun(command, folder=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "curves.png").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "SIGKILL" in errors or "-9" in errors
    assert (tmp_path / "run" / CHECKPOINT).is_file()


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
