"""``spikingjelly.clock_driven.functional``: resets, sequences, and the loss of TET."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["multi_step_forward", "reset_net", "seq_to_ann_forward", "temporal_efficient_training_cross_entropy"]

Layers = nn.Module | Sequence[nn.Module]


def reset_net(net: nn.Module) -> None:
    """Reset every module of ``net`` that has a ``reset``."""
    for module in net.modules():
        reset = getattr(module, "reset", None)
        if callable(reset):
            reset()


def _in_turn(layers: Layers) -> Callable[[Tensor], Tensor]:
    """Return the function that applies one layer, or several one after the other."""
    several: list[Any] = list(layers) if isinstance(layers, (list, tuple, nn.Sequential)) else [layers]

    def run(x: Tensor) -> Tensor:
        for layer in several:
            x = layer(x)
        return x

    return run


def multi_step_forward(x_seq: Tensor, single_step_module: Layers) -> Tensor:
    """Apply layers that take a step to each step of ``[T, B, ...]``."""
    return torch.stack([*map(_in_turn(single_step_module), x_seq)])


def seq_to_ann_forward(x_seq: Tensor, stateless_module: Layers) -> Tensor:
    """Apply layers without time to all steps of ``[T, B, ...]`` at once."""
    y = _in_turn(stateless_module)(x_seq.flatten(0, 1))
    return y.view(*x_seq.shape[:2], *y.shape[1:])


def temporal_efficient_training_cross_entropy(x_seq: Tensor, target: Tensor) -> Tensor:
    """Mean of the cross entropies of every step of ``[T, B, C, ...]`` (Deng et al., ICLR 2022)."""
    return functional.cross_entropy(x_seq.flatten(0, 1), target.repeat(len(x_seq), *(1,) * (target.dim() - 1)))
