"""Op of a user-defined neuron, from its step function: signature, checks, kernels compiled on first use, autograd."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnfast import backend, check
from snnfast.compiler import emit
from snnfast.compiler.build import CompileError, command, library
from snnfast.compiler.expression import TraceError
from snnfast.compiler.outside import hold, names_of_numbers, observed
from snnfast.compiler.plan import Plan, make_plan
from snnfast.compiler.signature import ALPHA, MOST, PERIOD, Call, StepFunction, Variant
from snnfast.compiler.trace import Step, TracedSurrogate, trace
from snnfast.compiler.value import Value
from snnfast.reference.eager import KernelFunctions
from snnfast.reference.neuron import Frame, over_time, whole_step
from snnfast.reference.recurrent import connections, fed_back

from . import own_kernels
from .neuron import scan
from .own_kernels import KERNELS, Kernel

__all__ = ["OwnNeuron"]

MANY_KERNELS = 8  # of one variant, for values outside that change: from here on a warning names them


class OwnNeuron(StepFunction):
    """The op of one step function; :func:`snnfast.neuron` makes it."""

    def __init__(self, step: Callable[..., Any], *, inputs: int, compile: bool) -> None:
        super().__init__(step, inputs)
        self.compile = compile
        self._variants: dict[Variant, Kernel] = {}  # the kernel that ran last
        self._every: dict[Variant, list[Kernel]] = {}  # for all values outside that there were
        self._untraceable: dict[Variant, str] = {}
        self._place = len(_NEURONS)
        _NEURONS.append(self)
        self._lock = threading.Lock()

    # ---- calls

    def __call__(self, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """Return outputs, states and, with ``return_v_seq``, the first state after every step."""
        return self._run(self.bind(arguments, keywords))

    def reference(self, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """Run the op in plain PyTorch, one step after the other."""
        call = self.bind(arguments, keywords)
        return self._answer(call, *self._reference(call))

    def recurrent(
        self, x: Tensor, weight: Tensor, past: Tensor | None = None, *, delay: Tensor | None = None, **arguments: Any
    ) -> tuple[Any, ...]:
        """Run the neurons with recurrent connections; :func:`snnfast.ops.recurrent` documents the arguments."""
        if len(self.inputs) > 1 or self.outputs > 1 or not self.fires:
            raise ValueError(
                f"{self.name}: recurrent connections need neurons with one input and one output, its spikes; these "
                f"have {len(self.inputs)} and {self.outputs}"
            )
        call = self.bind((x,), arguments)
        connections(self.name, x, weight, past, delay)
        kernel = self._kernel(call.variant._replace(recurrent=True), x)
        if kernel is not None:
            return self._answer(call, *self._scan(kernel, call, weight, past, delay))
        if len(x) == 0:
            return self._answer(call, *self._reference(call))
        frame = self._frame(call.variant, call.parameters, call.surrogate)
        named = self.named(call.parameters)

        def step(value: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
            outputs, after = whole_step(self.step, frame, [value], states, named)
            return outputs[0].to(value.dtype), after

        with KernelFunctions(check.state_dtype(x.dtype)):
            spikes, states, v_seq = fed_back(step, x, self._rest(call), weight, past, delay)
        return self._answer(call, [spikes.to(x.dtype)], states, v_seq)

    def _frame(self, variant: Variant, parameters: dict[str, Any], surrogate: Any) -> Frame:
        return Frame(
            parameters.get("v_reset"),
            *(variant.hard_reset, variant.strict, variant.detach_reset, surrogate),
            parameters.get(PERIOD),
            parameters.get(MOST, 1.0),
        )

    def _rest(self, call: Call) -> list[Tensor]:
        """Return the states before the first step: those of the call, or at rest."""
        x = call.inputs[0]
        zeros = torch.zeros(x.shape[1:], dtype=check.state_dtype(x.dtype), device=x.device)
        rest = call.parameters.get("v_rest", 0.0)
        at_rest = [zeros + rest, *(zeros for _ in call.states[1:])]
        return [rest if value is None else value for value, rest in zip(call.states, at_rest)]

    def _rest_or_none(self, call: Call) -> list[Tensor | None]:
        """Return the states before the first step; None where all are at rest, which the kernel fills in."""
        if all(value is None for value in call.states):
            return call.states
        dtype = check.state_dtype(call.inputs[0].dtype)
        return [value.to(dtype) for value in self._rest(call)]

    def _reference(self, call: Call) -> tuple[list[Tensor], list[Tensor], Tensor]:
        x, dtype = call.inputs[0], check.state_dtype(call.inputs[0].dtype)
        if len(x) == 0:
            empty = torch.empty(x.shape, dtype=dtype, device=x.device)
            return [torch.empty_like(x) for _ in range(self.outputs)], self._rest(call), empty
        frame = self._frame(call.variant, call.parameters, call.surrogate)
        rows, states, v_seq = over_time(
            self.step,
            frame,
            [value.to(dtype) for value in call.inputs],
            self._rest(call),
            self.named(call.parameters),
            KernelFunctions(dtype),
        )
        outputs = [torch.stack(list(column)).to(x.dtype) for column in zip(*rows)]
        return outputs, states, torch.stack(v_seq)

    def _answer(self, call: Call, outputs: Any, states: Any, v_seq: Any) -> tuple[Any, ...]:
        states = states if call.return_state else [None] * len(states)
        return (*outputs, *states, v_seq) if call.return_v_seq else (*outputs, *states)

    def _run(self, call: Call) -> tuple[Any, ...]:
        x = call.inputs[0]
        kernel = self._kernel(call.variant, x)
        found = self._reference(call) if kernel is None else self._scan(kernel, call)
        return self._answer(call, *found)

    # ---- kernels

    def _kernel(self, variant: Variant, x: Tensor) -> Kernel | None:
        """Return the kernel that runs this call; None for plain PyTorch, which warns once with the reason."""
        if x.is_cpu and not torch.compiler.is_compiling() and not torch.onnx.is_in_onnx_export():
            known = self._variants.get(variant)
            if known is not None and backend.forced() is None and hold(known.reads):
                return known
        name = _kernel_for(self._place, tuple(variant), x, torch.compiler.is_compiling())
        return None if name is None else KERNELS[name]

    def _choose(self, variant: Variant, x: Tensor) -> Kernel | None:
        if not self.compile:
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
        if not self.compile:
            return "plain PyTorch reference: it was made with compile=False"
        choice, why = backend.choose(self.name, x)
        if choice != "reference":
            target = _target(choice, x)
            try:
                command(Path("kernel.so"), target)
                variant = self._plainest(x, surrogate)
                observed(self.name, lambda: self.plan(variant), self.step, variant.surrogate)
            except (CompileError, TraceError) as error:
                why = str(error)
            else:
                assert backend.extension is not None, "a backend was chosen"
                device, code = "CUDA", target
                if choice == "cpu":
                    device, code = "CPU", backend.extension.cpu_isa()
                return f"{device} kernel compiled from its step ({code}): {why}"
        return f"plain PyTorch reference: {why}"

    def _plainest(self, x: Tensor, surrogate: Any) -> Variant:
        """Return the variant of a call with numbers alone; tensors have the same trace."""
        zero = x.new_zeros((1, 1))
        return self.bind([zero] * len(self.inputs), {"surrogate": surrogate or "atan"}).variant

    def _compiled(self, variant: Variant) -> Kernel:
        with self._lock:
            if variant in self._untraceable:
                raise TraceError(self._untraceable[variant])
            every = self._every.setdefault(variant, [])
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
            self._variants[variant] = kernel
            return kernel

    def _compile(self, variant: Variant) -> Kernel:
        try:
            roots = self.step, variant.surrogate
            (plan, states), reads = observed(self.name, lambda: self.plan(variant), *roots)
        except TraceError as error:
            self._untraceable[variant] = str(error)
            raise
        path = library(self.name, self._source(variant, plan, states), variant.target)
        namespace = "snnfast_emulated" if variant.target == "cuda_emulation" else "snnfast"
        try:
            every = own_kernels.load(namespace, path)
        except RuntimeError as error:
            raise CompileError(f"what was compiled cannot be loaded: {error}") from None
        sizes = len(self.inputs), len(states), self.outputs
        operators = getattr(torch.ops, namespace)
        numbers = tuple(plan.step.numbers)
        kernel = Kernel(path.stem, operators, numbers, variant.tensors, sizes, variant.recurrent, every, reads)
        KERNELS[kernel.name] = kernel
        return kernel

    def source(self, variant: Variant) -> str:
        """Return the C++ of the kernel for ``variant``."""
        return self._source(variant, *self.plan(variant))

    def _source(self, variant: Variant, plan: Plan, states: list[str]) -> str:
        name, cuda = _camel(self.name), variant.target != "cpu"
        return emit.library_source(name, plan, states, dtype=variant.dtype, recurrent=variant.recurrent, cuda=cuda)

    def plan(self, variant: Variant) -> tuple[Plan, list[str]]:
        """Return the plan of the kernel for ``variant``, and the names of its states."""
        found, states = self.traced(variant)
        return make_plan(found), states

    def traced(self, variant: Variant) -> tuple[Step, list[str]]:
        """Trace one step of ``variant``; also return the names of its states."""
        hidden = [name for name, present in (("v_reset", variant.hard_reset and self.fires),) if present]
        hidden += [ALPHA] * (isinstance(variant.surrogate, str) and self.fires)
        hidden += [PERIOD] * variant.refractory + [MOST] * variant.several
        visible = [name for name in self.parameters if name != "v_reset" or variant.hard_reset]
        every = list(dict.fromkeys((*visible, *hidden)))
        numbers = [name for name in every if name not in variant.tensors]
        states = [*self.states, *["r"] * variant.refractory]

        def step(leaves: Any, *values: Value, **parameters: Any) -> tuple[Any, ...]:
            surrogate = variant.surrogate
            if isinstance(surrogate, str):
                surrogate = TracedSurrogate(surrogate, leaves[ALPHA]) if ALPHA in leaves else None
            frame = self._frame(variant, leaves, surrogate)
            values_of = {name: parameters.get(name) for name in self.parameters}
            split = len(self.inputs)
            outputs, after = whole_step(self.step, frame, values[:split], values[split:], values_of)
            return (*outputs, *after)

        step.__name__ = self.name
        step.__wrapped__ = self.step  # type: ignore[attr-defined]
        found = trace(
            step,
            inputs=len(self.inputs),
            states=len(states),
            numbers=numbers,
            tensors=variant.tensors,
            dtype=check.state_dtype(variant.dtype),
            frame=lambda leaves: leaves,  # type: ignore[arg-type, return-value]
            visible=visible,
        )
        return found, states

    def _scan(self, kernel: Kernel, call: Call, *connections: Tensor | None) -> tuple[Any, ...]:
        numbers, tensors = ([call.parameters[name] for name in names] for names in (kernel.numbers, kernel.tensors))
        more = connections or (None, None, None)
        plain = [kernel.name, numbers, call.return_v_seq, *more, *call.inputs, *self._rest_or_none(call), *tensors]
        *found, v_seq = scan(kernel.operators, self.name, kernel, plain)
        outputs = [value.to(call.inputs[0].dtype) for value in found[: self.outputs]]
        return outputs, found[self.outputs :], v_seq


_NEURONS: list[OwnNeuron] = []


def _kernel_for(place: int, variant: tuple[Any, ...], x: Tensor, compiling: bool) -> str | None:
    kernel = _NEURONS[place]._choose(Variant(*variant), x)
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


def _camel(name: str) -> str:
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return "".join(part[:1].upper() + part[1:] for part in text.split("_")) or "Neuron"
