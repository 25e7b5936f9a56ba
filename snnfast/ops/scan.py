"""What the neuron ops share: from checked arguments to the kernels ``<op>_forward`` and ``<op>_backward`` and back.

Every neuron's schemas have one form (``csrc/ops/<op>.cpp``), so layout, autograd, fakes and vmap are written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from snnfast.check import state_dtype
from snnfast.surrogate import Surrogate

from .layout import dense_order, inverse, parameter_run, permute_neurons

# The kernels keep the state every so many steps and recompute the steps between in the backward pass. Emulated CUDA
# counts as CUDA.
CHECKPOINT_EVERY = {"cpu": 32, "cuda": 16}

Parameter = float | Tensor


class Dynamics(NamedTuple):
    """What is not differentiable in the forward pass. ``fires`` False makes a leaky readout without spikes."""

    decay_input: bool
    v_reset: float | None
    v_rest: float
    fires: bool
    return_state: bool
    return_v_seq: bool


def run(
    kernels: Any,
    op: str,
    x: Tensor,
    states: Sequence[Tensor | None],
    params: Sequence[Parameter],
    dynamics: Dynamics,
    surrogate: Surrogate,
    detach_reset: bool,
) -> tuple[Tensor, ...]:
    """Runs the scan of ``op`` and returns ``(spikes, *states, v_seq)``; what was not asked for is empty.

    ``params`` begin with the decay of the membrane and its threshold.
    """
    if forward_ad._current_level >= 0:
        _refuse_tangents(op, (x, *states, *params))
    order = dense_order(x)
    if order is not None:
        x = x.permute(order)
        states = [permute_neurons(s, order) for s in states]  # type: ignore[misc]
        params = [permute_neurons(p, order) for p in params]  # type: ignore[misc]
    params = [parameter_run(p, x.shape[1:]) if isinstance(p, Tensor) else p for p in params]
    if torch.is_grad_enabled() and any(
        isinstance(a, Tensor) and a.requires_grad for a in (x, *states, *params)
    ):
        gradient = (surrogate.number, surrogate.alpha, detach_reset)
        outputs = _Scan.apply(  # type: ignore[no-untyped-call]
            kernels, op, x, len(states), dynamics, gradient, *states, *params
        )
    else:
        outputs = _forward(kernels, op, x, states, params, dynamics, 0)[:-1]
    if order is None:
        return tuple(outputs)
    spikes, *states_out, v_seq = outputs
    back = inverse(order)
    return (
        spikes.permute(back) if dynamics.fires else spikes,
        *(permute_neurons(s, back) if dynamics.return_state else s for s in states_out),
        v_seq.permute(back) if dynamics.return_v_seq else v_seq,
    )


def _refuse_tangents(op: str, arguments: Sequence[Tensor | float | None]) -> None:
    # A kernel would drop them, and the derivative would silently be zero.
    for a in arguments:
        if isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None:
            raise RuntimeError(f"{op}: forward-mode differentiation is not supported")


def _numbers_and_tensors(params: Sequence[Parameter]) -> list[float | Tensor | None]:
    flat: list[float | Tensor | None] = []
    for p in params:
        flat += (0.0, p) if isinstance(p, Tensor) else (p, None)
    return flat


def _gain(decay: Parameter, decay_input: bool) -> float:
    """Gain of the input where the decay is a number; kernels compute it themselves from a tensor."""
    return 1.0 - decay if decay_input and not isinstance(decay, Tensor) else 1.0


def _forward(
    kernels: Any,
    op: str,
    x: Tensor,
    states: Sequence[Tensor | None],
    params: Sequence[Parameter],
    dynamics: Dynamics,
    checkpoint_every: int,
) -> tuple[Tensor, ...]:
    return getattr(kernels, f"{op}_forward")(  # type: ignore[no-any-return]
        x,
        *states,
        *_numbers_and_tensors(params),
        _gain(params[0], dynamics.decay_input),
        *dynamics,
        checkpoint_every,
    )


class _Scan(torch.autograd.Function):
    # The forward(ctx, ...) form costs 9 us a call, with setup_context 27 us.
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Any,
        op: str,
        x: Tensor,
        n_states: int,
        dynamics: Dynamics,
        gradient: tuple[int, float, bool],
        *states_and_params: Tensor | float | None,
    ) -> tuple[Tensor, ...]:
        states, params = states_and_params[:n_states], states_and_params[n_states:]
        every = CHECKPOINT_EVERY["cpu" if kernels is torch.ops.snnfast and x.is_cpu else "cuda"]
        *outputs, checkpoints = _forward(kernels, op, x, states, params, dynamics, every)  # type: ignore[arg-type]
        ctx.set_materialize_grads(False)
        tensors = [p if isinstance(p, Tensor) else None for p in params]
        ctx.save_for_backward(x, checkpoints, *states, *tensors)
        ctx.numbers = [0.0 if isinstance(p, Tensor) else p for p in params]
        ctx.kernels, ctx.op, ctx.n_states, ctx.every = kernels, op, n_states, every
        ctx.dynamics, ctx.gradient = dynamics, gradient
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, checkpoints, *rest = ctx.saved_tensors
        states, tensors = rest[: ctx.n_states], rest[ctx.n_states :]
        params = [n if t is None else t for n, t in zip(ctx.numbers, tensors)]
        d = ctx.dynamics
        wanted = (d.fires, *[d.return_state] * ctx.n_states, d.return_v_seq)
        kernel = getattr(ctx.kernels, f"{ctx.op}_backward")
        if torch.is_grad_enabled():  # create_graph=True
            kernel = partial(_ScanBackward.apply, kernel, ctx.op)
        outputs = kernel(
            *(grad if w else None for grad, w in zip(grads, wanted)),
            x,
            *states,
            checkpoints,
            *_numbers_and_tensors(params),
            _gain(params[0], d.decay_input),
            *d[:4],
            *ctx.gradient,
            any(ctx.needs_input_grad[6 : 6 + ctx.n_states]),
            ctx.every,
        )
        grad_x, grad_states, grad_params = (
            outputs[0],
            outputs[1 : 1 + ctx.n_states],
            outputs[1 + ctx.n_states :],
        )
        return (
            None,
            None,
            grad_x,
            None,
            None,
            None,
            *(None if s is None else g for s, g in zip(states, grad_states)),
            *(None if t is None else g.sum_to_size(t.shape) for t, g in zip(tensors, grad_params)),
        )


class _ScanBackward(torch.autograd.Function):
    # Without this a second derivative would silently be zero.
    @staticmethod
    def forward(ctx: Any, kernel: Callable[..., tuple[Tensor, ...]], op: str, *args: Any) -> Any:
        ctx.op = op
        return kernel(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            f"{ctx.op}: a second derivative was asked for, but the surrogate gradient has none"
        )


def register(namespace: str, op: str, states: int, params: int) -> None:
    """Makes the kernels of ``op`` in ``namespace`` traceable without data, and usable under ``torch.vmap``."""

    def neurons(x: Tensor, wanted: bool) -> Tensor:
        return x.new_empty(x.shape[1:] if wanted else (0,), dtype=state_dtype(x.dtype))

    @torch.library.register_fake(f"{namespace}::{op}_forward")
    def _(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        _, _, _, fires, return_state, return_v_seq, every = args[-7:]
        dtype = state_dtype(x.dtype)
        count = (x.shape[0] + every - 1) // every - 1 if every else 0
        return (
            x.new_empty(x.shape if fires else (0,)),
            *(neurons(x, return_state) for _ in range(states)),
            x.new_empty(x.shape if return_v_seq else (0,), dtype=dtype),
            x.new_empty(
                (torch.sym_max(count, 0), states, *x.shape[1:]) if every else (0,), dtype=dtype
            ),
        )

    @torch.library.register_fake(f"{namespace}::{op}_backward")
    def _(*args: Any) -> tuple[Tensor, ...]:
        x = args[2 + states]
        tensors = args[5 + 2 * states : 5 + 2 * states + 2 * params : 2]
        return (
            x.new_empty(x.shape),
            *(neurons(x, args[-2]) for _ in range(states)),
            *(neurons(x, t is not None) for t in tensors),
        )

    @torch.library.register_vmap(f"{namespace}::{op}_forward")
    def _(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *args: Any) -> Any:
        size, x_dim, *dims = info.batch_size, *in_dims
        x = x.unsqueeze(1).expand(-1, size, *x.shape[1:]) if x_dim is None else x.movedim(x_dim, 1)
        neurons = x.shape[1:]

        def batched(value: Any, dim: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            if dim is None:
                return value.expand(neurons)
            value = value.movedim(dim, 0)
            return value.reshape(
                size, *(1,) * (len(neurons) - value.dim()), *value.shape[1:]
            ).expand(neurons)

        outputs = getattr(getattr(torch.ops, namespace), f"{op}_forward")(
            x, *(batched(value, dim) for value, dim in zip(args, dims))
        )
        _, _, _, fires, return_state, return_v_seq, every = args[-7:]
        return outputs, (
            1 if fires else None,
            *(0 if return_state else None for _ in range(states)),
            1 if return_v_seq else None,
            2 if every else None,
        )
