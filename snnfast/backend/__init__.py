"""Choice of the implementation: the CPU kernels, the CUDA kernels, or the plain PyTorch reference.

The device of the input decides. ``SNNFAST_BACKEND=cpu|cuda|reference`` (read at import) or :func:`use` forces one and
makes it an error when it cannot run. Otherwise a call that no kernel can run takes the reference, with one warning that
says why: a fallback is never silent. ``torch.onnx.export`` always takes the reference, since ONNX has none of these
kernels.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnfast import check

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BackendError", "BackendWarning", "explain", "use"]

OPS: set[str] = set()  # the names of all ops
# Ops with kernels for the CPU alone: on other devices PyTorch's operators, or for the last ones the reference.
CPU_ONLY = ("batch_norm", "pool2d", "spike_conv2d", "spike_linear")
BY_REFERENCE = ("diehl_cook_ with conductances", "integer_lif")
# Environment variables, without the prefix SNNFAST_.
VARIABLES = ("BACKEND", "CACHE_DIR", "CPU_CACHE_MB", "CPU_ISA")
BACKENDS = ("cpu", "cuda", "reference", "cuda_emulation")


class BackendError(RuntimeError):
    """The backend that was asked for cannot run."""


class BackendWarning(UserWarning):
    """A call runs in the reference because no kernel can run it."""


def _load() -> tuple[Any, str]:
    try:
        from snnfast import _C
    except ImportError as error:
        package = Path(__file__).parents[1]
        built = any((package / f"_C{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
        if not built and (package.parent / "csrc").is_dir():
            return None, (
                f"the source folder {package.parent} is imported, in which nothing is built for this Python. Build it "
                "with 'pip install -e .' there, or start Python elsewhere to import what is installed"
            )
        return None, (
            f"the compiled extension snnfast._C did not load ({error}). Build it with "
            "'pip install .' in the source folder, for the Python that runs this"
        )
    if not _C.cpu_isas():
        return None, (
            f"the CPU kernels of snnfast._C are for a newer processor than this one ({_C.cpu_isa()}). Build it here "
            "with 'pip install .', or elsewhere for all processors with SNNFAST_BEST_ISA=avx512"
        )
    return _C, ""


def _warn_of_variables() -> None:
    """Warn of environment variables that are misspelt or wrong; the extension reads them itself."""
    problems = []
    text = os.environ.get("SNNFAST_CPU_CACHE_MB", "0")
    if not (text.isascii() and text.isdecimal()):
        problems.append(f"SNNFAST_CPU_CACHE_MB must be a whole number of MiB, at least 0, got {text!r}; it counts as 0")
    elif sys.platform == "linux":  # elsewhere nothing is cached
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") >> 20
        # Compared by their lengths first: int() refuses thousands of digits.
        if len(digits := text.lstrip("0")) > len(str(most)) or int(digits or 0) > most:
            problems.append(
                f"SNNFAST_CPU_CACHE_MB must be at most the machine's memory of {most} MiB, got {text}; that counts"
            )
    for name in os.environ:
        word = name.removeprefix("SNNFAST_")
        close = [] if word in (name, *VARIABLES) else get_close_matches(word, VARIABLES, 1, 0.75)
        problems += [f"{name} is not read; is SNNFAST_{meant} meant?" for meant in close]
    for problem in problems:
        warnings.warn(problem, BackendWarning, stacklevel=2)
    if extension is not None and (problem := extension.cpu_isa_problem()):
        isa = os.environ["SNNFAST_CPU_ISA"]
        warnings.warn(f"{problem}, got {isa!r}; {extension.cpu_isa()} runs", BackendWarning, stacklevel=2)


extension, load_problem = _load()
_warn_of_variables()


def _from_environment() -> str | None:
    value = os.environ.get("SNNFAST_BACKEND") or None
    if value is not None and value not in BACKENDS:
        raise BackendError(f"SNNFAST_BACKEND must be one of cpu, cuda, reference, got {value!r}")
    return value


class _Force:
    """One block ``with use(backend)``."""

    def __init__(self, backend: str | None) -> None:
        self.backend = backend


_environment = _from_environment()
# Backends that this thread or task has forced, the innermost last.
_forces: ContextVar[tuple[_Force, ...]] = ContextVar("snnfast_backend", default=())
# The backend forced last, in any thread: torch.compile can guard a module variable, but no context variable.
_last = _environment
_warned: set[str] = set()


def forced() -> str | None:
    """Return the backend that this thread or task forces; None without one."""
    if torch.compiler.is_compiling():
        return _last
    forces = _forces.get()
    return forces[-1].backend if forces else _environment


@contextmanager
def use(backend: str | None) -> Iterator[None]:
    """Force ``backend`` (``"cpu"``, ``"cuda"``, ``"reference"``, or None for the default) inside a ``with`` block.

    It holds for this thread, or this asyncio task, and for no other. Compiled code follows the block that any thread
    entered or left last.

    Raises:
        ValueError: for any other name.
        BackendError: by the ops inside, where that backend cannot run.
    """
    global _last
    if backend is not None and not (isinstance(backend, str) and backend in BACKENDS):
        hint = check.suggestion(backend, BACKENDS[:3])
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS[:3])}, got {check.shown(backend)}{hint}")
    mine = _Force(backend)
    _forces.set((*_forces.get(), mine))
    _last = forced()
    try:
        yield
    finally:
        # Remove only this force: blocks around it may have ended in between.
        _forces.set(tuple(force for force in _forces.get() if force is not mine))
        _last = forced()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        check.warn(message, BackendWarning)


def why_not(kernel: str, device: int | None = None) -> str:
    """Return why `kernel` (cpu, cuda or cuda_emulation) cannot run here, whatever its input; empty if it can.

    ``device``: index of the GPU; None: PyTorch's current one.
    """
    if extension is None:
        return load_problem
    if kernel != "cuda":
        return ""
    if not extension.with_cuda:
        return "snnfast was built without CUDA kernels; rebuild with SNNFAST_CUDA=1 where nvcc is installed"
    # torch.compile cannot trace the extension; a launch reports the same problem.
    return "" if torch.compiler.is_compiling() else _driver_problem() or _card_problem(device)


@cache
def _driver_problem() -> str:
    problem: str = extension.cuda_driver_problem()
    return problem


@cache
def _card_problem(device: int | None) -> str:
    """Return why no kernel of this build runs on a GPU; empty if one does, or if PyTorch sees no GPU."""
    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability(device)
    if any(_runs_on(arch, 10 * major + minor) for arch in extension.cuda_archs.split(";")):
        return ""
    why = f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}"
    if major < 8:
        return f"{why}, and the CUDA kernels need 8.0 or later"
    return (
        f"{why}, for which snnfast was not built ({extension.cuda_archs}); rebuild it with "
        f"TORCH_CUDA_ARCH_LIST={major}.{minor}"
    )


def _runs_on(arch: str, capability: int) -> bool:
    """Return whether code for ``arch`` (of CMake) runs on a GPU: machine code in its major version, PTX also later."""
    number, letter = re.match(r"(\d+)([af]?)", arch).groups()  # type: ignore[union-attr]
    built = int(number)
    if letter == "a":
        return built == capability
    same = built // 10 == capability // 10
    return built <= capability and (same or not (arch.endswith("-real") or letter))


def _why_not(op: str, kernel: str, x: Tensor, surrogate: object) -> str:
    """Return why `kernel` cannot run ``op`` on `x`; empty if it can."""
    if op in BY_REFERENCE and kernel != "cpu":
        return "it has kernels for the CPU alone; move its tensors there"
    device = "cuda" if kernel == "cuda" else "cpu"
    if extension is not None and x.device.type != device:
        return f"the {kernel} kernels need input on {device}, got {x.device.type}"
    problem = why_not(kernel, x.device.index)
    if problem:
        return problem
    if surrogate is not None and not getattr(surrogate, "in_kernels", False):
        return "a surrogate of your own has no kernel"
    return ""


def choose(op: str, x: Tensor, surrogate: object = None) -> tuple[str, str]:
    """Return the backend that runs ``op`` on ``x``, and the reason."""
    kernel = x.device.type if x.device.type in ("cpu", "cuda") else "none"
    asked = forced()
    if asked == "reference":
        return "reference", "SNNFAST_BACKEND or snnfast.backend.use asks for it"
    if asked is None and torch.onnx.is_in_onnx_export():
        return "reference", "torch.onnx.export writes what ONNX has"
    wanted = asked or kernel
    if wanted == "none":
        return "reference", f"there are no kernels for device {x.device.type}"
    problem = _why_not(op, wanted, x, surrogate)
    if not problem:
        also = " and is what SNNFAST_BACKEND or snnfast.backend.use asks for" if asked else ""
        return wanted, f"x is on {x.device.type}{also}"
    if asked:
        raise BackendError(f"{op}: backend {asked!r} was asked for, but {problem}")
    return "reference", problem


def is_cuda(x: Tensor) -> bool:
    """Return whether kernels of CUDA, possibly emulated, would run on ``x``."""
    return x.is_cuda or forced() == "cuda_emulation"


def library(op: str, x: Tensor, surrogate: object = None) -> Any:
    """Return the namespace of kernels that runs ``op`` on ``x``, or None for the reference (a fallback warns once)."""
    if (
        extension is not None
        and x.is_cpu
        and (surrogate is None or getattr(surrogate, "in_kernels", False))
        and not torch.compiler.is_compiling()
        and not _forces.get()
        and _environment is None
    ):
        return torch.ops.snnfast  # the usual case, without the cost of a reason
    backend, why = choose(op, x, surrogate)
    if backend == "reference":
        if forced() != "reference" and not torch.onnx.is_in_onnx_export():
            _warn_once(f"{op} runs in plain PyTorch, which is slow: {why}")
        return None
    return torch.ops.snnfast_emulated if backend == "cuda_emulation" else torch.ops.snnfast


def explain(module_or_op: nn.Module | str | Any, *tensors: Tensor) -> str:
    """Name the kernels that run for an op or a module with these input tensors, with the reasons.

    Args:
        module_or_op: a module with layers of :mod:`snnfast.nn`, an op, also one of :func:`snnfast.neuron`, or the name
            of an op of the package.
        tensors: the input; the first one decides.

    Raises:
        ValueError: without tensors, or for an unknown op.

    Example:
        >>> print(snnfast.backend.explain("lif", torch.zeros(4, 8)))
        lif: CPU kernels (avx512): x is on cpu
    """
    from torch import nn

    if isinstance(module_or_op, nn.Module):
        layers = dict(module_or_op.named_modules())
        # The neurons of a recurrent layer run in its op.
        inside = [m.neuron for m in layers.values() if getattr(type(m), "op", "").endswith("recurrent")]
        rows: list[tuple[str, Any, object]] = []
        for name, module in layers.items():
            neuron, op = _own_neuron(module), getattr(type(module), "op", "")
            surrogate = getattr(module, "surrogate", getattr(module, "spike_function", None))
            if module not in inside and (neuron or op in OPS):
                label = neuron.name if neuron and op not in OPS else op
                rows.append((f"{name or type(module).__name__}: {label}", neuron or op, surrogate))
        if not rows:
            return f"{type(module_or_op).__name__} contains no snnfast layer"
    else:
        op = module_or_op if isinstance(module_or_op, str) else module_or_op.__name__
        neuron = None if isinstance(module_or_op, str) else _own_neuron(module_or_op)
        if neuron is None and op not in OPS:
            raise ValueError(f"explain: op must be one of {', '.join(sorted(OPS))}, got {op!r}")
        rows = [(op, neuron or op, None)]
    if not tensors:
        raise ValueError("explain: give the input tensors, so that device and dtype are known")
    return "\n".join(f"{label}: {_describe(op, tensors[0], surrogate)}" for label, op, surrogate in rows)


def _own_neuron(module: Any) -> Any:
    """Return ``module`` if it is a user-defined neuron, or the neuron of a layer, possibly recurrent; else None."""
    inner = getattr(module, "neuron", None)
    found = (module, inner, getattr(inner, "neuron", None))
    return next((n for n in found if callable(getattr(n, "explain", None))), None)


def _describe(op: Any, x: Tensor, surrogate: object) -> str:
    if not isinstance(op, str):
        return op.explain(x, surrogate)  # type: ignore[no-any-return]
    backend, why = choose(op, x, surrogate)
    if op in CPU_ONLY and backend in ("cuda", "cuda_emulation"):
        return f"PyTorch's kernels, dense: {why}"
    names = {
        "cpu": f"CPU kernels ({extension.cpu_isa()})" if extension else "",
        "cuda": f"CUDA kernels (compiled for {extension.cuda_archs})" if extension else "",
        "cuda_emulation": "CUDA kernels emulated on the CPU (for tests)",
        "reference": "plain PyTorch reference",
    }
    return f"{names[backend]}: {why}"
