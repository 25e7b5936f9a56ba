"""Shared parts of the neuron references: the spike, the reset, and the loop over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from snnfast import check
from snnfast.reference.surrogate import differentiable, resolve

from .call import Op, reference_op
from .eager import KernelFunctions, Scalar
from .exp import divided
from .neuron_arguments import NEURONS, ONE_SPIKE, READOUT, Neuron, Number, Tau, result_of

__all__ = ["ONE_SPIKE", "READOUT", "Number", "Tau", "choose", "initial_states", "neuron", "scan", "whole_step"]


def neuron(
    like: Callable[..., Any] | None = None,
    *,
    same: bool = False,
    fixed: dict[str, Any] | None = None,
    chosen: Callable[..., Any] | None = None,
    prefetch: bool = False,
) -> Callable[[Callable[..., Any]], Op[..., tuple[Tensor, ...]]]:
    """Decorate the equation of one time step: make it the public op of ``snnfast.reference`` of the same name.

    The step is ``step(fire, x, *states, **parameters) -> (spikes, *states)``. Its parameters ``decay`` or ``rate``,
    ``gain``, ``v_threshold`` and ``v_rest`` come from the arguments that all neurons have
    (:mod:`snnfast.reference.neuron_arguments`). A default makes another parameter an argument: a number,
    :class:`Number` with a check, or :class:`Tau` for a decay. Kernels, their derivatives, exported C, the op's
    signature and checks, and the arguments of the layer are derived from the step.

    Args:
        like: a neuron whose documentation completes that of this one.
        same: step and kernels are those of ``like``; the function has only a docstring.
        fixed: values of common arguments that this neuron does not have.
        chosen: function that returns the values of the other parameters without a default, from the leak of
            ``decay_<name>``, its argument ``leak_<name>``, and from its keyword arguments, which become arguments of
            the op.
        prefetch: whether CUDA kernels load inputs a group of steps ahead, for steps with much arithmetic.
    """

    def publish(step: Callable[..., Any]) -> Op[..., tuple[Tensor, ...]]:
        model = None if like is None else NEURONS[like.__name__]
        options: dict[str, Any] = {"like": model, "same": same, "fixed": fixed, "chosen": chosen, "prefetch": prefetch}
        NEURONS[step.__name__] = found = Neuron(step, in_package=True, **options)
        return reference_op(scan, result_of)(found.check)

    return publish


class _HardReset(torch.autograd.Function):
    """``v = v_reset where the neuron fired, else h``, differentiable in ``h``, ``v_reset`` and the spike ``s``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, v_reset: float | Tensor) -> Tensor:
        is_tensor = not isinstance(v_reset, (int, float))  # a tensor, or a value that is traced
        ctx.save_for_backward(h, s, *(v_reset,) * is_tensor)
        ctx.v_reset = None if is_tensor else v_reset
        # (1 - s) h + s v_reset, also where a term with factor 0 is infinite or NaN
        return torch.where(s == 1, v_reset, torch.where(s == 0, h, (1 - s) * h + s * v_reset))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        h, s, *saved_reset = ctx.saved_tensors
        v_reset = saved_reset[0] if saved_reset else ctx.v_reset
        # grad (1 - s) and grad s, also where grad is infinite or NaN and its factor is 0
        of_h = torch.where(s == 1, 0.0, torch.where(s == 0, grad, grad * (1 - s)))
        of_reset = torch.where(s == 0, 0.0, torch.where(s == 1, grad, grad * s)) if saved_reset else None
        return (of_h, grad * (v_reset - h), None if of_reset is None else of_reset.sum_to_size(v_reset.shape))


class _SoftReset(torch.autograd.Function):
    """``v = h - s amount``, also where there is no spike and the amount is infinite; differentiable in all three."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, amount: float | Tensor) -> Tensor:
        is_tensor = not isinstance(amount, (int, float))  # a tensor, or a value that is traced
        ctx.save_for_backward(s, *(amount,) * is_tensor)
        ctx.amount = None if is_tensor else amount
        return torch.where(s == 0, h, torch.where(s == 1, h - amount, h - s * amount))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        s, *saved_amount = ctx.saved_tensors
        amount = saved_amount[0] if saved_amount else ctx.amount
        of_amount = torch.where(s == 0, 0.0, torch.where(s == 1, grad, grad * s)) if saved_amount else None
        return (grad, -(grad * amount), None if of_amount is None else -of_amount.sum_to_size(amount.shape))


def fire(
    call: Any,
    h: Tensor,
    threshold: float | Tensor,
    subtract: float | Tensor,
    v_before: Tensor,
    refractory: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes where ``h >= threshold`` (above it, with ``strict``), ``h``, and the membrane after the reset.

    Where the mask ``refractory`` is set, the neuron does not fire and ``h`` is ``v_before``, the membrane before the
    step. None: no refractory period, and at most one spike per step. A soft reset subtracts ``subtract``.
    """
    if not call.fires:
        return torch.zeros_like(h), h, h
    before: Tensor | None = None
    if refractory is not None:
        h = torch.where(refractory, v_before, h)
    if refractory is not None and not (type(call.max_spikes) is float and call.max_spikes == 1):
        # the multiple of the threshold that is nearest to h, at which the spike count changes
        multiple = divided(h, threshold).detach().round()
        multiple = torch.where(multiple > 1, multiple.clamp(max=call.max_spikes), 1.0)
        threshold, before = multiple * threshold, multiple - 1
    u = h - threshold
    s = resolve(call.surrogate)(u)
    if s.shape != u.shape or s.dtype != u.dtype:  # a user's surrogate may do this
        raise ValueError(
            f"surrogate: spikes must be like u, {list(u.shape)} of {u.dtype}, got {list(s.shape)} of {s.dtype}"
        )
    if call.strict:  # as in kernels that flush denormal numbers
        s = torch.where(u < torch.finfo(u.dtype).tiny, s - s.detach(), s)
    if refractory is not None:
        s = torch.where(refractory, 0.0, s if before is None else before + s)
    s_reset = choose(call.detach_reset, s.detach(), s)
    if call.hard_reset:
        return s, h, differentiable(_HardReset)(h, s_reset, call.v_reset)
    return s, h, differentiable(_SoftReset)(h, s_reset, subtract)


def choose(flag: bool, yes: Any, no: Any) -> Any:
    """Return ``yes if flag else no``, also for a flag that is a runtime argument of a kernel."""
    if has_torch_function_unary(flag):
        return handle_torch_function(choose, (flag,), flag, yes, no)
    return yes if flag else no


def whole_step(
    call: Any, parameters: dict[str, Any], inputs: Sequence[Any], states: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Run one step, with refractory period and reset; return outputs, and the states after it.

    The same code runs with tensors and with traced values (:mod:`snnfast.compiler`).

    Args:
        call: a call of the neuron, of which inputs, states and parameters are not read.
        parameters: keyword arguments of the step.
        inputs: the inputs of this step.
        states: the states before it; with a refractory period the last one is the number of remaining steps.
    """
    carried = list(states)
    period = getattr(call, "refractory", None)
    r = carried.pop().detach() if period is not None else None
    most = getattr(call, "max_spikes", 1.0)
    refractory = None
    if r is not None or not (type(most) is float and most == 1):
        refractory = (torch.zeros_like(carried[0]) if r is None else r) > 0
    fired: list[Any] = []

    def fire_and_reset(h: Any, threshold: Any, subtract: Any = None) -> tuple[Any, Any, Any]:
        subtract = threshold if subtract is None else subtract
        spikes, h, v = fire(call, h, threshold, subtract, carried[0], refractory)
        fired.append(spikes)
        return spikes, h, v

    returned = type(call).neuron.step(fire_and_reset, *inputs, *carried, **parameters)
    results = list(returned) if isinstance(returned, tuple) else [returned]
    first_state = len(results) - len(carried)
    outputs, after = results[:first_state], results[first_state:]
    if r is not None and period is not None:
        remaining = torch.where(r > 1, r - 1, 0.0)  # NaN: not refractory
        period = float(period) if isinstance(period, int) else period
        after.append(torch.where(fired[-1].detach() == 0, remaining, period))
    return outputs, after


def _full(value: Any, like: Tensor) -> Tensor:
    """Expand a result of a step, which may be a number or a mask, to every neuron."""
    if not isinstance(value, Tensor):
        return torch.full_like(like, value)
    return value.to(like.dtype).expand(like.shape)


def initial_states(call: Any) -> list[Tensor]:
    """Return the states before the first step; those that are None start at 0, the first one at ``v_rest``."""
    x, names = call[0], type(call).neuron.states
    states = [getattr(call, name) for name in (*names, *["r"] * hasattr(call, "refractory"))]
    for place, state in enumerate(states):
        if state is None:
            zeros = torch.zeros(x.shape[1:], dtype=check.state_dtype(x.dtype), device=x.device)
            states[place] = zeros if place else zeros + getattr(call, "v_rest", 0.0)
    return states


def parameters_of(call: Any) -> dict[str, Any]:
    """Return the keyword arguments of the step of a call."""
    return {name: getattr(call, name) for name in type(call).neuron.parameters}


def scan(call: Any) -> tuple[Tensor, ...]:
    """Return outputs, last states and membranes of a call, a step at a time in plain PyTorch."""
    neuron = type(call).neuron
    inputs, states, parameters = call[: len(neuron.inputs)], initial_states(call), parameters_of(call)
    x, dtype = inputs[0], check.state_dtype(inputs[0].dtype)
    functions: AbstractContextManager[Any] = nullcontext()
    if not neuron.in_package:
        functions = KernelFunctions(dtype)
        parameters = {n: Scalar(value) if isinstance(value, float) else value for n, value in parameters.items()}
    rows: list[list[Tensor]] = [[] for _ in range(neuron.outputs)]
    first: list[Tensor] = []
    with functions:
        for values in zip(*(value.to(dtype) for value in inputs)):
            outputs, states = whole_step(call, parameters, values, states)
            for row, value in zip(rows, outputs):
                row.append(_full(value, values[0]).to(x.dtype))
            states = [_full(value, values[0]) for value in states]
            first.append(states[0])
    return *(_stacked(row, x, x.dtype) for row in rows), *states, _stacked(first, x, dtype)


def _stacked(rows: list[Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(x.shape, dtype=dtype, device=x.device)
