"""Arguments, checks and results that all neurons share.

A neuron's op takes its input ``x`` ``[T, ...]``, its states, the parameters that its equation declares by
:class:`Number` and :class:`Tau`, and the arguments of :func:`_call`. Its call has ``x``, the states (fields
``Tensor | None``), the parameters (fields :data:`snnfast.reference.call.Parameter`), its specific flags, and:

``hard_reset``
    a spike resets the membrane to ``v_reset``; else it subtracts ``v_threshold``, and ``v_reset`` is unused.
``fires``
    False for a readout that never fires.
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
from typing import Any, NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.reference.surrogate import SurrogateLike, resolve

from .call import Parameter, extended, prepare


class Number(NamedTuple):
    """A parameter that is an argument: a number that passes ``checked``, or a tensor."""

    default: float
    checked: Callable[[str, str, object], float] = check.number


class Tau(NamedTuple):
    """A parameter ``decay_<name>``, set directly or by ``tau_<name>``; without both, ``tau`` is ``default``."""

    default: float


class Neuron(NamedTuple):
    """An op of neurons.

    Attributes:
        check: checks the arguments and returns the call.
        call: the type of the call.
        states: names of the states.
        specific: arguments of this neuron besides the shared ones, by field of the call.
        fixed: values of shared arguments that it does not have.
    """

    check: Callable[..., Any]
    call: Any
    states: tuple[str, ...]
    specific: dict[str, Number | Tau]
    fixed: dict[str, Any]

    @property
    def fires(self) -> bool:
        """True if its neurons fire; False for a readout."""
        return "surrogate" not in self.fixed


# Name of an op -> its neuron; modules of snnfast.reference fill this registry.
NEURONS: dict[str, Neuron] = {}

# Values of ``fixed``: for neurons without a refractory period and with one spike per step, and for readouts.
ONE_SPIKE: dict[str, Any] = {"refractory": 0, "r": None, "max_spikes": 1}
READOUT: dict[str, Any] = ONE_SPIKE | {
    **{"v_threshold": 1.0, "v_reset": None, "strict": False, "surrogate": "straight_through"},
    **{"detach_reset": False, "return_state": True, "return_v_seq": True},
}


def _call(
    op: str,
    call_type: Any,
    x: Tensor,
    states: tuple[Tensor | None, ...],
    specific: tuple[Any, ...],
    fires: bool,
    /,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    refractory: int = 0,
    r: Tensor | None = None,
    max_spikes: int | None = 1,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> Any:
    """Return the call of type ``call_type``, from the shared arguments and the values of its specific fields."""
    leak = check.leak(op, "decay", tau, decay, 2.0, x)
    scaled, pulls = check.flag(op, "decay_input", decay_input), "rate" in call_type._fields
    rate = leak.rate if scaled or pulls else 1.0
    hard = v_reset is not None
    reset = check.parameter(op, "v_reset", v_reset, x) if hard else 0.0
    threshold = check.parameter(op, "v_threshold", v_threshold, x)
    call = call_type(
        *(x, *states, rate if pulls else leak.decay, rate if scaled else 1.0, threshold, reset),
        *(reset if v_rest is None else check.parameter(op, "v_rest", v_rest, x), *specific, hard),
        *(fires, check.flag(op, "strict", strict), resolve(surrogate)),
        check.flag(op, "detach_reset", detach_reset),
        check.flag(op, "return_state", return_state),
        check.flag(op, "return_v_seq", return_v_seq),
    )
    r, refractory, most = refractory_arguments(op, x, r, refractory, max_spikes, hard)
    if most > 1 and not isinstance(threshold, Tensor) and threshold <= 0:
        raise ValueError(f"{op}: max_spikes above 1 needs v_threshold above 0, got {threshold}")
    if not refractory and most == 1:
        return call
    return refractory_of(call_type)(*call, r, refractory, most)


def refractory_arguments(
    op: str, x: Tensor, r: Any, refractory: Any, max_spikes: Any, hard_reset: bool
) -> tuple[Tensor | None, int, float]:
    """Check and return ``r``, the refractory period, and the largest number of spikes per step."""
    plain = type(refractory) is type(max_spikes) is int and refractory == 0 and max_spikes == 1
    if plain and r is None:
        return None, 0, 1.0
    refractory = check.whole(op, "refractory", refractory, 0)
    if refractory >= 2**24:  # float32 counts exactly up to here
        raise ValueError(f"{op}: refractory must be fewer than 2**24 steps, got {refractory}")
    check.state(op, "r", r, x)
    if r is not None and not refractory:
        raise ValueError(f"{op}: r needs a refractory period, got refractory=0")
    most = math.inf if max_spikes is None else float(check.whole(op, "max_spikes", max_spikes))
    if most > 1 and hard_reset:
        raise ValueError(f"{op}: max_spikes above 1 needs a soft reset, v_reset=None")
    return None if r is None else r.detach(), refractory, most  # it counts steps: no gradient


# Shared arguments by name, those of :func:`_call`.
SHARED = {
    name: p.replace(kind=p.KEYWORD_ONLY)
    for name, p in inspect.signature(_call, eval_str=True).parameters.items()
    if p.kind == p.POSITIONAL_OR_KEYWORD
}


def enter(
    step: Callable[..., Any], like: str | None, same: bool, fixed: dict[str, Any], chosen: Callable[..., Any] | None
) -> Neuron:
    """Register the op of a step function in :data:`NEURONS`; see :func:`snnfast.reference.neuron.neuron`."""
    op, model = step.__name__, NEURONS.get(like or "")
    if same and model is not None:
        call, states, specific = model.call, model.states, model.specific
    else:
        call, states, specific = _read(step)
    choices = inspect.signature(chosen, eval_str=True).parameters.values() if chosen else ()
    shared = [
        p.replace(default=0.0) if name == "v_rest" and fixed is READOUT else p
        for name, p in SHARED.items()
        if name not in fixed
    ]
    at = 2 if "tau" in SHARED.keys() - fixed else 0  # position after the time constant
    arguments = [
        *(_argument("x", Tensor), *(_argument(name, Tensor | None, None) for name in states)),
        *shared[:at],
        *(p for name, argument in specific.items() for p in _arguments(name, argument)),
        *(p for p in choices if p.kind == p.KEYWORD_ONLY),
        *shared[at:],
    ]
    checked = _check(op, call, states, specific, chosen, arguments, fixed)
    checked.__module__, checked.__doc__ = step.__module__, step.__doc__
    checked.__annotations__ = {p.name: p.annotation for p in arguments} | {"return": call}
    vars(checked).update(__wrapped__=step, __signature__=inspect.Signature(arguments))
    if step.__doc__ is not None and model is not None:  # python -OO has none
        names = [p.name for p in arguments]
        checked.__doc__ = _completed(step.__doc__, model.check.__doc__ or "", names)
    NEURONS[op] = neuron = Neuron(checked, call, states, specific, fixed)
    return neuron


def _check(
    op: str,
    call: Any,
    states: tuple[str, ...],
    specific: dict[str, Number | Tau],
    chosen: Callable[..., Any] | None,
    arguments: list[inspect.Parameter],
    fixed: dict[str, Any],
) -> Callable[..., Any]:
    """Generate the source of a neuron's check, as dataclasses do: a loop over arguments takes 2 us more a call."""
    first, choices = len(states) + 1, list(inspect.signature(chosen).parameters) if chosen else []
    of_step = call._fields[first + len(MEMBRANE) : call._fields.index("hard_reset")]
    lines = [f"sequence({op!r}, x)", *(f"state({op!r}, {name!r}, {name}, x)" for name in states)]
    for name, argument in specific.items():
        if isinstance(argument, Number):
            lines.append(f"{name} = parameter({op!r}, {name!r}, {name}, x, own[{name!r}].checked)")
            continue
        tau, leak = (name.replace("decay", word) for word in ("tau", "leak"))
        lines.append(f"{leak} = leak({op!r}, {name!r}, {tau}, {name}, {argument.default}, x)")
        lines.append(f"{name} = {leak}.decay")
    if chosen:
        targets = ", ".join(name for name in of_step if name not in specific)
        lines.append(f"{targets} = chosen({', '.join(f'{name}={name}' for name in choices)})")
    shared = ", ".join(repr(fixed[name]) if name in fixed else name for name in SHARED)
    before, after = (f"({', '.join(names)},)" if names else "()" for names in (states, of_step))
    lines.append(f"return call({op!r}, of, x, {before}, {after}, {'surrogate' not in fixed}, {shared})")
    bare = inspect.Signature([p.replace(annotation=p.empty) for p in arguments])
    space: dict[str, Any] = {"sequence": check.sequence, "state": check.state, "parameter": check.parameter}
    space |= {"leak": check.leak, "own": specific, "chosen": chosen, "of": call, "call": _call}
    exec("\n    ".join([f"def {op}{bare}:", *lines]), space)
    return space[op]  # type: ignore[no-any-return]


# Fields of the membrane in every call; equations with the parameter rate have the field rate instead of decay.
MEMBRANE = ("decay", "gain", "v_threshold", "v_reset", "v_rest")


def _read(step: Callable[..., Any]) -> tuple[Any, tuple[str, ...], dict[str, Number | Tau]]:
    """Return the call type of a step function, the names of its states, and its specific arguments."""
    every = list(inspect.signature(step, eval_str=True).parameters.values())
    parameters = {p.name: p for p in every if p.kind == p.KEYWORD_ONLY}
    states = tuple(p.name for p in every[2:] if p.name not in parameters)
    pulls = "rate" in parameters
    fields: dict[str, Any] = {"x": Tensor} | dict.fromkeys(states, Tensor | None)
    fields |= {"rate" if pulls and name == "decay" else name: Parameter for name in MEMBRANE}
    for name, p in parameters.items():
        fields.setdefault(name, bool if p.annotation is bool else Parameter)
    fields |= dict.fromkeys(("hard_reset", "fires", "strict"), bool) | {"surrogate": SurrogateLike}
    fields |= dict.fromkeys(("detach_reset", "return_state", "return_v_seq"), bool)
    call: Any = NamedTuple(f"{step.__name__.capitalize()}Call", list(fields.items()))  # type: ignore[misc]
    call.__module__ = step.__module__
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    specific = {n: Number(value) if isinstance(value, float) else value for n, value in defaults.items()}
    return prepare(call), states, specific


def _argument(name: str, annotation: Any, *default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, annotation=annotation, default=(*default, inspect.Parameter.empty)[0])


def _arguments(name: str, argument: Number | Tau) -> list[inspect.Parameter]:
    """Return the arguments for a parameter of an equation."""
    kind = inspect.Parameter.KEYWORD_ONLY
    if isinstance(argument, Number):
        return [inspect.Parameter(name, kind, annotation=float | Tensor, default=argument.default)]
    names = name.replace("decay", "tau"), name
    return [inspect.Parameter(n, kind, annotation=float | Tensor | None, default=None) for n in names]


def _completed(docstring: str, model: str, arguments: Iterable[str]) -> str:
    """Complete the arguments, result and errors of a docstring from that of a model."""
    of_model, said = sections(model), sections(docstring)
    every = entries(of_model["Args"]) | entries(said.get("Args", ""))
    whole = of_model | said | {"Args": "\n".join(every[name] for name in arguments)}
    return "\n\n".join(f"{title}:\n{text}" if title else text for title, text in whole.items())


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
    return _REFRACTORY[call]


def calls_of(neuron: Neuron) -> list[Any]:
    """Return the call types of a neuron: the usual one, and :func:`refractory_of` it if it has such arguments."""
    usual = [neuron.call]
    return usual if "refractory" in neuron.fixed else [*usual, refractory_of(neuron.call)]


def result_of(call: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Return the result of a neuron's op, made from the spikes, states and membranes of a kernel or the reference."""
    spikes, *states, v_seq = outputs
    if getattr(call, "refractory", None) == 0:  # r is 0, too
        states.pop()
    if not call.return_state:
        states = [None] * len(states)  # type: ignore[list-item]
    if not call.fires:
        return v_seq, *states
    return (spikes, *states, v_seq) if call.return_v_seq else (spikes, *states)
