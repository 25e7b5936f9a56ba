"""Programs written by ``export_c``, compiled and called by tests.

For another processor ``SNNFAST_TEST_CC`` is a cross compiler, ``SNNFAST_TEST_EMULATOR`` runs its programs: see
``docs/testing.md``.
"""

import ctypes
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch

COMPILER = shutil.which(os.environ.get("SNNFAST_TEST_CC", "cc"))
EMULATOR = os.environ.get("SNNFAST_TEST_EMULATOR")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc)")
runs_here = pytest.mark.skipif(EMULATOR is not None, reason="runs the program without the emulator")


def compiled(folder, *options):
    subprocess.run([COMPILER, *STRICT, *options], cwd=folder, check=True)


def loaded(folder):
    compiled(folder, "-O1", "-shared", "-fPIC", "-o", "snn.so", "snn.c")
    return ctypes.CDLL(str(folder / "snn.so"))


def run(folder, x, outputs, kind=np.float32, program=None):
    """Run the program on every sample of ``x [T, B, ...]``; return its outputs after every step, of dtype ``kind``.

    If ``x`` is expanded over time, the program only gets the first frame.
    """
    frames = np.ascontiguousarray(x.numpy().reshape(*x.shape[:2], -1))
    result = np.full((*x.shape[:2], outputs), -1, kind)
    once = x.stride(0) == 0
    if EMULATOR and program is None:
        return emulated(folder, frames, result, once)
    program = program or loaded(folder)
    for b in range(x.shape[1]):
        program.snn_reset()
        for t in range(len(x)):
            frame = None if once and t else ctypes.c_void_p(frames[t, b].ctypes.data)
            program.snn_step(frame, ctypes.c_void_p(result[t, b].ctypes.data))
    return torch.from_numpy(result)


DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include "snn.h"
int main(int count, char** sizes) {
  const long steps = atol(sizes[1]), batch = atol(sizes[2]), in = atol(sizes[3]), out = atol(sizes[4]);
  const int once = count > 5;
  void *frame = malloc((size_t)in), *result = malloc((size_t)out);
  for (long b = 0; b < batch; b++) {
    snn_reset();
    for (long t = 0; t < steps; t++) {
      if (fread(frame, 1, (size_t)in, stdin) != (size_t)in) return 1;
      snn_step(once && t ? NULL : frame, result);
      fwrite(result, 1, (size_t)out, stdout);
    }
  }
  return 0;
}
"""


def emulated(folder, frames, result, once):
    """Run the program in ``folder`` by the emulator, as :func:`run` does here."""
    (folder / "driver.c").write_text(DRIVER)
    compiled(folder, "-O1", "-static", "-o", "driver", "driver.c", "snn.c", "-lm")
    steps, batch = frames.shape[:2]
    sizes = [steps, batch, frames[0, 0].nbytes, result[0, 0].nbytes, *(["once"] if once else [])]
    by_sample = frames.swapaxes(0, 1).tobytes()
    done = subprocess.run(
        [EMULATOR, "./driver", *map(str, sizes)], cwd=folder, input=by_sample, capture_output=True, check=True
    )
    by_sample = np.frombuffer(done.stdout, result.dtype).reshape(batch, steps, -1)
    return torch.from_numpy(by_sample.swapaxes(0, 1).copy())
