"""Programs written by ``export_c``, compiled and called by tests."""

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


def loaded(folder):
    compiled(folder, "-O1", "-shared", "-fPIC", "-o", "snn.so", "snn.c")
    return ctypes.CDLL(str(folder / "snn.so"))


def run(folder, x, outputs, kind=np.float32, program=None):
    """Run the program on every sample of ``x [T, B, ...]``; return its outputs after every step, of dtype ``kind``.

    If ``x`` is expanded over time, the program only gets the first frame.
    """
    program = program or loaded(folder)
    frames = np.ascontiguousarray(x.numpy().reshape(*x.shape[:2], -1))
    result = np.full((*x.shape[:2], outputs), -1, kind)
    once = x.stride(0) == 0
    for b in range(x.shape[1]):
        program.snn_reset()
        for t in range(len(x)):
            frame = None if once and t else ctypes.c_void_p(frames[t, b].ctypes.data)
            program.snn_step(frame, ctypes.c_void_p(result[t, b].ctypes.data))
    return torch.from_numpy(result)
