"""What the references of all neurons share: the loop over time, the spike and the reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, get_type_hints

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls.call import equation
from snnfast.calls.neuron import NEURONS, answer
from snnfast.surrogate import resolve

P = ParamSpec("P")

# The equation of every neuron by the type of its call.
EQUATIONS: dict[Any, Callable[[Any], tuple[Tensor, ...]]] = {}


def neuron(
    check: Callable[P, Any],
) -> Callable[[Callable[[Any], tuple[Tensor, ...]]], Callable[P, tuple[Tensor, ...]]]:
    """Makes an equation that gives spikes, states and membranes the public op of ``snnfast.reference``."""
    NEURONS[check.__name__] = check
    publish = equation(check, answer)

    def enter(function: Callable[[Any], tuple[Tensor, ...]]) -> Callable[P, tuple[Tensor, ...]]:
        EQUATIONS[get_type_hints(check)["return"]] = function
        return publish(function)

    return enter


class _HardReset(torch.autograd.Function):
    """``v = v_reset where the neuron fired, else h``, differentiable in ``h``, ``v_reset`` and the spike ``s``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, v_reset: float | Tensor) -> Tensor:
        is_tensor = isinstance(v_reset, Tensor)
        ctx.save_for_backward(h, s, *(v_reset,) * is_tensor)
        ctx.v_reset = None if is_tensor else v_reset
        # (1 - s) h + s v_reset, also where what does not count is infinite or NaN
        return torch.where(s == 1, v_reset, torch.where(s == 0, h, (1 - s) * h + s * v_reset))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        h, s, *given = ctx.saved_tensors
        v_reset = given[0] if given else ctx.v_reset
        return (
            grad * (1 - s),
            grad * (v_reset - h),
            (grad * s).sum_to_size(v_reset.shape) if given else None,
        )


def fire(call: Any, h: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """Spikes where ``h >= threshold``, and the membrane after the reset."""
    if not call.fires:
        return h.new_empty(0), h
    u = h - threshold
    u = torch.where(u.isnan() & (h == threshold), torch.zeros_like(u), u)  # both of them infinite
    s = resolve(call.surrogate)(u)
    s_reset = s.detach() if call.detach_reset else s
    if call.hard_reset:
        v: Tensor = _HardReset.apply(h, s_reset, call.v_reset)  # type: ignore[no-untyped-call]
        return s, v
    return s, h - s_reset * call.v_threshold


def gain(call: Any) -> float | Tensor:
    """What the input is multiplied by."""
    return 1.0 - call.decay if call.decay_input else 1.0


def over_time(
    call: Any, step: Callable[..., tuple[Tensor, ...]], *states: Tensor | None
) -> tuple[Tensor, ...]:
    """Spikes, last states and membranes of ``step(x[t], *states) -> spikes, *states`` at every time step.

    Without a value the membrane, the first state, starts at ``v_rest``, and the others at 0.
    """
    x = call.x
    dtype = check.state_dtype(x.dtype)
    zeros = torch.zeros(x.shape[1:], dtype=dtype, device=x.device)
    v, *others = states
    now = (zeros + call.v_rest if v is None else v, *(zeros if s is None else s for s in others))
    spikes, v_seq = [], []
    for x_t in x.to(dtype):
        s, *now = step(x_t, *now)  # type: ignore[assignment]
        spikes.append(s.to(x.dtype))
        v_seq.append(now[0])
    return _stack(spikes, x, x.dtype), *now, _stack(v_seq, x, dtype)


def _stack(rows: list[Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(x.shape, dtype=dtype, device=x.device)
