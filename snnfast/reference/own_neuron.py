"""A neuron of a user's own in plain PyTorch: the loop over time around its step function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .neuron import fire

__all__ = ["over_time", "whole_step"]


def whole_step(
    step: Callable[..., Any],
    call: Any,
    inputs: Sequence[Any],
    states: Sequence[Any],
    parameters: dict[str, Any],
) -> tuple[list[Any], list[Any]]:
    """One step, with refractory period and reset: outputs, and the states after it.

    Tensors and traced values (:mod:`snnfast.compiler`) go through the same lines.

    Args:
        step: the step function, ``step(fire, *inputs, *states, **parameters) -> (*outputs, *states)``.
        call: ``hard_reset``, ``v_reset``, ``strict``, ``surrogate``, ``detach_reset``, ``refractory`` (None: none) and
            ``max_spikes``.
        inputs: the inputs of this step.
        states: the states before it; of refractory neurons the last one counts the steps that are left.
        parameters: what the step takes by keyword.
    """
    carried = list(states)
    r = carried.pop() if call.refractory is not None else None
    several = not (type(call.max_spikes) is float and call.max_spikes == 1)
    silent = None
    if r is not None or several:
        silent = (torch.zeros_like(carried[0]) if r is None else r) > 0
    fired: list[Any] = []

    def fire_and_reset(h: Any, threshold: Any, subtract: Any = None) -> tuple[Any, Any, Any]:
        subtract = threshold if subtract is None else subtract
        spikes, h, v = fire(call, h, threshold, carried[0], silent, subtract)
        fired.append(spikes)
        return spikes, h, v

    returned = step(fire_and_reset, *inputs, *carried, **parameters)
    results = list(returned) if isinstance(returned, tuple) else [returned]
    at = len(results) - len(carried)
    outputs, after = results[:at], results[at:]
    if r is not None:
        left = torch.where(r > 1, r - 1, 0.0)  # NaN is no silence
        after.append(torch.where(fired[-1].detach() == 0, left, call.refractory))
    return outputs, after


def over_time(
    step: Callable[..., Any],
    call: Any,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    parameters: dict[str, Any],
    functions: TorchFunctionMode,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Outputs ``[T, ...]`` and the states after the last step, and the first state after every step.

    Args:
        step: as for :func:`whole_step`.
        call: as there.
        parameters: as there.
        inputs: ``[T, ...]``, in the dtype of the states.
        states: before the first step.
        functions: a mode that computes exp and the like as kernels do.
    """
    rows: list[list[Tensor]] = []
    now: list[Tensor] = list(states)
    first: list[Tensor] = []
    with functions:
        for values in zip(*inputs):
            outputs, now = whole_step(step, call, values, now, parameters)
            rows.append([_full(value, values[0]) for value in outputs])
            now = [_full(value, values[0]) for value in now]
            first.append(now[0])
    stacked = [torch.stack(list(column)) for column in zip(*rows)]
    return stacked, now, torch.stack(first) if first else inputs[0]


def _full(value: Any, like: Tensor) -> Tensor:
    """A result of a step, which may be a number or a condition, for every neuron."""
    if not isinstance(value, Tensor):
        return torch.full_like(like, value)
    return value.to(like.dtype).expand(like.shape)
