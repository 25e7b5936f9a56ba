"""The current-based LIF in plain PyTorch: what the kernels of ``snnfast.ops.cuba`` must compute."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .lif import fire_and_reset, stack


def cuba(
    x: Tensor,
    v: Tensor | None = None,
    i: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    tau_syn: float | Tensor | None = None,
    decay_syn: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    v_rest: float | None = None,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """See :func:`snnfast.ops.cuba`."""
    check.sequence("cuba", x)
    check.state("cuba", "v", v, x)
    check.state("cuba", "i", i, x)
    decay = check.decay("cuba", "decay", tau, decay, 2.0, x)
    decay_syn = check.decay("cuba", "decay_syn", tau_syn, decay_syn, 2.0, x)
    v_threshold = check.parameter("cuba", "v_threshold", v_threshold, x)
    v_reset, v_rest = check.rest("cuba", v_reset, v_rest)
    gain = 1.0 - decay if decay_input else 1.0
    dtype = check.state_dtype(x.dtype)
    if v is None:
        v = torch.full(x.shape[1:], v_rest, dtype=dtype, device=x.device)
    if i is None:
        i = torch.zeros(x.shape[1:], dtype=dtype, device=x.device)
    spikes, v_seq = [], []
    for x_t in x.to(dtype):
        i = decay_syn * i + x_t
        h = v_rest + decay * (v - v_rest) + gain * i
        s, v = fire_and_reset(h, v_threshold, v_reset, surrogate, detach_reset)
        spikes.append(s.to(x.dtype))
        v_seq.append(v)
    state = (v, i) if return_state else (None, None)
    result = (stack(spikes, x, x.dtype), *state)
    return (*result, stack(v_seq, x, dtype)) if return_v_seq else result
