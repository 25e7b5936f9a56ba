"""Backends of this machine and this build."""

from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import fake_cuda
import torch

from snnfast import backend, testing

KERNELS = ("cpu", "cuda_emulation", "cuda")


class Backend(NamedTuple):
    name: str
    device: str

    @property
    def exact(self) -> bool:
        """Whether it must equal the reference on the CPU bit for bit."""
        return self.device == "cpu"

    @property
    def ops(self):
        """The kernels as operators of PyTorch."""
        emulated = self.name == "cuda_emulation"
        return torch.ops.snnfast_emulated if emulated else torch.ops.snnfast


def why_absent(name):
    if name == "reference":
        return ""
    if backend.extension is None:
        return backend.load_problem
    if name == "cuda_emulation" and not testing.load_cuda_emulation():
        return "built without SNNFAST_EMULATION=1"
    if name == "cuda" and fake_cuda.WANTED:
        return why_absent("cuda_emulation")
    if name == "cuda" and not backend.extension.with_cuda:
        return "built without CUDA kernels"
    if name == "cuda" and not torch.cuda.is_available():
        return "no CUDA device"
    return ""


# Absent backends are excluded; tests/robustness/test_backends_present.py skips or fails for each.
PRESENT = [name for name in KERNELS if not why_absent(name)]

CPU = [name for name in PRESENT if name == "cpu"]  # for ops with kernels for the CPU alone


@contextmanager
def force(name):
    fake = fake_cuda.present() if name == "cuda" and fake_cuda.WANTED else nullcontext()
    with fake, backend.use(name):
        yield Backend(name, "cuda" if name == "cuda" else "cpu")


def placed(value):
    """Return a tensor, or the tensors in a dictionary, where the forced backend has its input."""
    if isinstance(value, dict):
        return {name: placed(inner) for name, inner in value.items()}
    return value.to("cuda") if isinstance(value, torch.Tensor) and backend.forced() == "cuda" else value


def fetched(value):
    """Return a tensor, or those in a list, tuple or dictionary, on the CPU; nothing else changes."""
    if isinstance(value, dict):
        return {name: fetched(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fetched(inner) for inner in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value
