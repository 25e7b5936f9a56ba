"""Plain PyTorch: one outer product per sample and step, summed over the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.stdp import LR_POST, LR_PRE, STEP, TAU

NOTE = ""


def stdp() -> dict[str, Callable[[Tensor, Tensor, Tensor], object]]:
    decay = math.exp(-1 / TAU)

    def learn(w: Tensor, pre: Tensor, post: Tensor) -> None:
        x_pre, x_post = w.new_zeros(pre.shape[1:]), w.new_zeros(post.shape[1:])
        for s_pre, s_post in zip(pre.to(w.dtype), post.to(w.dtype)):
            x_pre = torch.where(s_pre > 0, 1.0, x_pre * decay)
            x_post = torch.where(s_post > 0, 1.0, x_post * decay)
            grown = (s_post.unsqueeze(2) * x_pre.unsqueeze(1)).sum(0)
            lost = (x_post.unsqueeze(2) * s_pre.unsqueeze(1)).sum(0)
            w.add_(LR_POST * grown - LR_PRE * lost).clamp_(0, 1)

    return {STEP: learn}
