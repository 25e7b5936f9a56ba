"""Plain PyTorch: matrix products over the batch at every step, or over steps and batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.bp_stdp import EPSILON, LR
from benchmarks.spikeprop import DT
from benchmarks.stdp import LR_POST, LR_PRE, SEQUENCE, STEP, TAU

NOTE = ""


def traces(spikes: Tensor) -> Tensor:
    decay, x = math.exp(-1 / TAU), torch.zeros_like(spikes)
    last = x.new_zeros(spikes.shape[1:])
    for t, s in enumerate(spikes):
        last = torch.where(s > 0, 1.0, last * decay)
        x[t] = last
    return x


def stdp() -> dict[str, Callable[[Tensor, Tensor, Tensor], object]]:
    def step(w: Tensor, pre: Tensor, post: Tensor) -> None:
        pre, post = pre.to(w.dtype), post.to(w.dtype)
        for s_pre, s_post, x_pre, x_post in zip(pre, post, traces(pre), traces(post)):
            w.addmm_(s_post.T, x_pre, alpha=LR_POST)
            w.addmm_(x_post.T, s_pre, alpha=-LR_PRE)
            w.clamp_(0, 1)

    def sequence(w: Tensor, pre: Tensor, post: Tensor) -> None:
        pre, post = pre.to(w.dtype), post.to(w.dtype)
        x_pre, x_post = (traces(s).flatten(0, 1) for s in (pre, post))
        w.addmm_(post.flatten(0, 1).T, x_pre, alpha=LR_POST)
        w.addmm_(x_post.T, pre.flatten(0, 1), alpha=-LR_PRE)
        w.clamp_(0, 1)

    return {STEP: step, SEQUENCE: sequence}


def spikeprop(t_in: Tensor, w: Tensor, delays: Tensor, *, tau: float, t_max: float, return_u_max: bool = False) -> Any:
    """First spike times on a grid, from the potentials at all grid points, one product per sample; threshold 1."""
    events, weights = (t_in[:, :, None] + delays).flatten(1), w.flatten(1)

    def response(s: Tensor) -> Tensor:
        s = s.clamp(min=0) / tau
        return s * (1 - s).exp()

    with torch.no_grad():
        grid = torch.arange(0, t_max + DT / 2, DT, dtype=w.dtype, device=w.device)
        u = torch.stack([response(grid[:, None] - e) @ weights.T for e in events])
        hit = u >= 1
        fired = hit.any(1)
        time = grid[torch.where(fired, hit.byte().argmax(1), u.argmax(1))]
    if not (w.requires_grad or t_in.requires_grad):
        t_out = torch.where(fired, time, math.inf)
        return (t_out, u.amax(1)) if return_u_max else t_out
    # Potential at that time as a function of weights and events; its gradient divided by the slope is that of the time.
    s = time[:, :, None] - events[:, None]
    u = (response(s) * weights).sum(2)
    with torch.no_grad():
        slope = torch.where(s > 0, weights * (1 - s / tau) * (1 - s / tau).exp() / tau, 0).sum(2)
        slope = slope.clamp(min=0.05 / tau)
    t_out = torch.where(fired, time - (u - u.detach()) / slope, math.inf)
    return (t_out, u) if return_u_max else t_out


def windows(spikes: Tensor, dtype: torch.dtype) -> Tensor:
    counts = spikes.to(dtype).cumsum(0)
    counts[EPSILON + 1 :] -= counts[: -EPSILON - 1].clone()
    return counts


def bp_stdp() -> dict[str, Callable[[Tensor, Tensor, Tensor], object]]:
    def step(w: Tensor, pre: Tensor, error: Tensor) -> Tensor:
        passed = []
        for e, c in zip(error, windows(pre, w.dtype)):
            passed.append((e @ w) * (c > 0))
            w.addmm_(e.T, c, alpha=LR)
        return torch.stack(passed)

    def sequence(w: Tensor, pre: Tensor, error: Tensor) -> Tensor:
        errors, counts = error.flatten(0, 1), windows(pre, w.dtype).flatten(0, 1)
        passed = (errors @ w) * (counts > 0)
        w.addmm_(errors.T, counts, alpha=LR)
        return passed

    return {STEP: step, SEQUENCE: sequence}
