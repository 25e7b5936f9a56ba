"""The op of a neuron that is written as a step function: signature, checks, kernels compiled on first use, autograd."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import backend, check
from snnfast.calls.recurrent import connections
from snnfast.compiler import emit
from snnfast.compiler.build import CompileError, library
from snnfast.compiler.eager import KernelFunctions, Number
from snnfast.compiler.expression import Node, TraceError
from snnfast.compiler.plan import make_plan
from snnfast.compiler.trace import TracedSurrogate, numbers_outside, trace
from snnfast.reference.own_neuron import over_time, whole_step
from snnfast.reference.recurrent import fed_back
from snnfast.surrogate import Surrogate, resolve

from . import own_kernels
from .autograd import refuse_transforms
from .layout import dense_order, inverse, parameter_run, permute_neurons
from .own_kernels import KERNELS, Kernel

__all__ = ["OwnNeuron"]

MOST_ROWS, MOST_PARAMETERS = 16, 48  # csrc/core/own_neuron.h

# What every neuron takes by keyword besides the parameters of its step.
FIRING: dict[str, Any] = {
    **{"v_reset": 0.0, "strict": False, "refractory": 0, "r": None, "max_spikes": 1},
    **{"surrogate": "atan", "detach_reset": False, "return_state": True, "return_v_seq": False},
}
# Parameters of kernels that are none of the step.
ALPHA, PERIOD, MOST = "surrogate_alpha", "refractory_steps", "most_spikes"


class Variant(NamedTuple):
    """What one kernel is compiled for; parameters that are numbers are its arguments."""

    recurrent: bool
    double: bool
    hard_reset: bool
    strict: bool
    detach_reset: bool
    surrogate: Any
    refractory: bool
    several: bool
    tensors: tuple[str, ...]
    globals: tuple[Any, ...]


class Call(NamedTuple):
    """The checked arguments of a call; refractory period and reset are among states and parameters."""

    inputs: list[Tensor]
    states: list[Tensor | None]
    parameters: dict[str, Any]
    variant: Variant
    surrogate: Any
    return_state: bool
    return_v_seq: bool


class Frame(NamedTuple):
    """What :func:`snnfast.reference.own_neuron.whole_step` needs of a call."""

    v_reset: Any
    strict: bool
    detach_reset: bool
    hard_reset: bool
    surrogate: Any
    refractory: Any
    max_spikes: Any
    fires: bool = True
    v_threshold: None = None


class OwnNeuron:
    """The op of one step function; :func:`snnfast.neuron` makes it.

    Attributes:
        step: the step function.
        name: its name.
        inputs, states, parameters: the names of its arguments; parameters with their defaults.
        outputs: how many results it gives besides the states.
    """

    def __init__(self, step: Callable[..., Any], *, inputs: int, compile: bool) -> None:
        self.step, self.name, self.compile = step, step.__name__, compile
        self.__doc__ = step.__doc__
        self.__name__, self.__qualname__ = step.__name__, step.__qualname__
        self.__module__ = step.__module__
        self._read_signature(check.whole(f"neuron {self.name}", "inputs", inputs))
        self.outputs, self.fires = self._try_out()
        self._variants: dict[Variant, Kernel] = {}
        self._untraceable: dict[Variant, str] = {}
        self._place = len(_NEURONS)
        _NEURONS.append(self)
        self._lock = threading.Lock()
        self._globals = numbers_outside(step)
        self.__signature__ = self._signature()

    # ---- what the step function says of itself

    def _read_signature(self, inputs: int) -> None:
        op = f"neuron {self.name}"
        given = list(inspect.signature(self.step).parameters.values())
        by_place = [p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        by_name = [p for p in given if p.kind == p.KEYWORD_ONLY]
        expected = "expected def step(fire, x, v, *, parameter=default)"
        if len(by_place) + len(by_name) != len(given):
            raise TypeError(f"{op}: *args and **kwargs have no names; {expected}")
        if len(by_place) < inputs + 2:
            raise TypeError(
                f"{op}: the step must take fire, {inputs} input{'s' * (inputs > 1)} and at least one state by "
                f"position, got {len(by_place)} arguments; {expected}. Without a state it is a function of PyTorch, "
                "which needs no neuron"
            )
        names = [p.name for p in by_place[1:]]
        self.inputs, self.states = tuple(names[:inputs]), tuple(names[inputs:])
        self.parameters: dict[str, float] = {}
        for p in by_name:
            if p.name in FIRING and p.name != "v_reset":
                raise TypeError(
                    f"{op}: {p.name} is an argument of every neuron; call this parameter otherwise"
                )
            if p.default is p.empty:
                raise TypeError(f"{op}: the parameter {p.name} needs a default, a number")
            self.parameters[p.name] = check.number(op, p.name, p.default)
        taken = [name for name in names if name in FIRING or name in self.parameters]
        if taken:
            raise TypeError(
                f"{op}: {taken[0]} is an argument of every neuron; call this input or state otherwise"
            )

    def _try_out(self) -> tuple[int, bool]:
        """How many outputs the step has, and whether it fires, from a step of one neuron."""
        zero = torch.zeros(())
        spikes: list[Tensor] = []

        def fire(h: Any, threshold: Any, subtract: Any = None) -> tuple[Any, Any, Any]:
            spikes.append(zero.clone())
            return spikes[-1], h, h

        with torch.no_grad():
            returned = self.step(
                fire,
                *[zero] * len(self.inputs),
                *[zero] * len(self.states),
                **self._own(self.parameters),
            )
        results = returned if isinstance(returned, tuple) else (returned,)
        outputs = len(results) - len(self.states)
        if outputs < 1:
            raise TypeError(
                f"neuron {self.name}: the step must return its outputs, then its {len(self.states)} states "
                f"({', '.join(self.states)}), got {len(results)} values"
            )
        rows = len(self.states) + len(self.inputs) + outputs - 1
        if rows > MOST_ROWS:
            raise ValueError(
                f"neuron {self.name}: inputs, states and outputs must be at most {MOST_ROWS + 1} in all, got {rows + 1}"
            )
        if len(self.parameters) > MOST_PARAMETERS - 4:
            raise ValueError(
                f"neuron {self.name}: parameters must be at most {MOST_PARAMETERS - 4}, got {len(self.parameters)}"
            )
        return outputs, bool(spikes)

    def _signature(self) -> inspect.Signature:
        by_place, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, by_place) for name in self.inputs]
        parameters += [inspect.Parameter(name, by_place, default=None) for name in self.states]
        defaults = self.parameters | {k: v for k, v in FIRING.items() if k not in self.parameters}
        parameters += [inspect.Parameter(n, by_name, default=v) for n, v in defaults.items()]
        return inspect.Signature(parameters)

    def __repr__(self) -> str:
        return f"<neuron {self.__module__}.{self.__qualname__}{self.__signature__}>"

    def __reduce__(self) -> Any:
        return self.__qualname__  # pickled by import path; a copy is the neuron itself

    # ---- calls

    def __call__(self, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """Outputs, states and, with ``return_v_seq``, the first state after every step."""
        return self._run(self._bind(arguments, keywords))

    def reference(self, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """The same in plain PyTorch, one step after the other."""
        call = self._bind(arguments, keywords)
        return self._answer(call, *self._reference(call))

    def recurrent(
        self,
        x: Tensor,
        weight: Tensor,
        past: Tensor | None = None,
        *,
        delay: Tensor | None = None,
        **arguments: Any,
    ) -> tuple[Any, ...]:
        """The neurons with recurrent connections: :func:`snnfast.ops.recurrent`, which says what the arguments are."""
        if len(self.inputs) > 1 or self.outputs > 1 or not self.fires:
            raise ValueError(
                f"{self.name}: recurrent connections need neurons with one input and one output, its spikes; these "
                f"have {len(self.inputs)} and {self.outputs}"
            )
        call = self._bind((x,), arguments)
        connections(self.name, x, weight, past, delay)
        kernel = self._kernel(call.variant._replace(recurrent=True), x)
        if kernel is not None:
            found = own_kernels.call_recurrent(
                kernel, self._rest_or_none(call), call, weight, past, delay
            )
            return self._answer(call, found[:1], found[1:-1], found[-1])
        if len(x) == 0:
            return self._answer(call, *self._reference(call))
        frame = self._frame(call.variant, call.parameters, call.surrogate)
        own = self._own(call.parameters)

        def step(value: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
            outputs, after = whole_step(self.step, frame, [value], states, own)
            return outputs[0].to(value.dtype), after

        with KernelFunctions():
            wide = x.to(check.state_dtype(x.dtype))
            spikes, states, v_seq = fed_back(step, wide, self._rest(call), weight, past, delay)
        return self._answer(call, [spikes.to(x.dtype)], states, v_seq)

    def _bind(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> Call:
        op = self.name
        places = (*self.inputs, *self.states)
        if len(arguments) > len(places):
            raise TypeError(
                f"{op}: takes {', '.join(places)} by position, and parameters by keyword; got {len(arguments)} "
                "arguments"
            )
        given: dict[str, Any] = dict(zip(places, arguments))
        for name, value in keywords.items():
            if name in given:
                raise TypeError(f"{op}: {name} is given twice")
            if name not in places and name not in self.parameters and name not in FIRING:
                known = (*self.states, *self.parameters, *FIRING)
                raise TypeError(
                    f"{op}: there is no argument {name!r}; there are {', '.join(known)}"
                )
            given[name] = value
        for name in self.inputs:
            if name not in given:
                raise TypeError(f"{op}: the input {name} is missing")
        inputs = [given[name] for name in self.inputs]
        x = inputs[0]
        check.sequence(op, x)
        for name, value in zip(self.inputs[1:], inputs[1:]):
            check.shape(op, name, value, x.shape)
            check.beside(op, name, value, self.inputs[0], x)
        states = [given.get(name) for name in self.states]
        for name, value in zip(self.states, states):
            check.state(op, name, value, x)
        firing = FIRING | self.parameters | given
        v_reset = firing["v_reset"]
        hard = v_reset is not None
        parameters: dict[str, Any] = {
            name: check.parameter(op, name, firing[name], x)
            for name in (*self.parameters, "v_reset")
            if name != "v_reset" or (hard and (self.fires or name in self.parameters))
        }
        surrogate = resolve(firing["surrogate"])
        strict = check.flag(op, "strict", firing["strict"])
        detach = check.flag(op, "detach_reset", firing["detach_reset"])
        period = check.whole(op, "refractory", firing["refractory"], 0)
        if period >= 2**24:
            raise ValueError(f"{op}: refractory must be fewer than 2**24 steps, got {period}")
        most = firing["max_spikes"]
        most = float("inf") if most is None else float(check.whole(op, "max_spikes", most))
        if not self.fires:
            for name in ("strict", "refractory", "max_spikes", "detach_reset"):
                if firing[name] != FIRING[name]:
                    raise ValueError(f"{op}: {name} needs spikes, and the step never calls fire")
        if most > 1 and hard:
            raise ValueError(f"{op}: max_spikes above 1 needs a soft reset, v_reset=None")
        r = firing["r"]
        check.state(op, "r", r, x)
        if r is not None and not period:
            raise ValueError(f"{op}: r needs a refractory period, got refractory=0")
        if period:
            states.append(None if r is None else r.detach())
        if isinstance(surrogate, Surrogate) and self.fires:
            parameters[ALPHA] = surrogate.alpha
        if period:
            parameters[PERIOD] = float(period)
        if most > 1:
            parameters[MOST] = most
        variant = Variant(
            False,
            x.dtype == torch.float64,
            hard,
            strict,
            detach,
            surrogate.name if isinstance(surrogate, Surrogate) else surrogate,
            period > 0,
            most > 1,
            tuple(name for name, value in parameters.items() if isinstance(value, Tensor)),
            tuple(read() for read in self._globals),
        )
        return Call(
            inputs=inputs,
            states=states,
            parameters=parameters,
            variant=variant,
            surrogate=surrogate,
            return_state=check.flag(op, "return_state", firing["return_state"]),
            return_v_seq=check.flag(op, "return_v_seq", firing["return_v_seq"]),
        )

    def _frame(self, variant: Variant, parameters: dict[str, Any], surrogate: Any) -> Frame:
        return Frame(
            parameters.get("v_reset"),
            variant.strict,
            variant.detach_reset,
            variant.hard_reset,
            surrogate,
            parameters.get(PERIOD),
            parameters.get(MOST, 1.0),
        )

    def _own(self, parameters: dict[str, Any]) -> dict[str, Any]:
        own = {name: parameters.get(name) for name in self.parameters}
        return {k: Number(v) if isinstance(v, float) else v for k, v in own.items()}

    def _rest(self, call: Call) -> list[Tensor]:
        """The states before the first step: given, or at rest."""
        x = call.inputs[0]
        zeros = torch.zeros(x.shape[1:], dtype=check.state_dtype(x.dtype), device=x.device)
        rest = call.parameters.get("v_rest", 0.0)
        at_rest = [zeros + rest, *(zeros for _ in call.states[1:])]
        return [rest if value is None else value for value, rest in zip(call.states, at_rest)]

    def _rest_or_none(self, call: Call) -> list[Tensor]:
        """The states before the first step; none where all are at rest, which the kernel knows."""
        if all(value is None for value in call.states):
            return []
        dtype = check.state_dtype(call.inputs[0].dtype)
        return [value.to(dtype) for value in self._rest(call)]

    def _reference(self, call: Call) -> tuple[list[Tensor], list[Tensor], Tensor]:
        x, dtype = call.inputs[0], check.state_dtype(call.inputs[0].dtype)
        if len(x) == 0:
            empty = torch.empty(x.shape, dtype=dtype, device=x.device)
            return [torch.empty_like(x) for _ in range(self.outputs)], self._rest(call), empty
        frame = self._frame(call.variant, call.parameters, call.surrogate)
        outputs, states, v_seq = over_time(
            self.step,
            frame,
            [value.to(dtype) for value in call.inputs],
            self._rest(call),
            self._own(call.parameters),
            KernelFunctions(),
        )
        return [value.to(x.dtype) for value in outputs], states, v_seq

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
        """The kernel that runs this call; None for plain PyTorch, which warns once with the reason."""
        if x.is_cpu and not torch.compiler.is_compiling() and not torch.onnx.is_in_onnx_export():
            known = self._variants.get(variant)
            if known is not None and backend.forced() is None:
                return known
        kernel: Kernel | None = _kernel_for(self._place, tuple(variant), x)
        return kernel

    def _choose(self, variant: Variant, x: Tensor) -> Kernel | None:
        if not self.compile:
            return None
        which, why = backend.choose(self.name, x)
        if which == "cpu":
            try:
                return self._compiled(variant)
            except (CompileError, TraceError) as error:
                # A step can be rewritten, but the surrogate may be another library's.
                if isinstance(error, TraceError) and isinstance(variant.surrogate, str):
                    raise
                if backend.forced() == "cpu":
                    raise backend.BackendError(
                        f"{self.name}: backend 'cpu' was asked for, but {error}"
                    ) from error
                why = str(error)
        elif which != "reference":
            why = "a neuron from a step function has kernels for the CPU alone"
            if backend.forced() == which:
                raise backend.BackendError(
                    f"{self.name}: backend {which!r} was asked for, but {why}"
                )
        if backend.forced() != "reference" and not torch.onnx.is_in_onnx_export():
            backend._warn_once(f"{self.name} runs in plain PyTorch, which is slow: {why}")
        return None

    def _compiled(self, variant: Variant) -> Kernel:
        with self._lock:
            if variant in self._variants:
                return self._variants[variant]
            if variant in self._untraceable:
                raise TraceError(self._untraceable[variant])
            try:
                source, numbers, rows = self.source(variant)
            except TraceError as error:
                self._untraceable[variant] = str(error)
                raise
            path = library(self.name, source)
            kernel = Kernel(path.stem, numbers, variant.tensors, rows)
            assert backend.extension is not None, "the CPU's backend was chosen"
            try:
                backend.extension.load_own_kernel(kernel.name, str(path))
            except RuntimeError as error:
                raise CompileError(f"what was compiled cannot be loaded: {error}") from None
            KERNELS[kernel.name] = kernel
            self._variants[variant] = kernel
            return kernel

    def source(self, variant: Variant) -> tuple[str, tuple[str, ...], int]:
        """The C++ of the kernel for ``variant``, its parameters that are numbers, in order, and its rows."""
        plan, states = self.plan(variant)
        source = emit.library_source(
            _camel(self.name), plan, states, double=variant.double, recurrent=variant.recurrent
        )
        return source, tuple(plan.step.numbers), len(states) + len(self.inputs) + self.outputs - 2

    def plan(self, variant: Variant) -> tuple[Any, list[str]]:
        """What the kernel for ``variant`` computes, and the names of its states."""
        hidden = [
            name for name, is_there in (("v_reset", variant.hard_reset and self.fires),) if is_there
        ]
        hidden += [ALPHA] * (isinstance(variant.surrogate, str) and self.fires)
        hidden += [PERIOD] * variant.refractory + [MOST] * variant.several
        own = [name for name in self.parameters if name != "v_reset" or variant.hard_reset]
        every = list(dict.fromkeys((*own, *hidden)))
        numbers = [name for name in every if name not in variant.tensors]
        states = [*self.states, *["r"] * variant.refractory]

        def step(leaves: Any, *values: Node, **parameters: Any) -> tuple[Any, ...]:
            surrogate = variant.surrogate
            if isinstance(surrogate, str):
                surrogate = TracedSurrogate(surrogate, leaves[ALPHA]) if ALPHA in leaves else None
            frame = self._frame(variant, leaves, surrogate)
            given = {name: parameters.get(name) for name in self.parameters}
            split = len(self.inputs)
            outputs, after = whole_step(self.step, frame, values[:split], values[split:], given)
            return (*outputs, *after)

        step.__name__ = self.name
        step.__wrapped__ = self.step  # type: ignore[attr-defined]
        found = trace(
            step,
            inputs=len(self.inputs),
            states=len(states),
            numbers=numbers,
            tensors=variant.tensors,
            dtype=torch.float64 if variant.double else torch.float32,
            frame=lambda leaves: leaves,  # type: ignore[arg-type, return-value]
            own=own,
        )
        return make_plan(found), states

    def _scan(self, kernel: Kernel, call: Call) -> tuple[list[Tensor], list[Tensor], Tensor]:
        x = call.inputs[0]
        given = self._rest_or_none(call)
        parameters = [call.parameters[name] for name in kernel.tensors]
        tensors = [*call.inputs, *given, *parameters]
        refuse_transforms(self.name, tensors)
        order = dense_order(x)
        shape = x.shape[1:]
        if order is not None:
            inputs = [value.permute(order) for value in call.inputs]
            given = [permute_neurons(value, order) for value in given]  # type: ignore[misc]
            parameters = [permute_neurons(value, order) for value in parameters]
            shape = inputs[0].shape[1:]
        else:
            inputs = call.inputs
        parameters = [parameter_run(value, shape) for value in parameters]
        numbers = [call.parameters[name] for name in kernel.numbers]
        results = own_kernels.call(
            kernel.name, inputs, given, numbers, parameters, self.outputs, call.return_v_seq
        )
        outputs, states = results[: self.outputs], results[self.outputs : -1]
        v_seq = results[-1]
        states = states[: len(call.states)]
        outputs = [value.to(x.dtype) for value in outputs]
        if order is not None:
            back = inverse(order)
            outputs = [value.permute(back) for value in outputs]
            states = [permute_neurons(value, back) for value in states]  # type: ignore[misc]
            v_seq = v_seq.permute(back) if call.return_v_seq else v_seq
        return outputs, states, v_seq


_NEURONS: list[OwnNeuron] = []


# torch.compile cannot look into a compiler: it keeps the kernel that it is told.
@torch.compiler.assume_constant_result
def _kernel_for(place: int, variant: tuple[Any, ...], x: Tensor) -> Kernel | None:
    return _NEURONS[place]._choose(Variant(*variant), x)


def _camel(name: str) -> str:
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return "".join(part[:1].upper() + part[1:] for part in text.split("_")) or "Neuron"
