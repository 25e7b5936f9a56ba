"""Programs that ``export_c`` wrote, compiled and called by the tests."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import torch

COMPILER = shutil.which("cc")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc)")


def compiled(folder, *options):
    subprocess.run([COMPILER, *STRICT, *options], cwd=folder, check=True)


def run(folder, x, outputs):
    """The program on every sample of ``x [T, B, ...]``: what it gives after every step."""
    compiled(folder, "-O1", "-shared", "-fPIC", "-o", "snn.so", "snn.c")
    program = ctypes.CDLL(str(folder / "snn.so"))
    frames = np.ascontiguousarray(x.numpy().reshape(*x.shape[:2], -1))
    result = np.full((*x.shape[:2], outputs), np.nan, np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    for b in range(x.shape[1]):
        program.snn_reset()
        for t in range(len(x)):
            program.snn_step(frames[t, b].ctypes.data_as(pointer), result[t, b].ctypes.data_as(pointer))
    return torch.from_numpy(result)
