"""What the calls of all neurons share.

A neuron's call has its input ``x`` ``[T, ...]``, its states (fields ``Tensor | None``), its parameters (fields
:data:`snnfast.calls.call.Parameter`), what is its own, and:

``hard_reset``
    a spike takes the membrane to ``v_reset``; else ``v_threshold`` is taken off it, and ``v_reset`` is unused.
``fires``
    False for a readout that never fires.
``surrogate``, ``detach_reset``
    the gradient of the spike, resolved, and whether it leaves the reset out.
``return_state``, ``return_v_seq``
    whether to give the states after the last step, and the membrane after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike, resolve

# The check of every neuron by the name of its op, entered by snnfast.reference.
NEURONS: dict[str, Callable[..., Any]] = {}


def leak(op: str, x: Tensor, tau: object, decay: object, decay_input: object) -> dict[str, Any]:
    """The fields of a membrane that leaks."""
    return {"decay": check.decay(op, "decay", tau, decay, 2.0, x), "decay_input": bool(decay_input)}


def firing(
    op: str,
    x: Tensor,
    *,
    v_threshold: object,
    v_reset: object,
    v_rest: object,
    surrogate: SurrogateLike,
    detach_reset: object,
    return_state: object,
    return_v_seq: object,
) -> dict[str, Any]:
    """The fields of a neuron that fires and is reset."""
    v_threshold = check.parameter(op, "v_threshold", v_threshold, x)
    reset, rest = check.rest(op, v_reset, v_rest, x)
    return {
        "v_threshold": v_threshold,
        "v_reset": 0.0 if reset is None else reset,
        "v_rest": rest,
        "hard_reset": reset is not None,
        "fires": True,
        "surrogate": resolve(surrogate),
        "detach_reset": bool(detach_reset),
        "return_state": bool(return_state),
        "return_v_seq": bool(return_v_seq),
    }


def answer(call: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """What a neuron's op returns, from spikes, states and membranes as a kernel or the reference gives them."""
    spikes, *states, v_seq = outputs
    if not call.return_state:
        states = [None] * len(states)  # type: ignore[list-item]
    if not call.fires:
        return v_seq, *states
    return (spikes, *states, v_seq) if call.return_v_seq else (spikes, *states)
