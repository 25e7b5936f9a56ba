"""Device of ``--device auto``: of those present, the faster one for a kind of work."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from snnfast import backend

__all__ = ["Choice", "Work", "auto", "gpu_problem", "present"]

Work = Literal["batches", "plasticity"]


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


def present(device: torch.device | str, argument: str = "device", also: str = "") -> torch.device:
    """Return a device of the CPU or a GPU that is there.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        argument: its name in errors.
        also: other names that the argument takes, for errors.

    Raises:
        ValueError: for another device, or a GPU that is not there.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"{argument} must be {also}cpu, cuda or cuda:N, got {str(device)!r}")
    if found.type == "cuda":
        if problem := gpu_problem():
            raise ValueError(f"{argument} {found} was asked for, but {problem}; use {argument.split()[-1]} cpu")
        if (found.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"{argument} {found}: there are {torch.cuda.device_count()} GPUs")
    return found


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
            "a network that learns from one image after the other is a single block of a GPU, whose other "
            "multiprocessors wait, and no GPU has been measured",
        )
    return Choice(torch.device("cuda"), "a GPU is there, and batches fill it")
