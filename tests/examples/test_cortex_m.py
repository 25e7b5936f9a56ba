"""The example for a Cortex-M builds without a library, and gives in an emulated one what PyTorch gives."""

import shutil
import subprocess
from pathlib import Path

import pytest
from interpreter import program, python

EXAMPLES = Path(__file__).parents[2] / "examples"
TOOLS = ("make", "arm-none-eabi-gcc", "qemu-system-arm")


@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_the_firmware_is_equal_to_pytorch(tmp_path):
    folder = tmp_path / "cortex_m"
    shutil.copytree(EXAMPLES / "cortex_m", folder)
    said = python(program(folder / "train.py"), "firmware", "--epochs", "1", cwd=folder).stdout
    assert "% of the held-out digits" in said
    done = subprocess.run(["make", "run"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert "equal to PyTorch" in done.stdout + done.stderr
    assert done.returncode == 0
    symbols = subprocess.run(["arm-none-eabi-nm", "snn.elf"], cwd=folder, capture_output=True, text=True).stdout
    assert not [line for line in symbols.splitlines() if line.split()[-1].startswith("__")]


def test_the_script_writes_a_program(tmp_path):
    python(program(EXAMPLES / "cortex_m" / "train.py"), "firmware", "--epochs", "0", cwd=tmp_path)
    assert {"snn.c", "snn.h", "expected.h"} <= {file.name for file in (tmp_path / "firmware").iterdir()}
