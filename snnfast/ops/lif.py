"""Leaky integrators, fused over all time steps: :func:`lif`, :func:`iaf` (no leak) and :func:`li` (no spikes)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend, check, reference
from snnfast.surrogate import Surrogate, SurrogateLike, resolve

from .fake import fake_neurons, fake_states
from .layout import dense_order, inverse, parameter_run, permute_neurons

# The kernels keep the state every so many steps and recompute the steps between in the backward pass.
CHECKPOINT_EVERY = {"cpu": 32, "cuda": 16}


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
    """Leaky integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset a number)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    with ``decay = 1 - 1/tau`` and ``gain = 1 - decay`` if ``decay_input`` else 1 (Gerstner et al., Neuronal Dynamics,
    section 1.3; the discretisation and the names are SpikingJelly's). Gradients flow to ``x``, ``v``, ``decay`` or
    ``tau``, and ``v_threshold``, by backpropagation through time with ``ds/dh`` replaced by the surrogate.

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        v: membrane before the first step, ``x.shape[1:]``, float64 for float64 ``x``, else float32; ``v_rest`` if None.
        tau: membrane time constant in steps, at least 1; 2.0 if neither ``tau`` nor ``decay`` is given.
        decay: what is left of the membrane after one step, in [0, 1], instead of ``tau``. Both may be tensors that
            broadcast to ``x.shape[1:]`` (one per channel: ``[C, 1, 1]``), in the dtype of ``v``.
        decay_input: scale the input by ``1 - decay``.
        v_threshold: threshold; a number or a tensor like ``decay``.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.
        v_rest: where the membrane decays to; ``v_reset``, or 0 with soft reset, if None.
        surrogate: name, :class:`snnfast.surrogate.Surrogate`, or a callable ``u -> spikes`` (runs in the reference).
        detach_reset: no gradient through the spike into the reset.
        return_v: return the last membrane; without it the second result is None and nothing of it is written.
        return_v_seq: also return the membrane after every step.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``: spikes ``[T, ...]`` in the dtype of ``x``, the
        membrane after the last step ``x.shape[1:]``, and after every step ``[T, ...]``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.sequence("lif", x)
    surrogate = resolve(surrogate)
    kernels = backend.library("lif", x, surrogate)
    if kernels is None:
        return reference.lif(
            x,
            v,
            tau=tau,
            decay=decay,
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            v_rest=v_rest,
            surrogate=surrogate,
            detach_reset=detach_reset,
            return_v=return_v,
            return_v_seq=return_v_seq,
        )
    check.state("lif", "v", v, x)
    decay = check.decay("lif", "decay", tau, decay, 2.0, x)
    v_threshold = check.parameter("lif", "v_threshold", v_threshold, x)
    v_reset, v_rest = check.rest("lif", v_reset, v_rest)
    spikes, v_out, v_seq = _run(
        kernels,
        x,
        v,
        decay,
        v_threshold,
        (bool(decay_input), v_reset, v_rest, True, bool(return_v), bool(return_v_seq)),
        (surrogate, bool(detach_reset)),
    )
    result = (spikes, v_out if return_v else None)
    return (*result, v_seq) if return_v_seq else result  # type: ignore[return-value]


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
    """Integrate-and-fire neurons: :func:`lif` without leak (``decay = 1``) and without input scaling.

    Arguments and results are those of :func:`lif`.
    """
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
    """Leaky integrators that never fire, a readout: ``v[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]``.

    Arguments are those of :func:`lif`.

    Returns:
        ``(v_seq, v)``: the membrane after every step ``[T, ...]`` and after the last, float64 for float64 ``x``, else
        float32.
    """
    check.sequence("li", x)
    kernels = backend.library("li", x)
    if kernels is None:
        return reference.li(x, v, tau=tau, decay=decay, decay_input=decay_input, v_rest=v_rest)
    check.state("li", "v", v, x)
    decay = check.decay("li", "decay", tau, decay, 2.0, x)
    v_rest = check.number("li", "v_rest", v_rest)
    _, v_out, v_seq = _run(
        kernels,
        x,
        v,
        decay,
        1.0,
        (bool(decay_input), None, v_rest, False, True, True),
        (Surrogate("straight_through", 1.0), False),
    )
    return v_seq, v_out


# decay_input, v_reset, v_rest, fires, return_v, return_v_seq
Dynamics = tuple[bool, float | None, float, bool, bool, bool]


def _run(
    kernels: Any,
    x: Tensor,
    v: Tensor | None,
    decay: float | Tensor,
    v_threshold: float | Tensor,
    dynamics: Dynamics,
    gradient: tuple[Surrogate, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    order = dense_order(x)
    if order is not None:
        x = x.permute(order)
        v, decay, v_threshold = (permute_neurons(a, order) for a in (v, decay, v_threshold))  # type: ignore[assignment]
    if isinstance(decay, Tensor):
        decay = parameter_run(decay, x.shape[1:])
    if isinstance(v_threshold, Tensor):
        v_threshold = parameter_run(v_threshold, x.shape[1:])
    differentiable = torch.is_grad_enabled() and any(
        isinstance(a, Tensor) and a.requires_grad for a in (x, v, decay, v_threshold)
    )
    if differentiable:
        surrogate, detach_reset = gradient
        outputs = _LIF.apply(  # type: ignore[no-untyped-call]
            kernels, x, v, decay, v_threshold, dynamics, (surrogate.number, surrogate.alpha, detach_reset)
        )
    else:
        outputs = _forward(kernels, x, v, decay, v_threshold, dynamics, 0)[:3]
    if order is not None:
        back, neurons_back = inverse(order), [d - 1 for d in inverse(order)[1:]]
        spikes, v_out, v_seq = outputs
        outputs = (
            spikes.permute(back) if dynamics[3] else spikes,
            v_out.permute(neurons_back) if dynamics[4] else v_out,
            v_seq.permute(back) if dynamics[5] else v_seq,
        )
    return outputs  # type: ignore[no-any-return]


def _number_and_tensor(parameter: float | Tensor) -> tuple[float, Tensor | None]:
    return (0.0, parameter) if isinstance(parameter, Tensor) else (parameter, None)


def _gain(decay: float | Tensor, decay_input: bool) -> float:
    return 1.0 - decay if decay_input and not isinstance(decay, Tensor) else 1.0


def _forward(
    kernels: Any,
    x: Tensor,
    v: Tensor | None,
    decay: float | Tensor,
    v_threshold: float | Tensor,
    dynamics: Dynamics,
    checkpoint_every: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    decay_input, v_reset, v_rest, fires, return_v, return_v_seq = dynamics
    return kernels.lif_forward(  # type: ignore[no-any-return]
        x,
        v,
        *_number_and_tensor(decay),
        *_number_and_tensor(v_threshold),
        _gain(decay, decay_input),
        decay_input,
        v_reset,
        v_rest,
        fires,
        return_v,
        return_v_seq,
        checkpoint_every,
    )


class _LIF(torch.autograd.Function):
    # The forward(ctx, ...) form costs 9 us a call, with setup_context 27 us.
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Any,
        x: Tensor,
        v: Tensor | None,
        decay: float | Tensor,
        v_threshold: float | Tensor,
        dynamics: Dynamics,
        gradient: tuple[int, float, bool],
    ) -> tuple[Tensor, Tensor, Tensor]:
        every = CHECKPOINT_EVERY["cuda" if kernels is not torch.ops.snnfast or x.is_cuda else "cpu"]
        spikes, v_out, v_seq, checkpoints = _forward(
            kernels, x, v, decay, v_threshold, dynamics, every
        )
        ctx.set_materialize_grads(False)
        decay_number, decay_tensor = _number_and_tensor(decay)
        threshold_number, threshold_tensor = _number_and_tensor(v_threshold)
        ctx.save_for_backward(x, v, checkpoints, decay_tensor, threshold_tensor)
        ctx.kernels, ctx.numbers = kernels, (decay_number, threshold_number)
        ctx.dynamics, ctx.gradient, ctx.every = dynamics, gradient, every
        return spikes, v_out, v_seq

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, v, checkpoints, decay, v_threshold = ctx.saved_tensors
        decay_number, threshold_number = ctx.numbers
        decay_input, v_reset, v_rest, *returned = ctx.dynamics
        grad_x, grad_v, grad_decay, grad_threshold = ctx.kernels.lif_backward(
            *(grad if wanted else None for grad, wanted in zip(grads, returned)),
            x,
            v,
            checkpoints,
            decay_number,
            decay,
            threshold_number,
            v_threshold,
            _gain(decay_number if decay is None else decay, decay_input),
            decay_input,
            v_reset,
            v_rest,
            returned[0],
            *ctx.gradient,
            v is not None and ctx.needs_input_grad[2],
            ctx.every,
        )
        return (
            None,
            grad_x,
            grad_v if v is not None else None,
            None if decay is None else grad_decay.sum_to_size(decay.shape),
            None if v_threshold is None else grad_threshold.sum_to_size(v_threshold.shape),
            None,
            None,
        )


def register(namespace: str) -> None:
    """Makes the kernels of ``namespace`` traceable without data, and usable under ``torch.vmap``."""

    @torch.library.register_fake(f"{namespace}::lif_forward")
    def _(
        x: Tensor,
        v: Tensor | None,
        decay: float,
        decay_tensor: Tensor | None,
        v_threshold: float,
        v_threshold_tensor: Tensor | None,
        gain: float,
        decay_input: bool,
        v_reset: float | None,
        v_rest: float,
        fires: bool,
        return_v: bool,
        return_v_seq: bool,
        checkpoint_every: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            x.new_empty(x.shape if fires else (0,)),
            *fake_states(x, 1, return_v, return_v_seq, checkpoint_every),
        )  # type: ignore[return-value]

    @torch.library.register_fake(f"{namespace}::lif_backward")
    def _(
        grad_spikes: Tensor | None,
        grad_v: Tensor | None,
        grad_v_seq: Tensor | None,
        x: Tensor,
        v: Tensor | None,
        checkpoints: Tensor,
        decay: float,
        decay_tensor: Tensor | None,
        v_threshold: float,
        v_threshold_tensor: Tensor | None,
        gain: float,
        decay_input: bool,
        v_reset: float | None,
        v_rest: float,
        fires: bool,
        surrogate: int,
        alpha: float,
        detach_reset: bool,
        grad_v_needed: bool,
        checkpoint_every: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wanted = (grad_v_needed, decay_tensor is not None, v_threshold_tensor is not None)
        return (x.new_empty(x.shape), *(fake_neurons(x, w) for w in wanted))  # type: ignore[return-value]
