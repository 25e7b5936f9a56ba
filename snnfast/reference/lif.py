"""The leaky integrator in plain PyTorch: what the kernels of ``snnfast.ops.lif`` must compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike, resolve


class _HardReset(torch.autograd.Function):
    """``v = v_reset where the neuron fired, else h``, differentiable in ``h`` and through the spike ``s``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, v_reset: float) -> Tensor:
        ctx.save_for_backward(h, s)
        ctx.v_reset = v_reset
        # (1 - s) h + s v_reset, also where h is infinite
        return torch.where(s == 1, torch.full_like(h, v_reset), (1 - s) * h + s * v_reset)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        h, s = ctx.saved_tensors
        return grad * (1 - s), grad * (ctx.v_reset - h), None


def fire_and_reset(
    h: Tensor,
    v_threshold: float | Tensor,
    v_reset: float | None,
    surrogate: SurrogateLike,
    detach_reset: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes where ``h >= v_threshold``, and the membrane after the reset."""
    s = resolve(surrogate)(h - v_threshold)
    s_reset = s.detach() if detach_reset else s
    if v_reset is None:
        return s, h - s_reset * v_threshold
    v: Tensor = _HardReset.apply(h, s_reset, v_reset)  # type: ignore[no-untyped-call]
    return s, v


def stack(rows: list[Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows as a sequence of ``x``'s shape, which may have no steps."""
    return torch.stack(rows) if rows else torch.empty(x.shape, dtype=dtype, device=x.device)


def lif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    v_rest: float | None = None,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_v: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """See :func:`snnfast.ops.lif`."""
    check.sequence("lif", x)
    check.state("lif", "v", v, x)
    decay = check.decay("lif", "decay", tau, decay, 2.0, x)
    v_threshold = check.parameter("lif", "v_threshold", v_threshold, x)
    v_reset, v_rest = check.rest("lif", v_reset, v_rest)
    gain = 1.0 - decay if decay_input else 1.0
    dtype = check.state_dtype(x.dtype)
    if v is None:
        v = torch.full(x.shape[1:], v_rest, dtype=dtype, device=x.device)
    spikes, v_seq = [], []
    for x_t in x.to(dtype):
        h = v_rest + decay * (v - v_rest) + gain * x_t
        s, v = fire_and_reset(h, v_threshold, v_reset, surrogate, detach_reset)
        spikes.append(s.to(x.dtype))
        v_seq.append(v)
    result = (stack(spikes, x, x.dtype), v if return_v else None)
    return (*result, stack(v_seq, x, dtype)) if return_v_seq else result  # type: ignore[return-value]


def iaf(
    x: Tensor,
    v: Tensor | None = None,
    *,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_v: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """See :func:`snnfast.ops.iaf`."""
    return lif(
        x,
        v,
        decay=1.0,
        decay_input=False,
        v_threshold=v_threshold,
        v_reset=v_reset,
        surrogate=surrogate,
        detach_reset=detach_reset,
        return_v=return_v,
        return_v_seq=return_v_seq,
    )


def li(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_rest: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """See :func:`snnfast.ops.li`."""
    check.sequence("li", x)
    check.state("li", "v", v, x)
    decay = check.decay("li", "decay", tau, decay, 2.0, x)
    v_rest = check.number("li", "v_rest", v_rest)
    gain = 1.0 - decay if decay_input else 1.0
    dtype = check.state_dtype(x.dtype)
    if v is None:
        v = torch.full(x.shape[1:], v_rest, dtype=dtype, device=x.device)
    v_seq = []
    for x_t in x.to(dtype):
        v = v_rest + decay * (v - v_rest) + gain * x_t
        v_seq.append(v)
    return stack(v_seq, x, dtype), v
