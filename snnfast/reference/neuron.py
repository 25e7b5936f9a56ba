"""Shared parts of the neuron references: the spike, the reset, and the loop over time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from snnfast import check
from snnfast.reference.surrogate import differentiable, resolve

from .call import Op, fields_of_kind, reference_op
from .exp import divided
from .neuron_arguments import ONE_SPIKE, READOUT, Number, Tau, calls_of, enter, result_of

__all__ = ["EQUATIONS", "ONE_SPIKE", "READOUT", "Equation", "Number", "Tau", "choose", "neuron", "scan"]

Step = Callable[..., tuple[Tensor, ...]]


class Equation(NamedTuple):
    """The step of a neuron of the package, with options of its kernels; see :func:`neuron`.

    ``reads``: an op with this step is a readout, which never fires.
    """

    step: Step
    prefetch: bool = False
    reads: bool = False


# Type of a call -> equation of the neuron.
EQUATIONS: dict[Any, Equation] = {}


def neuron(
    like: Callable[..., Any] | None = None,
    *,
    same: bool = False,
    fixed: dict[str, Any] | None = None,
    chosen: Callable[..., Any] | None = None,
    prefetch: bool = False,
) -> Callable[[Step], Op[..., tuple[Tensor, ...]]]:
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

    def publish(step: Step) -> Op[..., tuple[Tensor, ...]]:
        entry = enter(step, like and like.__name__, same, fixed or {}, chosen)
        equation = EQUATIONS[entry.call] if same else Equation(step, prefetch)
        for call in calls_of(entry):
            EQUATIONS[call] = equation._replace(reads=False)
        EQUATIONS[entry.call] = equation._replace(reads=equation.reads or not entry.fires)
        return reference_op(scan, result_of)(entry.check)

    return publish


class Frame(NamedTuple):
    """Fields of a call that :func:`whole_step` reads; tensors, numbers or traced values."""

    v_reset: Any
    hard_reset: bool
    strict: bool
    detach_reset: Any
    surrogate: Any
    refractory: Any = None  # None: no refractory period
    max_spikes: Any = 1.0
    fires: bool = True


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
    step: Callable[..., Any], call: Any, inputs: Sequence[Any], states: Sequence[Any], parameters: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Run one step, with refractory period and reset; return outputs, and the states after it.

    The same code runs with tensors and with traced values (:mod:`snnfast.compiler`).

    Args:
        step: the step function, ``step(fire, *inputs, *states, **parameters) -> (*outputs, *states)``.
        call: a :class:`Frame`, or a call with the same fields.
        inputs: the inputs of this step.
        states: the states before it; with a refractory period the last one is the number of remaining steps.
        parameters: keyword arguments of the step.
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

    returned = step(fire_and_reset, *inputs, *carried, **parameters)
    results = list(returned) if isinstance(returned, tuple) else [returned]
    at = len(results) - len(carried)
    outputs, after = results[:at], results[at:]
    if r is not None and period is not None:
        remaining = torch.where(r > 1, r - 1, 0.0)  # NaN: not refractory
        period = float(period) if isinstance(period, int) else period
        after.append(torch.where(fired[-1].detach() == 0, remaining, period))
    return outputs, after


def over_time(
    step: Callable[..., Any],
    call: Any,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    parameters: dict[str, Any],
    functions: AbstractContextManager[Any] | None = None,
) -> tuple[list[list[Tensor]], list[Tensor], list[Tensor]]:
    """Return outputs of every step, the states after the last step, and the first state after every step.

    Args:
        step: as for :func:`whole_step`.
        call: as there.
        inputs: ``[T, ...]``, in the dtype of the states.
        states: before the first step.
        parameters: as there.
        functions: a torch function mode that computes exp and similar functions as the kernels do.
    """
    rows: list[list[Tensor]] = []
    current: list[Tensor] = list(states)
    first: list[Tensor] = []
    with functions or nullcontext():
        for values in zip(*inputs):
            outputs, current = whole_step(step, call, values, current, parameters)
            rows.append([_full(value, values[0]) for value in outputs])
            current = [_full(value, values[0]) for value in current]
            first.append(current[0])
    return rows, current, first


def _full(value: Any, like: Tensor) -> Tensor:
    """Expand a result of a step, which may be a number or a mask, to every neuron."""
    if not isinstance(value, Tensor):
        return torch.full_like(like, value)
    return value.to(like.dtype).expand(like.shape)


def scan(call: Any) -> tuple[Tensor, ...]:
    """Return spikes, last states and membranes of a call of a neuron of the package.

    States that are None start at 0, the membrane at ``v_rest``.
    """
    step = EQUATIONS[type(call)].step
    x, dtype = call.x, check.state_dtype(call.x.dtype)
    zeros = torch.zeros(x.shape[1:], dtype=dtype, device=x.device)
    initial = [getattr(call, name) for name in fields_of_kind(type(call), Tensor | None)]
    at_rest = [zeros + call.v_rest, *(zeros.clone() for _ in initial[1:])]
    states = [rest if state is None else state for state, rest in zip(initial, at_rest)]
    parameters = {name: getattr(call, name) for name in parameters_of(step)}
    rows, states, v_seq = over_time(step, call, [x.to(dtype)], states, parameters)
    spikes = [row[0].to(x.dtype) for row in rows]
    return _stacked(spikes, x, x.dtype), *states, _stacked(v_seq, x, dtype)


def parameters_of(step: Step) -> tuple[str, ...]:
    """Return the names of a step's keyword-only arguments."""
    parameters = inspect.signature(step).parameters.values()
    return tuple(p.name for p in parameters if p.kind == p.KEYWORD_ONLY)


def _stacked(rows: list[Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(x.shape, dtype=dtype, device=x.device)
