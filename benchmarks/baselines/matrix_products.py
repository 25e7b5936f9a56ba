"""Plain PyTorch: matrix products over the batch at every step, or over steps and batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

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
