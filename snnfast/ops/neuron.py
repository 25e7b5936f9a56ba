"""How a neuron's call reaches its kernels ``<op>_forward`` and ``<op>_backward``: layout, autograd, fakes and vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from snnfast import backend
from snnfast.calls.call import Parameter, fields_of_kind, flatten, positions, public, unflatten
from snnfast.calls.neuron import NeuronCall, answer
from snnfast.check import state_dtype

from .layout import dense_order, inverse, parameter_run, permute_neurons

# The kernels keep the state every so many steps and recompute the steps between in the backward pass. Emulated CUDA
# counts as CUDA.
CHECKPOINT_EVERY = {"cpu": 32, "cuda": 16}

P = ParamSpec("P")
R = TypeVar("R")


def neuron(reference: Callable[P, R], stem: str = "") -> Callable[P, R]:
    """The public op of a neuron, from its reference; ``stem`` names the kernels if they are not called like the op."""
    check, equation = reference.check, reference.equation  # type: ignore[attr-defined]
    kernel = stem or check.__name__

    def run(op: str, call: NeuronCall) -> Any:
        kernels = backend.library(op, call.x, call.surrogate)
        outputs = equation(call) if kernels is None else _scan(kernels, op, kernel, call)
        return answer(call, outputs)

    return public(check, run, "snnfast.ops")


def states_of(call: type) -> tuple[str, ...]:
    """The names of a neuron's states."""
    return fields_of_kind(call, Tensor | None)


def params_of(call: type) -> tuple[str, ...]:
    """The names of a neuron's parameters."""
    return fields_of_kind(call, Parameter)


def _scan(kernels: Any, op: str, stem: str, call: Any) -> tuple[Tensor, ...]:
    """Spikes, states and membranes; what was not asked for is empty."""
    kind = type(call)
    states, params = states_of(kind), params_of(kind)
    differentiable = [call.x, *(getattr(call, name) for name in states + params)]
    if forward_ad._current_level >= 0:
        _refuse_tangents(op, differentiable)
    order = dense_order(call.x)
    if order is not None:
        moved = {name: permute_neurons(getattr(call, name), order) for name in states + params}
        call = call._replace(x=call.x.permute(order), **moved)
    learned = {name: value for name in params if isinstance(value := getattr(call, name), Tensor)}
    if learned:
        neurons = call.x.shape[1:]
        call = call._replace(**{n: parameter_run(value, neurons) for n, value in learned.items()})
    every = 0
    if torch.is_grad_enabled() and any(
        isinstance(a, Tensor) and a.requires_grad for a in differentiable
    ):
        every = CHECKPOINT_EVERY["cpu" if kernels is torch.ops.snnfast and call.x.is_cpu else "cuda"]
    flat = flatten(call)
    if not every:
        outputs = _below_autograd(getattr(kernels, f"{stem}_forward"), *flat, 0)
    elif torch._C._are_functorch_transforms_active():
        outputs = getattr(kernels, f"{stem}_forward")(*flat, every)
    else:
        outputs = _Scan.apply(kernels, stem, kind, every, *flat)  # type: ignore[no-untyped-call]
    spikes, *states_out, v_seq, _ = outputs
    if order is None:
        return spikes, *states_out, v_seq
    back = inverse(order)
    return (
        spikes.permute(back) if call.fires else spikes,
        *(permute_neurons(s, back) if call.return_state else s for s in states_out),
        v_seq.permute(back) if call.return_v_seq else v_seq,
    )


def _refuse_tangents(op: str, arguments: Sequence[Any]) -> None:
    # A kernel would drop them, and the derivative would silently be zero.
    for a in arguments:
        if isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None:
            raise RuntimeError(f"{op}: forward-mode differentiation is not supported")


def _below_autograd(kernel: Any, *arguments: Any) -> tuple[Tensor, ...]:
    """Calls a kernel where its gradient is not wanted or already taken care of, without the way through Python's autograd."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return kernel(*arguments)  # type: ignore[no-any-return]
    with torch._C._AutoDispatchBelowAutograd():
        return kernel(*arguments)  # type: ignore[no-any-return]


# ---- autograd


class _Scan(torch.autograd.Function):
    # The forward(ctx, ...) form costs 9 us a call, autograd registered with the kernel (below) 40 us.
    @staticmethod
    def forward(ctx: Any, kernels: Any, stem: str, kind: type, every: int, *flat: Any) -> Any:
        outputs = _below_autograd(getattr(kernels, f"{stem}_forward"), *flat, every)
        ctx.kernels, ctx.stem, ctx.kind = kernels, stem, kind
        ctx.set_materialize_grads(False)
        _save(ctx, flat, every, outputs[-1])
        ctx.mark_non_differentiable(outputs[-1])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return (None,) * 4 + _gradients(ctx, *grads)


def _save(ctx: Any, flat: Sequence[Any], every: int, checkpoints: Tensor) -> None:
    ctx.places = [k for k, a in enumerate(flat) if isinstance(a, Tensor)]
    ctx.save_for_backward(checkpoints, *(flat[k] for k in ctx.places))
    ctx.plain = [None if isinstance(a, Tensor) else a for a in flat]
    ctx.every = every


def _gradients(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    """Gradients of the plain arguments from those of spikes, states, v_seq and checkpoints."""
    checkpoints, *saved = ctx.saved_tensors
    flat, every = list(ctx.plain), ctx.every
    for k, value in zip(ctx.places, saved):
        flat[k] = value
    call, at = unflatten(ctx.kind, flat), positions(ctx.kind)
    states, params = states_of(ctx.kind), params_of(ctx.kind)
    if not every:  # a raw call that kept no checkpoints
        every = CHECKPOINT_EVERY["cuda"]
        checkpoints = getattr(ctx.kernels, f"{ctx.stem}_forward")(*flat, every)[-1]
    given = (call.fires, *[call.return_state] * len(states), call.return_v_seq)
    wanted = [g if there else None for g, there in zip(grads, given)]
    needed = any(getattr(call, name) is not None for name in states)
    backward = getattr(ctx.kernels, f"{ctx.stem}_backward")
    call_backward = backward if torch.is_grad_enabled() else lambda *a: _below_autograd(backward, *a)
    grad_x, *rest = call_backward(*flat, checkpoints, every, needed, *wanted)
    result: list[Any] = [None] * len(flat)
    result[at["x"]] = grad_x
    for name, grad in zip(states, rest):
        result[at[name]] = None if getattr(call, name) is None else grad
    for name, grad in zip(params, rest[len(states) :]):
        value = getattr(call, name)
        if isinstance(value, Tensor):
            result[at[name] + 1] = grad.sum_to_size(value.shape)
    return tuple(result)


# ---- what PyTorch knows of the kernels


def register(namespace: str, stem: str, kind: Any) -> None:
    """Makes the kernels of ``stem`` in ``namespace`` traceable without data, differentiable, and usable under ``torch.vmap``."""
    states, params, at = states_of(kind), params_of(kind), positions(kind)
    kernels = getattr(torch.ops, namespace)
    forward, backward = f"{namespace}::{stem}_forward", f"{namespace}::{stem}_backward"

    def neurons(x: Tensor, wanted: bool) -> Tensor:
        return x.new_empty(x.shape[1:] if wanted else (0,), dtype=state_dtype(x.dtype))

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call, every = unflatten(kind, flat), flat[-1]
        x, dtype = call.x, state_dtype(call.x.dtype)
        count = (x.shape[0] + every - 1) // every - 1 if every else 0
        return (
            x.new_empty(x.shape if call.fires else (0,)),
            *(neurons(x, call.return_state) for _ in states),
            x.new_empty(x.shape if call.return_v_seq else (0,), dtype=dtype),
            x.new_empty(
                (torch.sym_max(count, 0), len(states), *x.shape[1:]) if every else (0,), dtype=dtype
            ),
        )

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call, needed = unflatten(kind, flat), flat[-3 - len(states)]
        return (
            call.x.new_empty(call.x.shape),
            *(neurons(call.x, needed) for _ in states),
            *(neurons(call.x, isinstance(getattr(call, name), Tensor)) for name in params),
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.kernels, ctx.stem, ctx.kind = kernels, stem, kind
        ctx.set_materialize_grads(False)
        _save(ctx, inputs[:-1], inputs[-1], output[-1])

    torch.library.register_autograd(
        forward, lambda ctx, *grads: (*_gradients(ctx, *grads), None), setup_context=setup_context
    )

    def no_second_derivative(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            f"{stem}: a second derivative was asked for, but the surrogate gradient has none"
        )

    torch.library.register_autograd(backward, no_second_derivative)

    @torch.library.register_vmap(forward)
    def _(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        call, size = unflatten(kind, flat), info.batch_size
        batched = _batched(flat, in_dims, at["x"], {at["x"]: 1}, size)
        return getattr(kernels, f"{stem}_forward")(*batched), (
            1 if call.fires else None,
            *(0 if call.return_state else None for _ in states),
            1 if call.return_v_seq else None,
            2 if flat[-1] else None,
        )

    @torch.library.register_vmap(backward)
    def _(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        call, size, count = unflatten(kind, flat), info.batch_size, len(states)
        first = len(flat) - count - 2  # of the gradients; checkpoints [count, states, neurons] stand before
        batch_at = {at["x"]: 1, first - 3: 2, first: 1, len(flat) - 1: 1}
        batched = _batched(flat, in_dims, at["x"], batch_at, size)
        return getattr(kernels, f"{stem}_backward")(*batched), (
            1,
            *(0 if flat[-3 - count] else None for _ in states),
            *(0 if isinstance(getattr(call, name), Tensor) else None for name in params),
        )


def _batched(
    flat: Sequence[Any],
    in_dims: Sequence[int | None],
    at_x: int,
    batch_at: dict[int, int],
    size: int,
) -> list[Any]:
    """The plain arguments with the batch as the first dimension of the neurons.

    ``batch_at`` says which dimension that is, for arguments with others before; the rest lack them, and may lack more.
    """

    def before(value: Tensor, dim: int | None, there: int) -> Tensor:
        if dim is not None:
            return value.movedim(dim, there)
        shape = value.shape
        return value.unsqueeze(there).expand(*shape[:there], size, *shape[there:])

    neurons = before(flat[at_x], in_dims[at_x], 1).shape[1:]

    def broadcast(value: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return value.expand(neurons)
        value = value.movedim(dim, 0)
        missing = len(neurons) - value.dim()
        return value.reshape(size, *(1,) * missing, *value.shape[1:]).expand(neurons)

    return [
        value
        if not isinstance(value, Tensor)
        else before(value, dim, batch_at[k]).contiguous()
        if batch_at.get(k, 1) != 1
        else before(value, dim, 1)
        if k in batch_at
        else broadcast(value, dim)
        for k, (value, dim) in enumerate(zip(flat, in_dims))
    ]
