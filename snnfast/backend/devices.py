"""Device of ``--device auto``: of those present, the faster one for a kind of work."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from snnfast import backend

__all__ = ["Choice", "Work", "auto", "gpu_problem"]

Work = Literal["batches", "plasticity"]

# Plasticity of one network processes its images in order: 1 or 8 blocks of a GPU work while the others wait, against a
# core of the CPU with twice the clock. Milliseconds per image of diehl_cook_, 400 neurons and 250 steps; those of the
# GPU are not measured but estimated from the machine code for an H100. scripts/gpu.py measures both (docs/gpu.md).
PLASTICITY_CPU, PLASTICITY_GPU = 0.055, 0.2


class Choice(NamedTuple):
    """A device, and the reason for it."""

    device: torch.device
    why: str


def gpu_problem() -> str:
    """Return why there is no GPU that PyTorch sees; empty if there is one."""
    if torch.cuda.is_available():
        return ""
    if not torch.version.cuda:
        return f"PyTorch {torch.__version__}, which is a build without CUDA, sees no GPU"
    try:
        torch.cuda.init()  # distinguishes a missing driver from an old one
    except RuntimeError as error:
        why = str(error).partition(". ")[0]
        return f"PyTorch {torch.__version__} sees no GPU ({why})"
    return f"PyTorch {torch.__version__} sees no GPU"


def auto(work: Work) -> Choice:
    """Choose the device for a kind of work.

    Args:
        work: ``"batches"``: many samples at a time, in training by gradients, conversion and inference;
            ``"plasticity"``: a network that learns from one image after the other, or several at once, for which no
            GPU has been measured.
    """
    problem = gpu_problem() or backend.why_not("cuda")
    if problem:
        return Choice(torch.device("cpu"), problem)
    if work == "plasticity":
        return Choice(
            torch.device("cpu"),
            "one network learns faster on the CPU: an image of diehl_cook_ of 400 neurons takes one thread "
            f"{PLASTICITY_CPU:g} ms, and an H100 at least {PLASTICITY_GPU:g} ms by its machine code",
        )
    return Choice(torch.device("cuda"), "a GPU is there, and batches fill it")
