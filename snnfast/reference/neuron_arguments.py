"""Neurons from step functions, the package's and those of users: arguments, checks, calls and results of their ops.

The op of a :class:`Neuron` takes its inputs ``[T, ...]``, its states, the parameters of its step that have a default,
and the arguments of :func:`_call`; in the package also those of :func:`_membrane`. Its call has the inputs, the states
(fields ``Tensor | None``), the parameters (fields :data:`snnfast.reference.call.Parameter`), its specific flags, and:

``hard_reset``
    a spike resets the membrane to ``v_reset``; else it subtracts ``v_threshold``, and ``v_reset`` is unused: 0 in the
    package, whose kernels take a number, and None for a user's step, which may read it.
``fires``
    False for a readout of the package, which returns its membrane.
``strict``
    fires above the threshold only, not at it.
``surrogate``, ``detach_reset``
    the surrogate gradient of the spike, resolved; whether no gradient passes through the spike into the reset.
``return_state``, ``return_v_seq``
    whether to return the states after the last step, and the membrane after every step.

A neuron with a refractory period, or with several spikes per step, has another call type (:func:`refractory_of`), with
an additional state ``r``, the number of remaining refractory steps, and the fields ``refractory`` and ``max_spikes``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.surrogate import SurrogateLike, resolve

from .call import Parameter, extended, prepare
from .eager import Scalar


class Number(NamedTuple):
    """A parameter that is an argument: a number that passes ``checked``, or a tensor."""

    default: float
    checked: Callable[[str, str, object], float] = check.number


class Tau(NamedTuple):
    """A parameter ``decay_<name>``, set directly or by ``tau_<name>``; without both, ``tau`` is ``default``."""

    default: float


class Neuron:
    """A step function, and the arguments, checks and calls of its op.

    Neurons of the package and of users differ in one thing, ``in_package``: parameters without a default come from
    arguments that all neurons of the package share, and their equations call the functions of kernels themselves.

    Attributes:
        name: name of the op.
        step: the step function, ``step(fire, *inputs, *states, **parameters) -> (*outputs, *states)``.
        in_package: whether this is a neuron of the package.
        inputs, states: names of its inputs and states.
        parameters: names of its parameters.
        flags: those that are flags.
        outputs: number of its results besides the states.
        fires: whether it fires; else it is a readout.
        specific: arguments of this neuron besides the shared ones, by field of the call.
        fixed: values of shared arguments that it does not have.
        prefetch: whether CUDA kernels load inputs a group of steps ahead.
        kernel_parameters: parameters of kernels that are compiled at first use; fields of the call in this order.
        call: the type of its calls; its attribute ``neuron`` is the neuron.
        check: checks the arguments and returns the call.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        *,
        inputs: int = 1,
        in_package: bool = False,
        like: Neuron | None = None,
        same: bool = False,
        fixed: dict[str, Any] | None = None,
        chosen: Callable[..., Any] | None = None,
        prefetch: bool = False,
    ) -> None:
        """See :func:`snnfast.reference.neuron.neuron` and :func:`snnfast.neuron` for the arguments."""
        self.name, self.in_package = step.__name__, in_package
        self.__name__, self.__qualname__, self.__module__ = step.__name__, step.__qualname__, step.__module__
        model = like if same else None  # whose step and calls these are
        self.step: Callable[..., Any] = step if model is None else model.step
        self.prefetch: bool = prefetch if model is None else model.prefetch
        self._read_signature(check.integer(f"neuron {self.name}", "inputs", inputs))
        self.outputs, fires = self._try_out()
        self.call: Any = _call_type(self) if model is None else model.call
        absent = {name: None for name in MEMBRANE_ARGUMENTS if name not in ("v_reset", *self.specific)}
        self.fixed: dict[str, Any] = (fixed or {}) if in_package else absent
        self.fires = fires and "surrogate" not in self.fixed
        self.kernel_parameters = tuple(dict.fromkeys((*self.parameters, *["v_reset"] * self.fires)))
        arguments = self._arguments(chosen)
        self.check = _generated_check(self, arguments, chosen)
        self.check.__module__, self.check.__name__, self.check.__qualname__ = step.__module__, self.name, self.name
        self.check.__doc__ = step.__doc__
        self.check.__annotations__ = {p.name: p.annotation for p in arguments} | {"return": self.call}
        vars(self.check).update(__wrapped__=step, __signature__=inspect.Signature(arguments))
        if step.__doc__ is not None and like is not None:  # python -OO has none
            self.check.__doc__ = _completed(step.__doc__, like.check.__doc__ or "", [p.name for p in arguments])

    def checked(self, op: str, /, *tensors: Any, **arguments: Any) -> Any:
        """Check the arguments of an op that runs these neurons; return their call."""
        try:
            return self.check(*tensors, **arguments)
        except TypeError:
            check.refuse_unknown(op, self.check, arguments)
            raise

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
        self.parameters = tuple(p.name for p in by_name)
        self.flags = tuple(p.name for p in by_name if p.annotation in (bool, "bool"))
        self.specific: dict[str, Number | Tau] = {}
        for p in by_name:
            if p.name in FIRING and p.name != "v_reset":
                raise TypeError(f"{op}: {p.name} is an argument of every neuron; call this parameter otherwise")
            if isinstance(p.default, (Number, Tau)):
                self.specific[p.name] = p.default
            elif p.default is not p.empty:
                self.specific[p.name] = Number(check.number(op, p.name, p.default))
            elif not self.in_package:
                raise TypeError(f"{op}: the parameter {p.name} needs a default, a number")
        for name in names:
            if name in FIRING or name in self.parameters:
                raise TypeError(f"{op}: {name} is an argument of every neuron; call this input or state otherwise")
        for name in (*names, *self.parameters):
            if name.startswith("_") or name in NOT_FIELDS:
                raise TypeError(
                    f"{op}: {name} cannot be a field of the call; call this input, state or parameter otherwise"
                )

    def _try_out(self) -> tuple[int, bool]:
        """Run a step of one neuron; return the number of its outputs, and whether it fires."""
        zero = torch.zeros(())
        spikes: list[Tensor] = []

        def fire(h: Any = None, threshold: Any = None, subtract: Any = None, *more: Any) -> tuple[Any, Any, Any]:
            if h is None or threshold is None or more:
                raise TypeError(
                    f"neuron {self.name}: fire takes the membrane and the threshold, fire(h, threshold), and what a "
                    "soft reset subtracts, if that is not the threshold: fire(h, threshold, subtract)"
                )
            spikes.append(zero.clone())
            return spikes[-1], h, h

        defaults = {name: Scalar(argument.default) for name, argument in self.specific.items()}
        parameters = {name: defaults.get(name, zero) for name in self.parameters}
        with torch.no_grad():
            returned = self.step(fire, *[zero] * len(self.inputs), *[zero] * len(self.states), **parameters)
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

    def _arguments(self, chosen: Callable[..., Any] | None) -> list[inspect.Parameter]:
        """Return the arguments of the op, in order."""
        choices = inspect.signature(chosen, eval_str=True).parameters.values() if chosen else ()
        shared = [
            p.replace(default=0.0) if name == "v_rest" and self.fixed is READOUT else p
            for name, p in SHARED.items()
            if name not in self.fixed and name not in self.specific
        ]
        place = 2 if shared[0].name == "tau" else 0  # position after the time constant
        return [
            *(_argument(name, Tensor) for name in self.inputs),
            *(_argument(name, Tensor | None, None) for name in self.states),
            *shared[:place],
            *(p for name, argument in self.specific.items() for p in _arguments(name, argument)),
            *(p for p in choices if p.kind == p.KEYWORD_ONLY),
            *shared[place:],
        ]


# Name of an op of the package -> its neuron; modules of snnfast.reference fill this registry.
NEURONS: dict[str, Neuron] = {}

# Values of ``fixed``: for neurons without a refractory period and with one spike per step, and for readouts.
ONE_SPIKE: dict[str, Any] = {"refractory": 0, "r": None, "max_spikes": 1}
READOUT: dict[str, Any] = ONE_SPIKE | {
    **{"v_threshold": 1.0, "v_reset": None, "strict": False, "surrogate": "straight_through"},
    **{"detach_reset": False, "return_state": True, "return_v_seq": True},
}

MOST_ROWS, MOST_PARAMETERS = 16, 48  # csrc/core/any_neuron.h


def _membrane(
    op: str,
    pulls: bool,
    x: Tensor,
    /,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
) -> tuple[float | Tensor, ...]:
    """Return the values of the fields :data:`MEMBRANE`, from arguments that all neurons of the package share.

    ``pulls``: the equation has the parameter ``rate``.
    """
    leak = check.leak(op, "decay", tau, decay, 2.0, x)
    scaled = check.flag(op, "decay_input", decay_input)
    rate = leak.rate if scaled or pulls else 1.0
    reset = 0.0 if v_reset is None else check.parameter(op, "v_reset", v_reset, x)
    threshold = check.parameter(op, "v_threshold", v_threshold, x)
    rest = reset if v_rest is None else check.parameter(op, "v_rest", v_rest, x)
    return rate if pulls else leak.decay, rate if scaled else 1.0, threshold, reset, rest


def _call(
    op: str,
    call_type: Any,
    x: Tensor,
    values: tuple[Any, ...],
    fires: bool,
    /,
    v_reset: float | Tensor | None = 0.0,
    strict: bool = False,
    refractory: int = 0,
    r: Tensor | None = None,
    max_spikes: int | None = 1,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> Any:
    """Return the call of type ``call_type``, from the values of its first fields and the arguments of every neuron."""
    hard = v_reset is not None
    call = call_type(
        *(*values, hard, fires, check.flag(op, "strict", strict), resolve(surrogate)),
        check.flag(op, "detach_reset", detach_reset),
        check.flag(op, "return_state", return_state),
        check.flag(op, "return_v_seq", return_v_seq),
    )
    r, refractory, most = refractory_arguments(op, x, r, refractory, max_spikes, hard)
    if not refractory and most == 1:
        return call
    threshold = getattr(call, "v_threshold", 1.0)
    if most > 1 and not isinstance(threshold, Tensor) and threshold <= 0:
        raise ValueError(f"{op}: max_spikes above 1 needs v_threshold above 0, got {threshold}")
    return refractory_of(call_type)(*call, r, refractory, most)


def refractory_arguments(
    op: str, x: Tensor, r: Any, refractory: Any, max_spikes: Any, hard_reset: bool
) -> tuple[Tensor | None, int, float]:
    """Check and return ``r``, the refractory period, and the largest number of spikes per step."""
    plain = type(refractory) is type(max_spikes) is int and refractory == 0 and max_spikes == 1
    if plain and r is None:
        return None, 0, 1.0
    refractory = check.integer(op, "refractory", refractory, 0)
    if refractory >= 2**24:  # float32 counts exactly up to here
        raise ValueError(f"{op}: refractory must be fewer than 2**24 steps, got {refractory}")
    check.state(op, "r", r, x)
    if r is not None and not refractory:
        raise ValueError(f"{op}: r needs a refractory period, got refractory=0")
    most = math.inf if max_spikes is None else float(check.integer(op, "max_spikes", max_spikes))
    if most > 1 and hard_reset:
        raise ValueError(f"{op}: max_spikes above 1 needs a soft reset, v_reset=None")
    return None if r is None else r.detach(), refractory, most  # it counts steps: no gradient


def _arguments_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function, eval_str=True).parameters.items()
    return {n: p.replace(kind=p.KEYWORD_ONLY) for n, p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD}


# Shared arguments by name: those of the membrane of the package's neurons, and those of every neuron.
MEMBRANE_ARGUMENTS, FIRING = _arguments_of(_membrane), _arguments_of(_call)
SHARED = MEMBRANE_ARGUMENTS | FIRING

# Fields of the membrane in calls of the package; equations with the parameter rate have the field rate for decay.
MEMBRANE = ("decay", "gain", "v_threshold", "v_reset", "v_rest")
# Fields of every call, attributes of its type, and the parameter of kernels that is no field.
NOT_FIELDS = ("hard_reset", "fires", "kinds", "several", "neuron", "neuron_call", "surrogate_alpha")


def _call_type(neuron: Neuron) -> Any:
    """Return the type of the calls of a neuron."""
    fields: dict[str, Any] = dict.fromkeys(neuron.inputs, Tensor) | dict.fromkeys(neuron.states, Tensor | None)
    if neuron.in_package:
        pulls = "rate" in neuron.parameters
        fields |= {"rate" if pulls and name == "decay" else name: Parameter for name in MEMBRANE}
    for name in (*neuron.parameters, "v_reset"):
        fields.setdefault(name, bool if name in neuron.flags else Parameter)
    fields |= dict.fromkeys(("hard_reset", "fires", "strict"), bool) | {"surrogate": SurrogateLike}
    fields |= dict.fromkeys(("detach_reset", "return_state", "return_v_seq"), bool)
    call_type = cast("Any", NamedTuple(f"{type_name(neuron.name)}Call", list(fields.items())))
    call_type.__module__, call_type.neuron = neuron.__module__, neuron
    return prepare(call_type)


def type_name(name: str) -> str:
    """Return the name of the type made from a step function, in Python or C++: ``Klif`` for ``klif``."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return "".join(part[:1].upper() + part[1:] for part in text.split("_")) or "Neuron"


def _generated_check(
    neuron: Neuron, arguments: list[inspect.Parameter], chosen: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Generate the source of a neuron's check, as dataclasses do: a loop over arguments takes 2 to 4 us more a call.

    Names with an underscore are not those of arguments.
    """
    op, x, call, specific = neuron.name, neuron.inputs[0], neuron.call, neuron.specific
    lines = [f"_sequence({op!r}, {x})"]
    lines += [f"_alike({op!r}, {name!r}, {name}, {x!r}, {x})" for name in neuron.inputs[1:]]
    lines += [f"_state({op!r}, {name!r}, {name}, {x})" for name in neuron.states]
    for name, argument in specific.items():
        if isinstance(argument, Tau):
            tau, leak = (name.replace("decay", word) for word in ("tau", "_leak"))
            lines.append(f"{leak} = _leak({op!r}, {name!r}, {tau}, {name}, {argument.default}, {x})")
            lines.append(f"{name} = {leak}.decay")
        elif name != "v_reset":
            lines.append(f"{name} = _parameter({op!r}, {name!r}, {name}, {x}, _specific[{name!r}].checked)")
    fields = list(call._fields[: call._fields.index("hard_reset")])
    if chosen:
        choices = inspect.signature(chosen).parameters.values()
        values = (f"{p.name}={p.name if p.kind == p.KEYWORD_ONLY else f'_{p.name}'}" for p in choices)
        of_step = fields[len(neuron.inputs) + len(neuron.states) + len(MEMBRANE) :]
        targets = ", ".join(name for name in of_step if name not in specific)
        lines.append(f"{targets} = _chosen({', '.join(values)})")
    words = {name: repr(neuron.fixed[name]) if name in neuron.fixed else name for name in SHARED}
    if neuron.in_package:
        first, after = len(neuron.inputs) + len(neuron.states), len(MEMBRANE)
        membrane = ", ".join(words[name] for name in MEMBRANE_ARGUMENTS)
        fields[first : first + after] = [f"*_membrane({op!r}, {'rate' in call._fields}, {x}, {membrane})"]
    else:
        lines.append(f"_reset = None if v_reset is None else _parameter({op!r}, 'v_reset', v_reset, {x})")
        fields[fields.index("v_reset")] = "_reset"
        if not neuron.fires:
            lines.append(f"_no_spikes({op!r}, strict, refractory, max_spikes, detach_reset)")
    shared = ", ".join(words[name] for name in FIRING)
    fires = neuron.fires or not neuron.in_package  # a readout of the package returns its membrane
    lines.append(f"return _call({op!r}, _type, {x}, ({', '.join(fields)},), {fires}, {shared})")
    bare = inspect.Signature([p.replace(annotation=p.empty) for p in arguments])
    space: dict[str, Any] = {"_sequence": check.sequence, "_state": check.state, "_parameter": check.parameter}
    space |= {"_leak": check.leak, "_alike": _alike, "_no_spikes": _no_spikes, "_membrane": _membrane, "_call": _call}
    space |= {"_specific": specific, "_chosen": chosen, "_type": call}
    exec("\n    ".join([f"def check{bare}:", *lines]), space)
    return space["check"]  # type: ignore[no-any-return]


def _alike(op: str, name: str, value: Any, other: str, x: Tensor) -> None:
    """Require an input with shape, dtype and device of the first one, ``other``."""
    check.shape(op, name, value, x.shape)
    check.same_dtype_and_device(op, name, value, other, x)


def _no_spikes(op: str, *values: Any) -> None:
    """Require the defaults of the arguments that are about spikes."""
    for name, value in zip(("strict", "refractory", "max_spikes", "detach_reset"), values):
        if value != FIRING[name].default:
            raise ValueError(f"{op}: {name} needs spikes, and the step never calls fire")


def _argument(name: str, annotation: Any, *default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, annotation=annotation, default=(*default, inspect.Parameter.empty)[0])


def _arguments(name: str, argument: Number | Tau) -> list[inspect.Parameter]:
    """Return the arguments for a parameter of an equation."""
    kind = inspect.Parameter.KEYWORD_ONLY
    if isinstance(argument, Number):
        number = float | Tensor | None if name == "v_reset" else float | Tensor
        return [inspect.Parameter(name, kind, annotation=number, default=argument.default)]
    names = name.replace("decay", "tau"), name
    return [inspect.Parameter(n, kind, annotation=float | Tensor | None, default=None) for n in names]


def _completed(docstring: str, model: str, arguments: Iterable[str]) -> str:
    """Complete the arguments, result and errors of a docstring from that of a model."""
    of_model, said = sections(model), sections(docstring)
    every = entries(of_model["Args"]) | entries(said.get("Args", ""))
    merged = of_model | said | {"Args": "\n".join(every[name] for name in arguments)}
    return "\n\n".join(f"{title}:\n{text}" if title else text for title, text in merged.items())


def sections(docstring: str) -> dict[str, str]:
    """Return the sections of a docstring by title; the text before the first title has an empty one."""
    text = inspect.cleandoc(docstring)
    before, *rest = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)
    return {"": before.rstrip()} | {t: text.rstrip() for t, text in zip(rest[::2], rest[1::2])}


def entries(text: str) -> dict[str, str]:
    """Return the lines of every argument in a section of arguments."""
    found = re.split(r"\n(?=    \w)", text)
    return {entry.split(":")[0].strip(): entry for entry in found}


_REFRACTORY: dict[Any, Any] = {}


def refractory_of(call: Any) -> Any:
    """Return the call type of a neuron with a refractory period or several spikes per step."""
    if call not in _REFRACTORY:
        fields = {"r": Tensor | None, "refractory": int, "max_spikes": float}
        _REFRACTORY[call] = extended(call, f"Refractory{call.__name__}", fields)
        _REFRACTORY[call].neuron = call.neuron
    return _REFRACTORY[call]


def calls_of(neuron: Neuron) -> list[Any]:
    """Return the call types of a neuron: the usual one, and :func:`refractory_of` it if it has such arguments."""
    usual = [neuron.call]
    return usual if "refractory" in neuron.fixed else [*usual, refractory_of(neuron.call)]


def result_of(call: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Return the result of a neuron's op, made from the spikes, states and membranes of a kernel or the reference."""
    neuron = type(call).neuron
    n = neuron.outputs
    # Without a refractory period r is 0, too.
    states = outputs[n : n + len(neuron.states) + (getattr(call, "refractory", 0) > 0)]
    if not call.return_state:
        states = (None,) * len(states)  # type: ignore[assignment]
    if not call.fires:
        return outputs[-1], *states
    first = outputs[:1] if n == 1 else [value.to(outputs[0].dtype) for value in outputs[:n]]
    return (*first, *states, outputs[-1]) if call.return_v_seq else (*first, *states)
