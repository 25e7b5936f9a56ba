"""Fields, checks and results shared by the calls of all neurons.

A neuron's call has its input ``x`` ``[T, ...]``, its states (fields ``Tensor | None``), its parameters (fields
:data:`snnfast.calls.call.Parameter`), fields of its own, and:

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
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike, resolve, straight_through

from .call import extended

F = TypeVar("F", bound=Callable[..., Any])

# The check of every neuron by the name of its op.
NEURONS: dict[str, Callable[..., Any]] = {}


def neuron_op(like: Callable[..., Any] | None = None) -> Callable[[F], F]:
    """Enters the check of a neuron's op in :data:`NEURONS`.

    What its docstring leaves out of arguments, result and errors is that of the neuron ``like``.
    """

    def enter(check: F) -> F:
        NEURONS[check.__name__] = check
        if like is not None and check.__doc__ is not None:  # python -OO has none
            check.__doc__ = _completed(check, _sections(like))
        return check

    return enter


def _completed(check: Callable[..., Any], like: dict[str, str]) -> str:
    own = _sections(check)
    said = _arguments(like["Args"]) | _arguments(own.get("Args", ""))
    arguments = "\n".join(said[name] for name in inspect.signature(check).parameters)
    whole = like | own | {"Args": arguments}
    return "\n\n".join(f"{title}:\n{text}" if title else text for title, text in whole.items())


def _sections(check: Callable[..., Any]) -> dict[str, str]:
    """The texts of a docstring by their titles; what is before has none."""
    before, *rest = re.split(r"^(\w+):\n", inspect.getdoc(check) or "", flags=re.MULTILINE)
    return {"": before.rstrip()} | {t: text.rstrip() for t, text in zip(rest[::2], rest[1::2])}


def _arguments(text: str) -> dict[str, str]:
    """The lines of every argument."""
    entries = re.split(r"\n(?=    \w)", text)
    return {entry.split(":")[0].strip(): entry for entry in entries}


def membrane(
    op: str,
    x: Tensor,
    tau: object,
    decay: object,
    decay_input: object,
    v_threshold: object,
    v_reset: object,
    v_rest: object,
    pulls: bool = False,
) -> dict[str, Any]:
    """The fields of a membrane that leaks and is reset; without ``v_rest`` it rests at ``v_reset``, or at 0.

    With ``pulls`` the rate stands for the decay.
    """
    reset = 0.0 if v_reset is None else check.parameter(op, "v_reset", v_reset, x)
    return {
        **_leak(op, x, tau, decay, decay_input, pulls),
        "v_threshold": check.parameter(op, "v_threshold", v_threshold, x),
        "v_reset": reset,
        "v_rest": reset if v_rest is None else check.parameter(op, "v_rest", v_rest, x),
        "hard_reset": v_reset is not None,
    }


def _leak(
    op: str, x: Tensor, tau: object, decay: object, decay_input: object, pulls: bool = False
) -> dict[str, Any]:
    leak = check.leak(op, "decay", tau, decay, 2.0, x)
    scaled = check.flag(op, "decay_input", decay_input)
    rate = leak.rate if scaled or pulls else 1.0
    return {
        **({"rate": rate} if pulls else {"decay": leak.decay}),
        "gain": rate if scaled else 1.0,
    }


def spiking(
    op: str,
    strict: object,
    surrogate: SurrogateLike,
    detach_reset: object,
    return_state: object,
    return_v_seq: object,
) -> dict[str, Any]:
    """The fields of a neuron that fires."""
    return {
        "fires": True,
        "strict": check.flag(op, "strict", strict),
        "surrogate": resolve(surrogate),
        "detach_reset": check.flag(op, "detach_reset", detach_reset),
        "return_state": check.flag(op, "return_state", return_state),
        "return_v_seq": check.flag(op, "return_v_seq", return_v_seq),
    }


def reading(
    op: str, x: Tensor, tau: object, decay: object, decay_input: object, v_rest: object
) -> dict[str, Any]:
    """The fields of a readout: a membrane that never fires, given after every step."""
    return {
        **_leak(op, x, tau, decay, decay_input),
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "v_rest": check.parameter(op, "v_rest", v_rest, x),
        "hard_reset": False,
        "fires": False,
        "strict": False,
        "surrogate": straight_through(),
        "detach_reset": False,
        "return_state": True,
        "return_v_seq": True,
    }


C = TypeVar("C")
_REFRACTORY: dict[Any, Any] = {}


def may_be_refractory(check: Callable[..., Any]) -> bool:
    """Whether the neuron that ``check`` makes calls of may have a refractory period or several spikes a step."""
    return "refractory" in inspect.signature(check).parameters


def refractory_of(neuron: Any) -> Any:
    """The type of a neuron's call when it has a refractory period or several spikes a step."""
    if neuron not in _REFRACTORY:
        fields = {"r": Tensor | None, "refractory": int, "max_spikes": float}
        _REFRACTORY[neuron] = extended(neuron, f"Refractory{neuron.__name__}", fields)
    return _REFRACTORY[neuron]


def refractory_call(op: str, call: C, r: Any, refractory: Any, max_spikes: Any) -> C:
    """``call``, or if its neurons have a refractory period or several spikes a step the call of such neurons."""
    given: Any = call
    plain = type(refractory) is type(max_spikes) is int and refractory == 0 and max_spikes == 1
    if plain and r is None:
        return call
    refractory = check.whole(op, "refractory", refractory, 0)
    if refractory >= 2**24:  # which float32 counts one by one
        raise ValueError(f"{op}: refractory must be fewer than 2**24 steps, got {refractory}")
    check.state(op, "r", r, given.x)
    if r is not None and not refractory:
        raise ValueError(f"{op}: r needs a refractory period, got refractory=0")
    most = math.inf if max_spikes is None else check.whole(op, "max_spikes", max_spikes)
    if most > 1:
        if given.hard_reset:
            raise ValueError(f"{op}: max_spikes above 1 needs a soft reset, v_reset=None")
        if not isinstance(given.v_threshold, Tensor) and given.v_threshold <= 0:
            raise ValueError(
                f"{op}: max_spikes above 1 needs v_threshold above 0, got {given.v_threshold}"
            )
    if not refractory and most == 1:
        return call
    if r is not None:
        r = r.detach()  # it counts steps
    other: C = refractory_of(type(call))(*given, r, refractory, float(most))
    return other


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
