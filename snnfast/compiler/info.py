"""Build information: the components of this installation of snnfast, and the kernels it will run."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any, get_args

import torch

from snnfast import backend
from snnfast.backend import devices

from . import build

__all__ = ["build_info"]


def build_info() -> dict[str, Any]:
    """Versions, instruction set, CUDA architectures, and which kernels run here and why.

    Returns:
        Plain values by name. Those of the compiled extension (``cpu_isa`` to ``torch_headers``) are None if it did not
        load; ``extension_problem`` then says why. ``cpu_backend`` and ``cuda_backend`` say what runs for tensors on
        that device, and the ``_why`` beside them the reason; ``auto_batches`` and ``auto_plasticity`` the device that
        ``--device auto`` takes for that kind of work. ``cache`` is the folder of compiled neurons.
    """
    C = backend.extension
    driver, runtime = (0, 0) if C is None else C.cuda_versions()
    autos = {work: devices.auto(work) for work in get_args(devices.Work)}
    cpu_backend, cpu_why = _choice("cpu")
    cuda_backend, cuda_why = _choice("cuda")
    libraries, size = build.cached()
    return {
        "snnfast": version("snnfast"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "extension": None if C is None else C.__file__,
        "extension_problem": backend.load_problem,
        "cpu_isa": None if C is None else C.cpu_isa(),
        "cpu_isa_problem": None if C is None else C.cpu_isa_problem(),
        "with_cuda": None if C is None else C.with_cuda,
        "cuda_archs": None if C is None else C.cuda_archs,
        "cuda_compiler": None if C is None else C.cuda_compiler,
        "cuda_driver": release(driver),
        "cuda_runtime": release(runtime),
        "cuda_driver_problem": None if C is None else C.cuda_driver_problem(),
        "compiler": None if C is None else C.compiler,
        "torch_headers": None if C is None else C.torch_headers,
        "torch_has_cuda": None if C is None else C.torch_has_cuda(),
        "cache": str(build.folder()),
        "cache_libraries": libraries,
        "cache_bytes": size,
        "cpu_backend": cpu_backend,
        "cpu_backend_why": cpu_why,
        "cuda_backend": cuda_backend,
        "cuda_backend_why": cuda_why,
        **{f"auto_{work}": str(choice.device) for work, choice in autos.items()},
        **{f"auto_{work}_why": choice.why for work, choice in autos.items()},
    }


def release(version: int) -> str | None:
    """Format a CUDA version, ``"12.4"`` for 12040; None for 0."""
    return f"{version // 1000}.{version % 1000 // 10}" if version else None


def _choice(device: str) -> tuple[str | None, str]:
    if device == "cuda" and (problem := devices.gpu_problem()):
        return None, problem
    try:
        return backend.choose("lif", torch.empty(1, 1, device=device))
    except backend.BackendError as error:
        return None, str(error)
