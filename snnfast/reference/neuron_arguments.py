"""Arguments, checks and results of neurons: what all of them share stands here once.

A neuron's op takes its input ``x`` ``[T, ...]``, its states, what its equation asks for by :class:`Given` and
:class:`Tau`, and the arguments of :func:`_call`. Its call has ``x``, the states (fields ``Tensor | None``), the
parameters (fields :data:`snnfast.reference.call.Parameter`), flags of its own, and:

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

A neuron that is refractory after a spike, or may fire several times in a step, has another call type
(:func:`refractory_of`), with an additional state ``r``, the number of refractory steps that are left, and the fields
``refractory`` and ``max_spikes``.
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


class Given(NamedTuple):
    """A parameter that is an argument: a number that ``checked`` lets through, or a tensor."""

    default: float
    checked: Callable[[str, str, object], float] = check.number


class Tau(NamedTuple):
    """A parameter ``decay_<name>`` that is given as such or as ``tau_<name>``; without both ``tau`` is ``default``."""

    default: float


class Neuron(NamedTuple):
    """An op of neurons.

    Attributes:
        check: checks the arguments and returns the call.
        call: the type of the call.
        states: names of the states.
        own: arguments that not every neuron has, by the field of the call.
        fixed: arguments of other neurons that it has not, with their values.
        layer: name of the layer that is made from it, if one is.
    """

    check: Callable[..., Any]
    call: Any
    states: tuple[str, ...]
    own: dict[str, Given | Tau]
    fixed: dict[str, Any]
    layer: str

    @property
    def fires(self) -> bool:
        """Whether its neurons fire."""
        return "surrogate" not in self.fixed


# Every neuron by the name of its op; snnfast.reference enters them.
NEURONS: dict[str, Neuron] = {}

# Values of ``fixed``: of neurons that have no refractory period and one spike a step, and of readouts.
ONE_SPIKE: dict[str, Any] = {"refractory": 0, "r": None, "max_spikes": 1}
READOUT: dict[str, Any] = ONE_SPIKE | {
    **{"v_threshold": 1.0, "v_reset": None, "strict": False, "surrogate": "straight_through"},
    **{"detach_reset": False, "return_state": True, "return_v_seq": True},
}


def _call(
    op: str,
    of: Any,
    x: Tensor,
    states: tuple[Tensor | None, ...],
    own: tuple[Any, ...],
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
    """The call of type ``of``, from the arguments that neurons share and the values of its own fields."""
    leak = check.leak(op, "decay", tau, decay, 2.0, x)
    scaled, pulls = check.flag(op, "decay_input", decay_input), "rate" in of._fields
    rate = leak.rate if scaled or pulls else 1.0
    hard = v_reset is not None
    reset = check.parameter(op, "v_reset", v_reset, x) if hard else 0.0
    threshold = check.parameter(op, "v_threshold", v_threshold, x)
    call = of(
        *(x, *states, rate if pulls else leak.decay, rate if scaled else 1.0, threshold, reset),
        *(reset if v_rest is None else check.parameter(op, "v_rest", v_rest, x), *own, hard),
        *(fires, check.flag(op, "strict", strict), resolve(surrogate)),
        check.flag(op, "detach_reset", detach_reset),
        check.flag(op, "return_state", return_state),
        check.flag(op, "return_v_seq", return_v_seq),
    )
    r, refractory, most = silence(op, x, r, refractory, max_spikes, hard)
    if most > 1 and not isinstance(threshold, Tensor) and threshold <= 0:
        raise ValueError(f"{op}: max_spikes above 1 needs v_threshold above 0, got {threshold}")
    if not refractory and most == 1:
        return call
    return refractory_of(of)(*call, r, refractory, most)


def silence(
    op: str, x: Tensor, r: Any, refractory: Any, max_spikes: Any, hard_reset: bool
) -> tuple[Tensor | None, int, float]:
    """The checked steps of silence that are left, the refractory period, and the largest number of spikes a step."""
    plain = type(refractory) is type(max_spikes) is int and refractory == 0 and max_spikes == 1
    if plain and r is None:
        return None, 0, 1.0
    refractory = check.whole(op, "refractory", refractory, 0)
    if refractory >= 2**24:  # which float32 counts one by one
        raise ValueError(f"{op}: refractory must be fewer than 2**24 steps, got {refractory}")
    check.state(op, "r", r, x)
    if r is not None and not refractory:
        raise ValueError(f"{op}: r needs a refractory period, got refractory=0")
    most = math.inf if max_spikes is None else float(check.whole(op, "max_spikes", max_spikes))
    if most > 1 and hard_reset:
        raise ValueError(f"{op}: max_spikes above 1 needs a soft reset, v_reset=None")
    return None if r is None else r.detach(), refractory, most  # it counts steps: no gradient


# Arguments that neurons share, by name, as :func:`_call` has them.
SHARED = {
    name: p.replace(kind=p.KEYWORD_ONLY)
    for name, p in inspect.signature(_call, eval_str=True).parameters.items()
    if p.kind == p.POSITIONAL_OR_KEYWORD
}


def enter(
    step: Callable[..., Any],
    like: str | None,
    same: bool,
    layer: str,
    fixed: dict[str, Any],
    chosen: Callable[..., Any] | None,
) -> Neuron:
    """Enters the op of a step function in :data:`NEURONS`; :func:`snnfast.reference.neuron.neuron` explains it."""
    op, model = step.__name__, NEURONS.get(like or "")
    if same and model is not None:
        call, states, own = model.call, model.states, model.own
    else:
        call, states, own = _read(step)
    choices = inspect.signature(chosen, eval_str=True).parameters.values() if chosen else ()
    shared = [
        p.replace(default=0.0) if name == "v_rest" and fixed is READOUT else p
        for name, p in SHARED.items()
        if name not in fixed
    ]
    at = 2 if "tau" in SHARED.keys() - fixed else 0  # behind the time constant
    arguments = [
        *(_argument("x", Tensor), *(_argument(name, Tensor | None, None) for name in states)),
        *shared[:at],
        *(p for name, argument in own.items() for p in _arguments(name, argument)),
        *(p for p in choices if p.kind == p.KEYWORD_ONLY),
        *shared[at:],
    ]
    checked = _check(op, call, states, own, chosen, arguments, fixed)
    checked.__module__, checked.__doc__ = step.__module__, step.__doc__
    checked.__annotations__ = {p.name: p.annotation for p in arguments} | {"return": call}
    vars(checked).update(__wrapped__=step, __signature__=inspect.Signature(arguments))
    if step.__doc__ is not None and model is not None:  # python -OO has none
        names = [p.name for p in arguments]
        checked.__doc__ = _completed(step.__doc__, model.check.__doc__ or "", names)
    NEURONS[op] = neuron = Neuron(checked, call, states, own, fixed, layer)
    return neuron


def _check(
    op: str,
    call: Any,
    states: tuple[str, ...],
    own: dict[str, Given | Tau],
    chosen: Callable[..., Any] | None,
    arguments: list[inspect.Parameter],
    fixed: dict[str, Any],
) -> Callable[..., Any]:
    """The check of a neuron's arguments, written out as by dataclasses: a loop over them takes a third longer."""
    places, choices = len(states) + 1, list(inspect.signature(chosen).parameters) if chosen else []
    of_step = call._fields[places + len(MEMBRANE) : call._fields.index("hard_reset")]
    lines = [f"sequence({op!r}, x)", *(f"state({op!r}, {name!r}, {name}, x)" for name in states)]
    for name, argument in own.items():
        if isinstance(argument, Given):
            lines.append(f"{name} = parameter({op!r}, {name!r}, {name}, x, own[{name!r}].checked)")
            continue
        tau, leak = (name.replace("decay", word) for word in ("tau", "leak"))
        lines.append(f"{leak} = leak({op!r}, {name!r}, {tau}, {name}, {argument.default}, x)")
        lines.append(f"{name} = {leak}.decay")
    if chosen:
        left = ", ".join(name for name in of_step if name not in own)
        lines.append(f"{left} = chosen({', '.join(f'{name}={name}' for name in choices)})")
    shared = ", ".join(repr(fixed[name]) if name in fixed else name for name in SHARED)
    before, after = (f"({', '.join(names)},)" if names else "()" for names in (states, of_step))
    lines.append(f"return call({op!r}, of, x, {before}, {after}, {'surrogate' not in fixed}, {shared})")
    bare = inspect.Signature([p.replace(annotation=p.empty) for p in arguments])
    space: dict[str, Any] = {"sequence": check.sequence, "state": check.state, "parameter": check.parameter}
    space |= {"leak": check.leak, "own": own, "chosen": chosen, "of": call, "call": _call}
    exec("\n    ".join([f"def {op}{bare}:", *lines]), space)
    return space[op]  # type: ignore[no-any-return]


# Fields of the membrane, in every call; in place of the decay of the equations that multiply by it some have its rate.
MEMBRANE = ("decay", "gain", "v_threshold", "v_reset", "v_rest")


def _read(step: Callable[..., Any]) -> tuple[Any, tuple[str, ...], dict[str, Given | Tau]]:
    """The type of the call of a step function, names of its states, and its arguments that not every neuron has."""
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
    given = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    own = {n: Given(value) if isinstance(value, float) else value for n, value in given.items()}
    return prepare(call), states, own


def _argument(name: str, annotation: Any, *default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, annotation=annotation, default=(*default, inspect.Parameter.empty)[0])


def _arguments(name: str, argument: Given | Tau) -> list[inspect.Parameter]:
    """The arguments that a parameter of an equation becomes."""
    kind = inspect.Parameter.KEYWORD_ONLY
    if isinstance(argument, Given):
        return [inspect.Parameter(name, kind, annotation=float | Tensor, default=argument.default)]
    names = name.replace("decay", "tau"), name
    return [inspect.Parameter(n, kind, annotation=float | Tensor | None, default=None) for n in names]


def _completed(own: str, model: str, arguments: Iterable[str]) -> str:
    """A docstring with what it leaves out of arguments, result and errors from that of a model."""
    of_model, said = sections(model), sections(own)
    every = entries(of_model["Args"]) | entries(said.get("Args", ""))
    whole = of_model | said | {"Args": "\n".join(every[name] for name in arguments)}
    return "\n\n".join(f"{title}:\n{text}" if title else text for title, text in whole.items())


def sections(docstring: str) -> dict[str, str]:
    """The texts of a docstring by their titles; what is before has none."""
    text = inspect.cleandoc(docstring)
    before, *rest = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)
    return {"": before.rstrip()} | {t: text.rstrip() for t, text in zip(rest[::2], rest[1::2])}


def entries(text: str) -> dict[str, str]:
    """The lines of every argument in the section of arguments."""
    found = re.split(r"\n(?=    \w)", text)
    return {entry.split(":")[0].strip(): entry for entry in found}


_REFRACTORY: dict[Any, Any] = {}


def refractory_of(call: Any) -> Any:
    """The type of a neuron's call when it has a refractory period or several spikes a step."""
    if call not in _REFRACTORY:
        fields = {"r": Tensor | None, "refractory": int, "max_spikes": float}
        _REFRACTORY[call] = extended(call, f"Refractory{call.__name__}", fields)
    return _REFRACTORY[call]


def calls_of(neuron: Neuron) -> list[Any]:
    """The types of a neuron's calls: the usual one, and of neurons that may be refractory that of these."""
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
