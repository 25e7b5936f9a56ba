"""The example for a Cortex-M builds without a library, and gives in an emulated one what PyTorch gives."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from interpreter import program, python
from torch import nn

import snnfast
from snnfast.export import integer
from snnfast.nn import LI, AdLIF, Last, Recurrent, Time, calibrate_, quantize

EXAMPLES = Path(__file__).parents[2] / "examples"
TOOLS = ("make", "arm-none-eabi-gcc", "qemu-system-arm")


needs_tools = pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")


def symbols(folder):
    listed = subprocess.run(["arm-none-eabi-nm", "snn.elf"], cwd=folder, capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in listed.stdout.splitlines()]


@needs_tools
def test_the_firmware_is_equal_to_pytorch(tmp_path):
    folder = tmp_path / "cortex_m"
    shutil.copytree(EXAMPLES / "cortex_m", folder)
    said = python(program(folder / "train.py"), "firmware", "--epochs", "1", cwd=folder).stdout
    assert "% of the held-out digits" in said
    done = subprocess.run(["make", "run"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert "equal to PyTorch" in done.stdout + done.stderr
    assert done.returncode == 0
    assert not [name for name in symbols(folder) if name.startswith("__")]


@needs_tools
def test_recurrent_adaptive_neurons_are_equal_to_pytorch(tmp_path):
    steps, folder = 40, tmp_path / "cortex_m"
    shutil.copytree(EXAMPLES / "cortex_m", folder)
    torch.manual_seed(0)
    net = nn.Sequential(
        Time(nn.Linear(8, 30)), Recurrent(AdLIF(30), 30, max_delay=5.0), Time(nn.Linear(30, 5)), LI(), Last()
    )
    x = (torch.rand(10, 8) < 0.3).to(torch.int8)
    frames = x.expand(steps, *x.shape)
    calibrate_(net, frames.float(), 0.2)
    whole = integer(quantize(net).eval())
    assert whole[:2](frames).float().mean() > 0.05
    snnfast.export_c(whole, folder / "firmware")
    array = runpy.run_path(str(folder / "train.py"))["array"]
    text = array("int8_t", "images", x) + array("int32_t", "outputs", whole(frames))
    (folder / "firmware" / "expected.h").write_text(f"#define STEPS {steps}\n{text}")
    done = subprocess.run(["make", "run"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert "equal to PyTorch" in done.stdout + done.stderr
    assert done.returncode == 0
    assert not [name for name in symbols(folder) if name.startswith("__")]  # functions of floating point


def test_the_script_writes_a_program(tmp_path):
    python(program(EXAMPLES / "cortex_m" / "train.py"), "firmware", "--epochs", "0", cwd=tmp_path)
    assert {"snn.c", "snn.h", "expected.h"} <= {file.name for file in (tmp_path / "firmware").iterdir()}
