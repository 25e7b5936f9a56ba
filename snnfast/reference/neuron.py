"""Shared parts of the neuron references: the spike, the reset, and the loop of a step over time."""

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
from .neuron_arguments import ONE_SPIKE, READOUT, Given, Tau, calls_of, enter, result_of

__all__ = ["EQUATIONS", "ONE_SPIKE", "READOUT", "Equation", "Given", "Tau", "choose", "neuron", "scan"]

Step = Callable[..., tuple[Tensor, ...]]


class Equation(NamedTuple):
    """The step of a neuron of the package, and what its kernels are told besides: :func:`neuron`.

    ``reads``: an op of it never fires.
    """

    step: Step
    per_neuron: tuple[str, ...] = ()
    prefetch: bool = False
    reads: bool = False


# The equation of every neuron by the type of its call.
EQUATIONS: dict[Any, Equation] = {}


def neuron(
    like: Callable[..., Any] | None = None,
    *,
    same: bool = False,
    layer: str = "",
    fixed: dict[str, Any] | None = None,
    chosen: Callable[..., Any] | None = None,
    per_neuron: tuple[str, ...] = (),
    prefetch: bool = False,
) -> Callable[[Step], Op[..., tuple[Tensor, ...]]]:
    """Makes the equation of one time step the public op of ``snnfast.reference`` that bears its name.

    The step is ``step(fire, x, *states, **parameters) -> (spikes, *states)``. Its parameters ``decay`` or ``rate``,
    ``gain``, ``v_threshold`` and ``v_rest`` come from the arguments that all neurons have
    (:mod:`snnfast.reference.neuron_arguments`). A default makes an argument of another one: a number, :class:`Given`
    with a check, or :class:`Tau` of a decay. Kernels, their derivatives, C, the op's signature and checks, and the
    layer follow.

    Args:
        like: a neuron whose documentation completes that of this one.
        same: the step is that of ``like``, and so are the kernels; the function has a docstring alone.
        layer: name of the layer in ``snnfast.nn`` that is made of it.
        fixed: arguments of all neurons that this one has not, and their values.
        chosen: gives the values of the other parameters without a default, from the leak of ``decay_<name>``, its
            argument ``leak_<name>``, and from more arguments of the op, those by keyword.
        per_neuron: parameters that may be tensors in the fast kernel for numbers, too.
        prefetch: whether CUDA kernels load inputs a group of steps ahead: of long steps.
    """

    def publish(step: Step) -> Op[..., tuple[Tensor, ...]]:
        of = enter(step, like and like.__name__, same, layer, fixed or {}, chosen)
        made = EQUATIONS[of.call] if same else Equation(step, per_neuron, prefetch)
        for call in calls_of(of):
            EQUATIONS[call] = made._replace(reads=False)
        EQUATIONS[of.call] = made._replace(reads=made.reads or not of.fires)
        return reference_op(scan, result_of)(of.check)

    return publish


class Frame(NamedTuple):
    """Fields of a call that :func:`whole_step` reads; of tensors or of values that are traced."""

    v_reset: Any
    hard_reset: bool
    strict: bool
    detach_reset: Any
    surrogate: Any
    refractory: Any = None  # None: never silent
    max_spikes: Any = 1.0
    fires: bool = True


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
        # grad (1 - s) and grad s, also where grad is infinite or NaN and does not count
        of_h = torch.where(s == 1, 0.0, torch.where(s == 0, grad, grad * (1 - s)))
        of_reset = torch.where(s == 0, 0.0, torch.where(s == 1, grad, grad * s)) if given else None
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
        s, *given = ctx.saved_tensors
        amount = given[0] if given else ctx.amount
        of_amount = torch.where(s == 0, 0.0, torch.where(s == 1, grad, grad * s)) if given else None
        return (grad, -(grad * amount), None if of_amount is None else -of_amount.sum_to_size(amount.shape))


def fire(
    call: Any, h: Tensor, threshold: float | Tensor, subtract: float | Tensor, held: Tensor, silent: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes where ``h >= threshold`` (strictly above, if the call says so), ``h``, and the membrane after the reset.

    Where the neuron is ``silent`` it does not fire and ``h`` is ``held``, the membrane before. None: no neuron ever is,
    and none fires several times in a step. A soft reset takes off ``subtract``.
    """
    if not call.fires:
        return torch.zeros_like(h), h, h
    before: Tensor | None = None
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
        s = torch.where(silent, 0.0, s if before is None else before + s)
    s_reset = choose(call.detach_reset, s.detach(), s)
    if call.hard_reset:
        return s, h, differentiable(_HardReset)(h, s_reset, call.v_reset)
    return s, h, differentiable(_SoftReset)(h, s_reset, subtract)


def choose(flag: bool, yes: Any, no: Any) -> Any:
    """``yes if flag else no``, also of a flag that a kernel is given when it runs."""
    if has_torch_function_unary(flag):
        return handle_torch_function(choose, (flag,), flag, yes, no)
    return yes if flag else no


def whole_step(
    step: Callable[..., Any], call: Any, inputs: Sequence[Any], states: Sequence[Any], parameters: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """One step, with refractory period and reset: outputs, and the states after it.

    Tensors and traced values (:mod:`snnfast.compiler`) go through the same lines.

    Args:
        step: the step function, ``step(fire, *inputs, *states, **parameters) -> (*outputs, *states)``.
        call: a :class:`Frame`, or a call that has its fields.
        inputs: the inputs of this step.
        states: the states before it; of refractory neurons the last one counts the steps that are left.
        parameters: what the step takes by keyword.
    """
    carried = list(states)
    period = getattr(call, "refractory", None)
    r = carried.pop().detach() if period is not None else None
    most = getattr(call, "max_spikes", 1.0)
    silent = None
    if r is not None or not (type(most) is float and most == 1):
        silent = (torch.zeros_like(carried[0]) if r is None else r) > 0
    fired: list[Any] = []

    def fire_and_reset(h: Any, threshold: Any, subtract: Any = None) -> tuple[Any, Any, Any]:
        subtract = threshold if subtract is None else subtract
        spikes, h, v = fire(call, h, threshold, subtract, carried[0], silent)
        fired.append(spikes)
        return spikes, h, v

    returned = step(fire_and_reset, *inputs, *carried, **parameters)
    results = list(returned) if isinstance(returned, tuple) else [returned]
    at = len(results) - len(carried)
    outputs, after = results[:at], results[at:]
    if r is not None and period is not None:
        left = torch.where(r > 1, r - 1, 0.0)  # NaN is no silence
        period = float(period) if isinstance(period, int) else period
        after.append(torch.where(fired[-1].detach() == 0, left, period))
    return outputs, after


def over_time(
    step: Callable[..., Any],
    call: Any,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    parameters: dict[str, Any],
    functions: AbstractContextManager[Any] | None = None,
) -> tuple[list[list[Tensor]], list[Tensor], list[Tensor]]:
    """Outputs of every step, the states after the last step, and the first state after every step.

    Args:
        step: as for :func:`whole_step`.
        call: as there.
        inputs: ``[T, ...]``, in the dtype of the states.
        states: before the first step.
        parameters: as there.
        functions: a mode that computes exp and the like as kernels do.
    """
    rows: list[list[Tensor]] = []
    now: list[Tensor] = list(states)
    first: list[Tensor] = []
    with functions or nullcontext():
        for values in zip(*inputs):
            outputs, now = whole_step(step, call, values, now, parameters)
            rows.append([_full(value, values[0]) for value in outputs])
            now = [_full(value, values[0]) for value in now]
            first.append(now[0])
    return rows, now, first


def _full(value: Any, like: Tensor) -> Tensor:
    """A result of a step, which may be a number or a condition, for every neuron."""
    if not isinstance(value, Tensor):
        return torch.full_like(like, value)
    return value.to(like.dtype).expand(like.shape)


def scan(call: Any) -> tuple[Tensor, ...]:
    """Spikes, last states and membranes of a call of a neuron of the package.

    States that are not given are 0 before the first step, and the membrane ``v_rest``.
    """
    step = EQUATIONS[type(call)].step
    x, dtype = call.x, check.state_dtype(call.x.dtype)
    zeros = torch.zeros(x.shape[1:], dtype=dtype, device=x.device)
    given = [getattr(call, name) for name in fields_of_kind(type(call), Tensor | None)]
    at_rest = [zeros + call.v_rest, *(zeros.clone() for _ in given[1:])]
    states = [rest if state is None else state for state, rest in zip(given, at_rest)]
    parameters = {name: getattr(call, name) for name in parameters_of(step)}
    rows, states, v_seq = over_time(step, call, [x.to(dtype)], states, parameters)
    spikes = [row[0].to(x.dtype) for row in rows]
    return _stacked(spikes, x, x.dtype), *states, _stacked(v_seq, x, dtype)


def parameters_of(step: Step) -> tuple[str, ...]:
    """Return the names of a step's keyword-only arguments."""
    given = inspect.signature(step).parameters.values()
    return tuple(p.name for p in given if p.kind == p.KEYWORD_ONLY)


def _stacked(rows: list[Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(x.shape, dtype=dtype, device=x.device)
