"""Signature of a step function: its arguments, the checks of a call, and the kernel that a call needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.eager import Scalar
from snnfast.reference.neuron_arguments import SHARED, refractory_arguments
from snnfast.reference.surrogate import Surrogate, resolve

__all__ = ["ALPHA", "MOST", "PERIOD", "Call", "StepFunction", "Variant"]

MOST_ROWS, MOST_PARAMETERS = 16, 48  # csrc/core/any_neuron.h

# Arguments of every neuron besides the parameters of its step, with their defaults.
NOT_SHARED = ("tau", "decay", "decay_input", "v_threshold", "v_rest")
FIRING = {name: p.default for name, p in SHARED.items() if name not in NOT_SHARED}
# Parameters of kernels that the step does not have.
ALPHA, PERIOD, MOST = "surrogate_alpha", "refractory_steps", "most_spikes"


class Variant(NamedTuple):
    """Choices that a kernel is compiled for; parameters that are numbers are its arguments.

    Kernels for the CPU have the dtype of the states, those for CUDA the dtype of the inputs.
    """

    recurrent: bool
    dtype: torch.dtype
    hard_reset: bool
    strict: bool
    detach_reset: bool
    surrogate: Any
    refractory: bool
    several: bool
    tensors: tuple[str, ...]
    target: str = "cpu"  # of snnfast.compiler.build


class Call(NamedTuple):
    """The checked arguments of a call; refractory period and reset are among states and parameters."""

    inputs: list[Tensor]
    states: list[Tensor | None]
    parameters: dict[str, Any]
    variant: Variant
    surrogate: Any
    return_state: bool
    return_v_seq: bool


class StepFunction:
    """A step function and the arguments of its op.

    Attributes:
        step: the step function.
        name: its name.
        inputs: names of the inputs.
        states: names of the states.
        parameters: defaults of the parameters by name.
        outputs: number of results besides the states.
        fires: whether the step calls ``fire``.
    """

    def __init__(self, step: Callable[..., Any], inputs: int) -> None:
        self.step, self.name = step, step.__name__
        self.__doc__ = step.__doc__
        self.__name__, self.__qualname__ = step.__name__, step.__qualname__
        self.__module__ = step.__module__
        self._read_signature(check.whole(f"neuron {self.name}", "inputs", inputs))
        self.outputs, self.fires = self._try_out()
        self.__signature__ = self._signature()

    def _read_signature(self, inputs: int) -> None:
        op = f"neuron {self.name}"
        found = list(inspect.signature(self.step).parameters.values())
        by_place = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        by_name = [p for p in found if p.kind == p.KEYWORD_ONLY]
        expected = "expected def step(fire, x, v, *, parameter=default)"
        if len(by_place) + len(by_name) != len(found):
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
                raise TypeError(f"{op}: {p.name} is an argument of every neuron; call this parameter otherwise")
            if p.default is p.empty:
                raise TypeError(f"{op}: the parameter {p.name} needs a default, a number")
            self.parameters[p.name] = check.number(op, p.name, p.default)
        taken = [name for name in names if name in FIRING or name in self.parameters]
        if taken:
            raise TypeError(f"{op}: {taken[0]} is an argument of every neuron; call this input or state otherwise")

    def _try_out(self) -> tuple[int, bool]:
        """Run a step of one neuron; return the number of its outputs, and whether it fires."""
        zero = torch.zeros(())
        spikes: list[Tensor] = []

        def fire(h: Any, threshold: Any, subtract: Any = None) -> tuple[Any, Any, Any]:
            spikes.append(zero.clone())
            return spikes[-1], h, h

        with torch.no_grad():
            returned = self.step(
                fire, *[zero] * len(self.inputs), *[zero] * len(self.states), **self.named(self.parameters)
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

    def bind(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> Call:
        """Check the arguments of a call.

        Raises:
            TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
        """
        op = self.name
        places = (*self.inputs, *self.states)
        if len(arguments) > len(places):
            raise TypeError(
                f"{op}: takes {', '.join(places)} by position, and parameters by keyword; got {len(arguments)} "
                "arguments"
            )
        bound: dict[str, Any] = dict(zip(places, arguments))
        for name, value in keywords.items():
            if name in bound:
                raise TypeError(f"{op}: {name} is given twice")
            if name not in places and name not in self.parameters and name not in FIRING:
                known = (*self.states, *self.parameters, *FIRING)
                raise TypeError(f"{op}: there is no argument {name!r}; there are {', '.join(known)}")
            bound[name] = value
        for name in self.inputs:
            if name not in bound:
                raise TypeError(f"{op}: the input {name} is missing")
        inputs = [bound[name] for name in self.inputs]
        x = inputs[0]
        check.sequence(op, x)
        for name, value in zip(self.inputs[1:], inputs[1:]):
            check.shape(op, name, value, x.shape)
            check.beside(op, name, value, self.inputs[0], x)
        states = [bound.get(name) for name in self.states]
        for name, value in zip(self.states, states):
            check.state(op, name, value, x)
        firing = FIRING | self.parameters | bound
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
        r, period, most = refractory_arguments(
            op, x, firing["r"], firing["refractory"], firing["max_spikes"], hard and self.fires
        )
        if not self.fires:
            for name in ("strict", "refractory", "max_spikes", "detach_reset"):
                if firing[name] != FIRING[name]:
                    raise ValueError(f"{op}: {name} needs spikes, and the step never calls fire")
        if period:
            states.append(r)
        if isinstance(surrogate, Surrogate) and self.fires:
            parameters[ALPHA] = surrogate.alpha
        if period:
            parameters[PERIOD] = float(period)
        if most > 1:
            parameters[MOST] = most
        variant = Variant(
            False,
            check.state_dtype(x.dtype),
            hard,
            strict,
            detach,
            surrogate.name if isinstance(surrogate, Surrogate) else surrogate,
            period > 0,
            most > 1,
            tuple(name for name, value in parameters.items() if isinstance(value, Tensor)),
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

    def named(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters as the step takes them."""
        taken = {name: parameters.get(name) for name in self.parameters}
        return {k: Scalar(v) if isinstance(v, float) else v for k, v in taken.items()}
