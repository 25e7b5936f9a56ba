"""Kernels of a user's neuron: compiled at first use, and which of them runs a call."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.compiler.build import CompileError, command, library
from snnfast.compiler.expression import TraceError
from snnfast.compiler.outside import hold, names_of_numbers, observed
from snnfast.compiler.variant import Variant, plan_of, source_of, variant_of
from snnfast.reference.neuron_arguments import Neuron

from . import own_kernels
from .own_kernels import KERNELS, CompiledKernel

__all__ = ["CompiledKernels"]

MANY_KERNELS = 8  # of one variant, for values outside that change: from here on a warning names them


class CompiledKernels:
    """The kernels of a user's neuron.

    Attributes:
        neuron: the neuron.
        enabled: whether it is compiled; else it runs in plain PyTorch.
        latest: the kernel that ran last, by variant.
        every: all kernels of a variant, one for each set of values outside.
    """

    def __init__(self, neuron: Neuron, enabled: bool) -> None:
        self.neuron, self.name, self.enabled = neuron, neuron.name, enabled
        self.latest: dict[Variant, CompiledKernel] = {}
        self.every: dict[Variant, list[CompiledKernel]] = {}
        self._untraceable: dict[Variant, str] = {}
        self._place = len(_NEURONS)
        _NEURONS.append(self)
        self._lock = threading.Lock()

    def choose(self, op: str, call: Any) -> tuple[Any, CompiledKernel] | None:
        """Return the kernel of a call, with its operators; None for plain PyTorch, which warns once with the reason."""
        variant, x = variant_of(call), call[0]
        if x.is_cpu and not torch.compiler.is_compiling() and not torch.onnx.is_in_onnx_export():
            known = self.latest.get(variant)
            if known is not None and backend.forced() is None and hold(known.reads):
                return known.operators, known
        name = _kernel_for(self._place, tuple(variant), x, torch.compiler.is_compiling())
        return None if name is None else (KERNELS[name].operators, KERNELS[name])

    def find(self, variant: Variant, x: Tensor) -> CompiledKernel | None:
        """Return the kernel of a variant for the device of ``x``, compiled if need be; None for plain PyTorch."""
        if not self.enabled:
            return None
        choice, why = backend.choose(self.name, x)
        if choice != "reference":
            try:
                return self._compiled(_for_target(variant, _target(choice, x), x))
            except (CompileError, TraceError) as error:
                # A step can be rewritten, but the surrogate may be another library's.
                if isinstance(error, TraceError) and isinstance(variant.surrogate, str):
                    raise
                if backend.forced() == choice:
                    raise backend.BackendError(f"{self.name}: backend {choice!r} was asked for, but {error}") from error
                why = str(error)
        if backend.forced() != "reference" and not torch.onnx.is_in_onnx_export():
            backend._warn_once(f"{self.name} runs in plain PyTorch, which is slow: {why}")
        return None

    def explain(self, x: Tensor, surrogate: Any = None) -> str:
        """Name the kernel for inputs like ``x``, with the reason, for :func:`snnfast.backend.explain`."""
        if not self.enabled:
            return "plain PyTorch reference: it was made with compile=False"
        choice, why = backend.choose(self.name, x)
        if choice != "reference":
            target = _target(choice, x)
            try:
                command(Path("kernel.so"), target)
                zero = x.new_zeros((1, 1))  # parameters that are tensors have the same trace
                call = self.neuron.check(*[zero] * len(self.neuron.inputs), surrogate=surrogate or "atan")
                self._plan(variant_of(call))
            except (CompileError, TraceError) as error:
                why = str(error)
            else:
                assert backend.extension is not None, "a backend was chosen"
                device, code = "CUDA", target
                if choice == "cpu":
                    device, code = "CPU", backend.extension.cpu_isa()
                return f"{device} kernel compiled from its step ({code}): {why}"
        return f"plain PyTorch reference: {why}"

    def _compiled(self, variant: Variant) -> CompiledKernel:
        with self._lock:
            if variant in self._untraceable:
                raise TraceError(self._untraceable[variant])
            every = self.every.setdefault(variant, [])
            kernel = next((kernel for kernel in every if hold(kernel.reads)), None)
            if kernel is None:
                kernel = self._compile(variant)
                every.append(kernel)
                if len(every) == MANY_KERNELS:
                    changing = names_of_numbers([read for read in every[-2].reads if not hold([read])])
                    backend._warn_once(
                        f"{self.name}: {len(every)} kernels are compiled, each for a value of {', '.join(changing)}, "
                        "which the step reads from outside; make it a parameter of the step, by keyword"
                    )
            self.latest[variant] = kernel
            return kernel

    def _compile(self, variant: Variant) -> CompiledKernel:
        try:
            plan, reads = self._plan(variant)
        except TraceError as error:
            self._untraceable[variant] = str(error)
            raise
        path = library(self.name, source_of(self.neuron, variant, plan), variant.target)
        namespace = "snnfast_emulated" if variant.target == "cuda_emulation" else "snnfast"
        try:
            checkpoint_every = own_kernels.load(namespace, path)
        except RuntimeError as error:
            raise CompileError(f"what was compiled cannot be loaded: {error}") from None
        operators, numbers = getattr(torch.ops, namespace), tuple(plan.step.numbers)
        kernel = CompiledKernel(path.stem, self.neuron, variant, operators, numbers, checkpoint_every, reads)
        KERNELS[kernel.name] = kernel
        return kernel

    def _plan(self, variant: Variant) -> Any:
        """Return the plan of a kernel, and what the step and the surrogate read from outside."""
        roots = self.neuron.step, variant.surrogate
        return observed(self.name, lambda: plan_of(self.neuron, variant), *roots)


_NEURONS: list[CompiledKernels] = []


def _kernel_for(place: int, variant: tuple[Any, ...], x: Tensor, compiling: bool) -> str | None:
    kernel = _NEURONS[place].find(Variant(*variant), x)
    if kernel is not None and compiling and (fixed := names_of_numbers(kernel.reads)):
        backend._warn_once(
            f"{_NEURONS[place].name}: what torch.compile makes keeps {', '.join(fixed)}, which the step reads from "
            "outside, at the value of now; make it a parameter of the step, by keyword, if it changes"
        )
    return None if kernel is None else kernel.name


# torch.compile cannot trace a compiler, so the kernel's name is a constant to it.
# torch.compiler.assume_constant_result sets the same mark, but takes a second to import.
setattr(_kernel_for, "_dynamo_marked_constant", True)  # noqa: B010


def _target(choice: str, x: Tensor) -> str:
    """Target of :mod:`snnfast.compiler.build` for a backend and the device of ``x``."""
    if choice != "cuda":
        return choice
    major, minor = torch.cuda.get_device_capability(x.device)
    return f"sm_{major}{minor}"


def _for_target(variant: Variant, target: str, x: Tensor) -> Variant:
    return variant if target == "cpu" else variant._replace(target=target, dtype=x.dtype)
