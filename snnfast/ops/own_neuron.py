"""The op of a neuron that is written as a step function: signature, checks, kernels compiled on first use, autograd."""

from __future__ import annotations

import functools as tools
import inspect
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from snnfast import backend, check
from snnfast.calls.recurrent import connections
from snnfast.compiler import emit, functions
from snnfast.compiler.build import CompileError, command, library
from snnfast.compiler.expression import Node, Untraceable
from snnfast.compiler.plan import make_plan
from snnfast.compiler.trace import trace
from snnfast.reference.own_neuron import over_time, whole_step
from snnfast.reference.recurrent import fed_back
from snnfast.surrogate import Surrogate, resolve, spike

from .autograd import (
    backward_pass,
    below_autograd,
    no_double_backward,
    refuse_transforms,
    traced,
    wants_gradient,
)
from .layout import dense_order, inverse, parameter_run, permute_neurons

__all__ = ["OwnNeuron"]

CHECKPOINT_EVERY = 32
CPU_ALONE = "a neuron from a step function has kernels for the CPU alone"
NO_SECOND = "the surrogate gradient has none"
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


class Kernel(NamedTuple):
    """A compiled kernel: its name in the operator, and the order of its parameters."""

    name: str
    numbers: tuple[str, ...]
    tensors: tuple[str, ...]
    rows: int


# By name, for fakes; the operator has its own table.
KERNELS: dict[str, Kernel] = {}


class _Functions(TorchFunctionMode):
    """Computes exp and the like as the kernels do."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        known = name in functions.__all__ and len(args) == 1 and not kwargs
        if known and not isinstance(args[0], _Number):
            with torch._C.DisableTorchFunction():
                return getattr(functions, name)(args[0])
        return function(*args, **(kwargs or {}))


class _Number(float):
    """A parameter that is a number, which PyTorch's functions take: ``torch.exp(-1 / tau)`` is a number again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(function := getattr(torch, name, None)):
            raise AttributeError(name)
        return tools.partial(function, self)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if any(isinstance(a, Tensor) for a in (*args, *named.values())):
            plain = [float(a) if isinstance(a, cls) else a for a in args]
            return function(
                *plain, **{k: float(a) if isinstance(a, cls) else a for k, a in named.items()}
            )
        wide = [
            torch.tensor(float(a), dtype=torch.float64) if type(a) in (cls, float) else a
            for a in args
        ]
        wide = [torch.tensor(a) if isinstance(a, bool) else a for a in wide]
        return cls(_Functions().__torch_function__(function, types, wide, named))


def _computes(name: str) -> Callable[..., Any]:
    plain = getattr(float, name)

    def compute(*values: Any) -> Any:
        found = plain(*values)
        return _Number(found) if isinstance(found, float) else found

    return compute


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(_Number, f"__{_name}__", _computes(f"__{_name}__"))
    setattr(_Number, f"__r{_name}__", _computes(f"__r{_name}__"))
for _name in ("neg", "abs"):
    setattr(_Number, f"__{_name}__", _computes(f"__{_name}__"))


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
        self._globals = _numbers_outside(step)
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
            found = _call_recurrent(kernel, self._rest_or_none(call), call, weight, past, delay)
            return self._answer(call, found[:1], found[1:-1], found[-1])
        if len(x) == 0:
            return self._answer(call, *self._reference(call))
        frame = self._frame(call.variant, call.parameters, call.surrogate)
        own = self._own(call.parameters)

        def step(value: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
            outputs, after = whole_step(self.step, frame, [value], states, own)
            return outputs[0].to(value.dtype), after

        with _Functions():
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
        return {k: _Number(v) if isinstance(v, float) else v for k, v in own.items()}

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
            _Functions(),
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
            except (CompileError, Untraceable) as error:
                # A step can be rewritten, but the surrogate may be another library's.
                if isinstance(error, Untraceable) and isinstance(variant.surrogate, str):
                    raise
                if backend.forced() == "cpu":
                    raise backend.BackendError(
                        f"{self.name}: backend 'cpu' was asked for, but {error}"
                    ) from error
                why = str(error)
        elif which != "reference":
            why = CPU_ALONE
            if backend.forced() == which:
                raise backend.BackendError(
                    f"{self.name}: backend {which!r} was asked for, but {why}"
                )
        if backend.forced() != "reference" and not torch.onnx.is_in_onnx_export():
            backend._warn_once(f"{self.name} runs in plain PyTorch, which is slow: {why}")
        return None

    def explain(self, x: Tensor, surrogate: Any = None) -> str:
        """Which kernel runs for an input like ``x``, and why: a line of :func:`snnfast.backend.explain`."""
        if not self.compile:
            return "plain PyTorch reference: it was made with compile=False"
        which, why = backend.choose(self.name, x)
        if which == "cpu":
            try:
                command(Path("kernel.so"))
                self.plan(self._plainest(x, surrogate))
            except (CompileError, Untraceable) as error:
                which, why = "reference", str(error)
            else:
                assert backend.extension is not None, "the CPU's backend was chosen"
                return f"CPU kernel compiled from its step ({backend.extension.cpu_isa()}): {why}"
        if which != "reference":
            why = CPU_ALONE
        return f"plain PyTorch reference: {why}"

    def _plainest(self, x: Tensor, surrogate: Any) -> Variant:
        """The variant of a call with numbers alone, which are traced alike."""
        zero = x.new_zeros((1, 1))
        return self._bind([zero] * len(self.inputs), {"surrogate": surrogate or "atan"}).variant

    def _compiled(self, variant: Variant) -> Kernel:
        with self._lock:
            if variant in self._variants:
                return self._variants[variant]
            if variant in self._untraceable:
                raise Untraceable(self._untraceable[variant])
            try:
                source, numbers, rows = self.source(variant)
            except Untraceable as error:
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
                surrogate = _Traced(surrogate, leaves[ALPHA]) if ALPHA in leaves else None
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
        results = _call(
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


class _Traced:
    """A surrogate of the package whose width is an argument of the kernel."""

    def __init__(self, name: str, alpha: Node) -> None:
        self.name, self.alpha = name, alpha

    def derivative(self, u: Any) -> Any:
        from snnfast.surrogate import _DERIVATIVES

        return _DERIVATIVES[self.name](u, self.alpha)  # type: ignore[arg-type]

    def __call__(self, u: Any) -> Any:
        return spike(u, self)

    def __repr__(self) -> str:
        return self.name


def _call(
    kernel: str,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    numbers: list[float],
    parameters: Sequence[Tensor],
    outputs: int,
    return_v_seq: bool,
) -> list[Tensor]:
    """Outputs, states and membranes of a kernel, with gradients where they are wanted."""
    forward = torch.ops.snnfast.own_neuron_forward
    lists = list(inputs), list(states), numbers, list(parameters)
    tensors = (*inputs, *states, *parameters)
    if not wants_gradient(tensors):
        found = below_autograd(forward, kernel, *lists, outputs, return_v_seq, 0)
        return list(found)[:-1]
    if traced():
        return list(forward(kernel, *lists, outputs, return_v_seq, CHECKPOINT_EVERY))[:-1]
    counts = len(inputs), len(states), len(parameters)
    return list(_Scan.apply(kernel, counts, numbers, outputs, return_v_seq, *tensors))  # type: ignore[no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: str,
        counts: tuple[int, int, int],
        numbers: list[float],
        outputs: int,
        return_v_seq: bool,
        *tensors: Tensor,
    ) -> Any:
        lists = _split(tensors, counts)
        found = below_autograd(
            torch.ops.snnfast.own_neuron_forward,
            *(
                kernel,
                lists[0],
                lists[1],
                numbers,
                lists[2],
                outputs,
                return_v_seq,
                CHECKPOINT_EVERY,
            ),
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(found[-1], *tensors)
        ctx.arguments = kernel, counts, numbers, outputs, return_v_seq
        return tuple(found[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        checkpoints, *tensors = ctx.saved_tensors
        return (*(None,) * 5, *_gradients(ctx.arguments, checkpoints, tensors, grads))


def _call_recurrent(
    kernel: Kernel,
    states: list[Tensor],
    call: Any,
    weight: Tensor,
    past: Tensor | None,
    delay: Tensor | None,
) -> list[Tensor]:
    """Spikes, states and membranes of neurons with recurrent connections, with gradients where they are wanted."""
    (x,) = call.inputs
    parameters = [parameter_run(call.parameters[name], x.shape[1:]) for name in kernel.tensors]
    numbers = [call.parameters[name] for name in kernel.numbers]
    tensors = (x, *states, *parameters, weight, *(t for t in (past, delay) if t is not None))
    refuse_transforms(kernel.name.rpartition("-")[0], tensors)
    forward = torch.ops.snnfast.own_recurrent_forward
    plain = kernel.name, x, states, numbers, parameters, call.return_v_seq, weight, past, delay
    if not wants_gradient(tensors):
        return list(below_autograd(forward, *plain, 0))[:-1]
    if traced():
        return list(forward(*plain, CHECKPOINT_EVERY))[:-1]
    counts = len(states), len(parameters), past is not None, delay is not None
    return list(_RecurrentScan.apply(kernel.name, counts, numbers, call.return_v_seq, *tensors))  # type: ignore[no-untyped-call]


class _RecurrentScan(torch.autograd.Function):
    @staticmethod
    def lists(counts: tuple[int, int, bool, bool], tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        """x, states, parameters, weight, past and delay."""
        states, parameters, has_past, has_delay = counts
        x, *rest = tensors
        a, b = states, states + parameters
        weight, *more = rest[b:]
        past = more[0] if has_past else None
        delay = more[-1] if has_delay else None
        return x, rest[:a], rest[a:b], weight, past, delay

    @staticmethod
    def forward(
        ctx: Any,
        kernel: str,
        counts: Any,
        numbers: list[float],
        return_v_seq: bool,
        *tensors: Tensor,
    ) -> Any:
        x, states, parameters, weight, past, delay = _RecurrentScan.lists(counts, tensors)
        found = below_autograd(
            torch.ops.snnfast.own_recurrent_forward,
            *(
                kernel,
                x,
                states,
                numbers,
                parameters,
                return_v_seq,
                weight,
                past,
                delay,
                CHECKPOINT_EVERY,
            ),
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(found[0], found[-1], *tensors)
        ctx.arguments = kernel, counts, numbers, return_v_seq
        return tuple(found[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        kernel, counts, numbers, return_v_seq = ctx.arguments
        spikes, checkpoints, *tensors = ctx.saved_tensors
        x, states, parameters, weight, past, delay = _RecurrentScan.lists(counts, tensors)
        if not checkpoints.numel() and len(x) > CHECKPOINT_EVERY:
            forward = torch.ops.snnfast.own_recurrent_forward
            plain = (
                kernel,
                x,
                states,
                numbers,
                parameters,
                False,
                weight,
                past,
                delay,
                CHECKPOINT_EVERY,
            )
            checkpoints = forward(*plain)[-1]
        none = x.new_empty(0)
        given = [none if g is None else g for g in grads]
        given[-1] = given[-1] if return_v_seq else none
        found = list(
            backward_pass(
                kernel.rpartition("-")[0],
                torch.ops.snnfast.own_recurrent_backward,
                *(
                    kernel,
                    x,
                    states,
                    numbers,
                    parameters,
                    weight,
                    past,
                    delay,
                    spikes,
                    checkpoints,
                    CHECKPOINT_EVERY,
                    given,
                ),
                why=NO_SECOND,
            )
        )
        if past is None:
            del found[-2]
        if delay is None:
            del found[-1]
        return (*(None,) * 4, *(grad.sum_to_size(t.shape) for grad, t in zip(found, tensors)))


def _split(tensors: Sequence[Tensor], counts: tuple[int, int, int]) -> list[list[Tensor]]:
    a, b = counts[0], counts[0] + counts[1]
    return [list(tensors[:a]), list(tensors[a:b]), list(tensors[b:])]


def _gradients(
    arguments: tuple[Any, ...],
    checkpoints: Tensor,
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor]:
    kernel, counts, numbers, outputs, return_v_seq = arguments
    inputs, states, parameters = _split(tensors, counts)
    if not checkpoints.numel() and len(inputs[0]) > CHECKPOINT_EVERY:  # a raw call that kept none
        forward = torch.ops.snnfast.own_neuron_forward
        plain = kernel, inputs, states, numbers, parameters, outputs, False, CHECKPOINT_EVERY
        checkpoints = forward(*plain)[-1]
    carried = KERNELS[kernel].rows - (len(inputs) - 1) - (outputs - 1)
    none = inputs[0].new_empty(0)
    given = [none if g is None else g for g in grads[: outputs + carried]]
    last = grads[outputs + carried] if return_v_seq else None
    given.append(none if last is None else last)
    found = backward_pass(
        kernel.rpartition("-")[0],
        torch.ops.snnfast.own_neuron_backward,
        *(
            kernel,
            inputs,
            states,
            numbers,
            parameters,
            outputs,
            checkpoints,
            CHECKPOINT_EVERY,
            given,
        ),
        why=NO_SECOND,
    )
    return [
        grad if grad.shape == tensor.shape else grad.sum_to_size(tensor.shape)
        for grad, tensor in zip(found, tensors)
    ]


def _numbers_outside(step: Callable[..., Any]) -> list[Callable[[], Any]]:
    """Readers of numbers that the step takes from outside: a kernel is compiled for their values."""
    found: list[Callable[[], Any]] = []
    function = inspect.unwrap(step)
    space = function.__globals__
    for name in function.__code__.co_names:
        if isinstance(space.get(name), (bool, int, float)):
            found.append(lambda name=name: space.get(name))  # type: ignore[misc]
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
        if isinstance(value, (bool, int, float)):
            found.append(lambda cell=cell: cell.cell_contents)  # type: ignore[misc]
    return found


def _camel(name: str) -> str:
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return "".join(part[:1].upper() + part[1:] for part in text.split("_")) or "Neuron"


# ---- what PyTorch knows of the operators


def register(namespace: str) -> None:
    """Makes the operators traceable without data, differentiable, and usable under ``torch.vmap``."""
    if namespace != "snnfast":
        return
    forward, backward = "snnfast::own_neuron_forward", "snnfast::own_neuron_backward"
    recurrent = "snnfast::own_recurrent_forward", "snnfast::own_recurrent_backward"

    def results(
        x: Tensor, kernel: str, inputs: int, outputs: int, v_seq: bool, every: int
    ) -> list[Tensor]:
        dtype, rows = check.state_dtype(x.dtype), KERNELS[kernel].rows
        carried = rows - (inputs - 1) - (outputs - 1)
        count = torch.sym_max((x.shape[0] + every - 1) // every - 1, 0) if every else 0
        return [
            x.new_empty(x.shape),
            *(x.new_empty(x.shape, dtype=dtype) for _ in range(outputs - 1)),
            *(x.new_empty(x.shape[1:], dtype=dtype) for _ in range(carried)),
            x.new_empty(x.shape if v_seq else (0,), dtype=dtype),
            x.new_empty((count, rows, *x.shape[1:]) if every else (0,), dtype=dtype),
        ]

    def neurons(x: Tensor, count: int) -> list[Tensor]:
        return [x.new_empty(x.shape[1:], dtype=check.state_dtype(x.dtype)) for _ in range(count)]

    @torch.library.register_fake(forward)
    def _(
        kernel: str,
        inputs: Any,
        states: Any,
        numbers: Any,
        parameters: Any,
        outputs: int,
        v_seq: bool,
        every: int,
    ) -> Any:
        return results(inputs[0], kernel, len(inputs), outputs, v_seq, every)

    @torch.library.register_fake(backward)
    def _(
        kernel: str,
        inputs: Any,
        states: Any,
        numbers: Any,
        parameters: Any,
        outputs: int,
        checkpoints: Tensor,
        every: int,
        grads: Any,
    ) -> Any:
        return [
            *(x.new_empty(x.shape) for x in inputs),
            *neurons(inputs[0], len(states) + len(parameters)),
        ]

    @torch.library.register_fake(recurrent[0])
    def _(
        kernel: str,
        x: Tensor,
        states: Any,
        numbers: Any,
        parameters: Any,
        v_seq: bool,
        weight: Tensor,
        past: Any,
        delay: Any,
        every: int,
    ) -> Any:
        return results(x, kernel, 1, 1, v_seq, every)

    @torch.library.register_fake(recurrent[1])
    def _(
        kernel: str,
        x: Tensor,
        states: Any,
        numbers: Any,
        parameters: Any,
        weight: Tensor,
        past: Any,
        delay: Any,
        spikes: Tensor,
        checkpoints: Tensor,
        every: int,
        grads: Any,
    ) -> Any:
        nothing = x.new_empty(0, dtype=check.state_dtype(x.dtype))
        return [
            x.new_empty(x.shape),
            *neurons(x, len(states) + len(parameters)),
            weight.new_empty(weight.shape),
            nothing if past is None else past.new_empty(past.shape),
            nothing if delay is None else neurons(x, 1)[0],
        ]

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
        kernel, xs, states, numbers, parameters, outputs, v_seq, _every = inputs
        ctx.arguments = kernel, (len(xs), len(states), len(parameters)), numbers, outputs, v_seq
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[-1], *xs, *states, *parameters)

    def differentiate(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        checkpoints, *tensors = ctx.saved_tensors
        counts = ctx.arguments[1]
        found = _split(_gradients(ctx.arguments, checkpoints, tensors, grads), counts)
        return None, found[0], found[1], None, found[2], None, None, None

    torch.library.register_autograd(forward, differentiate, setup_context=keep)

    def keep_recurrent(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
        kernel, x, states, numbers, parameters, v_seq, weight, past, delay, _every = inputs
        counts = len(states), len(parameters), past is not None, delay is not None
        ctx.arguments = kernel, counts, numbers, v_seq
        ctx.set_materialize_grads(False)
        more = [t for t in (past, delay) if t is not None]
        ctx.save_for_backward(output[0], output[-1], x, *states, *parameters, weight, *more)

    def differentiate_recurrent(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        found = _RecurrentScan.backward(ctx, *grads[:-1])[4:]
        x, states, parameters, weight, past, delay = _RecurrentScan.lists(ctx.arguments[1], found)
        return None, x, states, None, parameters, None, weight, past, delay, None

    torch.library.register_autograd(
        recurrent[0], differentiate_recurrent, setup_context=keep_recurrent
    )
    for name in (backward, recurrent[1]):
        torch.library.register_autograd(name, no_double_backward("neuron", NO_SECOND))

    def mapped(info: Any, in_dims: Any, *arguments: Any) -> Any:
        """Samples side by side, behind the steps: to a neuron they are more neurons."""
        kernel, inputs, states, numbers, parameters, outputs, v_seq, every = arguments
        size = info.batch_size

        def behind(values: Sequence[Tensor], dims: Any, at: int) -> list[Tensor]:
            dims = [None] * len(values) if dims is None else dims
            return [
                v.unsqueeze(at).expand(*v.shape[:at], size, *v.shape[at:])
                if d is None
                else v.movedim(d, at)
                for v, d in zip(values, dims)
            ]

        xs = behind(inputs, in_dims[1], 1)
        shape = xs[0].shape[1:]

        def run(value: Tensor, dim: int | None) -> Tensor:
            if dim is not None:
                value = value.movedim(dim, 0)
                value = value.reshape(size, *(1,) * (len(shape) - value.dim()), *value.shape[1:])
            return parameter_run(value, shape)

        dims = [None] * len(parameters) if in_dims[4] is None else in_dims[4]
        found = torch.ops.snnfast.own_neuron_forward(
            *(kernel, xs, behind(states, in_dims[2], 0), numbers),
            *([run(v, d) for v, d in zip(parameters, dims)], outputs, v_seq, every),
        )
        carried = len(found) - outputs - 2
        if not v_seq:
            found[-2] = found[-2].expand(size, 0)
        found[-1] = found[-1].movedim(2, 0) if every else found[-1].expand(size, 0)
        return found, [1] * outputs + [0] * carried + [1 if v_seq else 0, 0]

    torch.library.register_vmap(forward, mapped)
    torch.library.register_vmap(recurrent[0], _one_by_one(torch.ops.snnfast.own_recurrent_forward))


def _one_by_one(kernel: Any) -> Callable[..., Any]:
    """A recurrent kernel under ``torch.vmap`` by a call a sample, which may have weights of its own."""

    def mapped(info: Any, in_dims: Any, *arguments: Any) -> Any:
        def pick(value: Any, dim: Any, k: int) -> Any:
            if isinstance(value, (list, tuple)):
                return [pick(v, d, k) for v, d in zip(value, dim or [None] * len(value))]
            return value if dim is None else value.select(dim, k)

        found = [
            kernel(*(pick(v, d, k) for v, d in zip(arguments, in_dims)))
            for k in range(info.batch_size)
        ]
        outputs = [torch.stack(column) for column in zip(*found)]
        return outputs, [0] * len(outputs)

    return mapped
