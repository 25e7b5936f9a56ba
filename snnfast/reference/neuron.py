"""What the references of all neurons share: the loop over time, the spike and the reset."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, get_type_hints

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls.call import equation
from snnfast.calls.neuron import answer, may_be_refractory, refractory_of
from snnfast.surrogate import differentiable, resolve

P = ParamSpec("P")

# fire(h, threshold) of :func:`over_time`.
Fire = Callable[..., tuple[Tensor, Tensor, Tensor]]

# The equation of every neuron by the type of its call.
EQUATIONS: dict[Any, Callable[[Any], tuple[Tensor, ...]]] = {}


def neuron(
    check: Callable[P, Any],
) -> Callable[[Callable[[Any], tuple[Tensor, ...]]], Callable[P, tuple[Tensor, ...]]]:
    """Makes an equation that gives spikes, states and membranes the public op of ``snnfast.reference``."""
    publish = equation(check, answer)

    def enter(function: Callable[[Any], tuple[Tensor, ...]]) -> Callable[P, tuple[Tensor, ...]]:
        call = get_type_hints(check)["return"]
        EQUATIONS[call] = function
        if may_be_refractory(check):
            EQUATIONS[refractory_of(call)] = function
        return publish(function)

    return enter


class _HardReset(torch.autograd.Function):
    """``v = v_reset where the neuron fired, else h``, differentiable in ``h``, ``v_reset`` and the spike ``s``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, v_reset: float | Tensor) -> Tensor:
        is_tensor = not isinstance(v_reset, (int, float))  # a tensor, or a value that is traced
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


def fire(
    call: Any,
    h: Tensor,
    threshold: float | Tensor,
    held: Tensor,
    silent: Tensor | None,
    subtract: float | Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes where ``h >= threshold`` (strictly above, if the call says so), ``h``, and the membrane after the reset.

    Where the neuron is ``silent`` it does not fire and ``h`` is ``held``, the membrane before. None: no neuron ever is,
    and none fires several times in a step. A soft reset takes off ``subtract``, or ``v_threshold`` of the call.
    """
    if not call.fires:
        return h.new_empty(0), h, h
    before: float | Tensor = 0.0
    if silent is not None:
        h = torch.where(silent, held, h)
    if silent is not None and not (type(call.max_spikes) is float and call.max_spikes == 1):
        # which multiple of the threshold h is nearest to: a spike comes or goes there
        multiple = divided(h, threshold).detach().round()
        multiple = torch.where(multiple > 1, multiple.clamp(max=call.max_spikes), 1.0)
        threshold, before = multiple * threshold, multiple - 1
    u = h - threshold
    s = resolve(call.surrogate)(u)
    if s.shape != u.shape or s.dtype != u.dtype:  # of a surrogate of one's own
        raise ValueError(
            f"surrogate: spikes must be like u, {list(u.shape)} of {u.dtype}, got {list(s.shape)} of {s.dtype}"
        )
    if call.strict:  # as the kernels have it where denormal numbers are flushed
        s = torch.where(u < torch.finfo(u.dtype).tiny, s - s.detach(), s)
    if silent is not None:
        s = torch.where(silent, 0.0, before + s)
    s_reset = s.detach() if call.detach_reset else s
    if call.hard_reset:
        v: Tensor = differentiable(_HardReset)(h, s_reset, call.v_reset)
        return s, h, v
    return s, h, h - s_reset * (call.v_threshold if subtract is None else subtract)


def divided(x: Tensor, by: float | Tensor) -> Tensor:
    """``x / by``, rounded once on every device: on CUDA PyTorch multiplies by the reciprocal of a number."""
    if not isinstance(by, Tensor) and not x.is_cpu:
        by = torch.full((), by, dtype=x.dtype, device=x.device)
    return x / by


def over_time(
    call: Any, step: Callable[..., tuple[Tensor, ...]], *states: Tensor | None
) -> tuple[Tensor, ...]:
    """Spikes, last states and membranes of ``step(fire, x[t], *states) -> spikes, *states`` at every time step.

    ``fire(h, threshold)`` gives a step its spikes, ``h`` as it is if the neuron is not silent, and the membrane after
    the reset. Without a value the membrane, the first state, starts at ``v_rest``, and the others at 0.
    """
    x = call.x
    dtype = check.state_dtype(x.dtype)
    zeros = torch.zeros(x.shape[1:], dtype=dtype, device=x.device)
    v, *others = states
    now = (
        zeros + call.v_rest if v is None else v,
        *(zeros.clone() if s is None else s for s in others),
    )
    refractory = "refractory" in call._fields
    r = call.r if refractory and call.r is not None else zeros
    spikes, v_seq = [], []
    for x_t in x.to(dtype):
        silent = r > 0 if refractory else None
        s, *now = step(functools.partial(fire, call, held=now[0], silent=silent), x_t, *now)  # type: ignore[assignment]
        if refractory:
            r = torch.where(r > 1, r - 1, 0.0)  # NaN is no silence
            r = torch.where(s.detach() == 0, r, float(call.refractory))
        spikes.append(s.to(x.dtype))
        v_seq.append(now[0])
    last = (*now, r) if refractory else tuple(now)
    return _stack(spikes, x, x.dtype), *last, _stack(v_seq, x, dtype)


def _stack(rows: list[Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(x.shape, dtype=dtype, device=x.device)
