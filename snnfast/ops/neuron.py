"""Dispatch of neurons to their kernels ``<op>_forward`` and ``<op>_backward``: layout, autograd, fakes and vmap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.check import state_dtype
from snnfast.reference.call import Op, Parameter, extended, fields_of_kind, flatten, positions, public, unflatten
from snnfast.reference.neuron_arguments import NEURONS, calls_of, result_of
from snnfast.reference.recurrent import FIELDS, recurrent_of

from .autograd import backward_pass, below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient
from .layout import batched, dense_order, inverse, one_by_one, parameter_run, permute_neurons
from .pool2d import has_kernel
from .repeat import repeats

# Steps from one checkpoint of the states to the next; the backward pass recomputes the steps between. Emulated CUDA
# counts as CUDA.
CHECKPOINT_EVERY = {"cpu": 32, "cuda": 16}

NO_SECOND = "the surrogate gradient has none"

# Window of a pooling: rows, columns, and True for an average.
Window = tuple[int, int, bool]
WINDOW = {"kernel_h": int, "kernel_w": int, "average": bool}

P = ParamSpec("P")


class _Variant:
    """Structure of a neuron's call type, looked up once.

    Attributes:
        call: the call type.
        stem: common part of its kernels' names; ends with the name of the module that defines the call.
        states, params: the names of its states and parameters.
        more: the names of its other tensors, if the neurons are recurrent: their backward kernels also take the spikes.
        at: position of a field among the plain arguments; of a parameter, that of its tensor.
        parameters: positions of the parameters' tensors.
        gradient: index of the gradient among the outputs of the backward kernel, by position of the plain argument.
        pooled: whether the kernels pool the spikes. Such kernels also take the window. Instead of membranes they
            return the argmax indices, which the backward kernel takes.
    """

    def __init__(self, call: Any, *, pooled: bool = False) -> None:
        self.call, self.at, self.pooled = call, positions(call), pooled
        neuron = getattr(call, "neuron", call)
        recurrent = "" if neuron is call else "recurrent_"
        refractory = "refractory_" if "refractory" in neuron._fields else ""
        self.stem = "pooled_" * pooled + recurrent + refractory + neuron.__module__.rpartition(".")[2]
        self.states = fields_of_kind(neuron, Tensor | None)
        self.params = fields_of_kind(neuron, Parameter)
        self.more = tuple(FIELDS) if recurrent else ()
        self.at |= {name: self.at[name] + 1 for name in self.params}
        self.parameters = {self.at[name] for name in self.params}
        self.neurons = self.states + self.params
        tensors = ("x", *self.neurons, *self.more)
        self.gradient = {self.at[name]: k for k, name in enumerate(tensors)}
        self.forward, self.backward = f"{self.stem}_forward", f"{self.stem}_backward"

    @functools.cached_property
    def forward_call(self) -> Any:
        """The type of a call with all arguments of the forward kernel."""
        fields = (WINDOW if self.pooled else {}) | {"checkpoint_every": int}
        return extended(self.call, f"Forward{self.call.__name__}", fields)

    @functools.cached_property
    def backward_call(self) -> Any:
        """The type of a call with all arguments of the backward kernel."""
        places = WINDOW | {"places": Tensor} if self.pooled else {}
        fields = {
            **({"spikes": Tensor} if self.more else {**places, "x_repeats": bool}),
            **{"checkpoints": Tensor, "checkpoint_every": int, "state_needed": bool},
            **{f"grad_{name}": Tensor | None for name in ("spikes", *self.states, "v_seq")},
        }
        return extended(self.call, f"Backward{self.call.__name__}", fields)


_CHANNELS_LAST = [0, 1, 3, 4, 2]  # of [T, B, C, H, W]
_KINDS: dict[Any, _Variant] = {}
_POOLED: dict[Any, _Variant] = {}


def with_kernels(check: Callable[P, Any]) -> Op[P, tuple[Tensor, ...]]:
    """Return the public op of a neuron, or of all neurons with recurrent connections, from its argument check."""
    equation = getattr(reference, check.__name__).equation
    for plain in calls_of(NEURONS[check.__name__]) if check.__name__ in NEURONS else ():
        _POOLED.setdefault(plain, _Variant(plain, pooled=True))
        for call_type in (plain, recurrent_of(plain)):
            _KINDS.setdefault(call_type, _Variant(call_type))

    def run(op: str, call: Any) -> Any:
        kernels = backend.library(op, call.x, call.surrogate)
        outputs = equation(call) if kernels is None else _scan(kernels, op, _KINDS[type(call)], call)
        return result_of(call, outputs)

    return public(check, run, "snnfast.ops")


def pooled(op: str, call: Any, window: Window) -> Any:
    """Run the op of ``call``, with images ``x`` ``[T, B, C, H, W]``, and pool its spikes, in one pass.

    Return None where neuron and pooling have to run one after the other: the kernels need images that the kernels of
    :func:`snnfast.ops.pool2d` accept, and parameters that are the same for all images.
    """
    x, kind = call.x, _POOLED[type(call)]
    params = (getattr(call, name) for name in kind.params)
    shared = all(
        not isinstance(p, Tensor) or p.shape == x.shape[2:] or (p.dim() < 4 and sum(size != 1 for size in p.shape) < 2)
        for p in params
    )
    kernels = backend.library(op, x, call.surrogate)
    if not shared or kernels is not torch.ops.snnfast or not has_kernel(x[0], *window):
        return None
    return result_of(call, _scan(kernels, op, kind, call, window))


def _scan(kernels: Any, op: str, kind: _Variant, call: Any, window: Window | tuple[()] = ()) -> tuple[Tensor, ...]:
    """Return spikes, or pooled spikes, states and membranes; results that the call does not return are empty."""
    x, flat = call.x, flatten(call)
    tensors = {place: flat[place] for place in kind.gradient if flat[place] is not None}
    refuse_transforms(op, tensors.values())
    order = _CHANNELS_LAST if kind.pooled else None if kind.more else dense_order(x)
    if order is not None or len(tensors) > 1:
        _lay_out(tensors, kind, order)
        for place, tensor in tensors.items():
            flat[place] = tensor
    flat += window
    if not wants_gradient(tensors.values()):
        outputs = below_autograd(getattr(kernels, kind.forward), *flat, 0)
    else:
        on_cpu = kernels is torch.ops.snnfast and x.is_cpu
        every = CHECKPOINT_EVERY["cpu" if on_cpu else "cuda"]
        if traced():
            # The number of checkpoints would tie a program to a sequence length, and to a gradient: it saves none.
            compiling, exporting = torch.compiler.is_compiling(), torch.compiler.is_exporting()
            every = 0 if exporting or (not compiling and torch._C._is_tracing()) else every
            outputs = getattr(kernels, kind.forward)(*flat, every)
        else:
            again = on_cpu and not kind.more and repeats(x)
            outputs = _Scan.apply(op, kernels, kind, every, again, flat, tuple(tensors), *tensors.values())  # type: ignore[no-untyped-call]
    outputs = outputs[: len(kind.states) + 2]
    if order is None:
        return outputs
    back = inverse(order)
    spikes, *states, v_seq = outputs
    return (
        spikes.permute(back) if call.fires else spikes,
        *(permute_neurons(s, back) if call.return_state else s for s in states),  # type: ignore[arg-type]
        v_seq.permute(back) if call.return_v_seq else v_seq,
    )


def _lay_out(tensors: dict[int, Tensor], kind: _Variant, order: list[int] | None) -> None:
    """Bring ``tensors``, by position, into the layouts that the kernels read in place."""
    at_x = kind.at["x"]
    if order is not None:
        for place, tensor in tensors.items():
            moved = tensor.permute(order) if place == at_x else permute_neurons(tensor, order)
            tensors[place] = moved  # type: ignore[assignment]
    shape = tensors[at_x].shape[1:]
    for place in kind.parameters & tensors.keys():
        tensors[place] = parameter_run(tensors[place], shape)


# ---- autograd


class _Scan(torch.autograd.Function):
    # The forward(ctx, ...) form costs 9 us a call, autograd registered with the kernel (below) 40 us.
    @staticmethod
    def forward(
        ctx: Any,
        op: str,
        kernels: Any,
        kind: _Variant,
        every: int,
        x_repeats: bool,
        flat: list[Any],
        places: Sequence[int],
        *tensors: Tensor,
    ) -> Any:
        outputs = below_autograd(getattr(kernels, kind.forward), *flat, every)
        _save(ctx, op, kernels, kind, every, x_repeats, flat, places, tensors, outputs)
        return outputs[:-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return (*(None,) * 7, *_gradients(ctx, grads))


def _save(
    ctx: Any,
    op: str,
    kernels: Any,
    kind: _Variant,
    every: int,
    x_repeats: bool,
    flat: list[Any],
    places: Sequence[int],
    tensors: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> None:
    """Save tensors for the backward pass. The context owns ``flat``.

    ``x_repeats``: the kernel returns the mean of the gradient of ``x`` over time.
    """
    ctx.set_materialize_grads(False)
    extra = outputs[0] if kind.more else outputs[-2] if kind.pooled else None
    ctx.save_for_backward(outputs[-1], extra, *tensors)
    for place in places:
        flat[place] = None
    ctx.kernels, ctx.kind, ctx.every, ctx.flat, ctx.places = kernels, kind, every, flat, places
    ctx.op, ctx.x_repeats = op, x_repeats


def _gradients(ctx: Any, grads: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the tensors at ``ctx.places`` from those of spikes, states and membranes."""
    checkpoints, extra, *tensors = ctx.saved_tensors
    kind, every, places, flat = ctx.kind, ctx.every, ctx.places, list(ctx.flat)
    for place, value in zip(places, tensors):
        flat[place] = value
    if not every:  # a raw call that saved no checkpoints
        every = CHECKPOINT_EVERY["cuda"]
        checkpoints = getattr(ctx.kernels, kind.forward)(*flat, every)[-1]
    at, count = kind.at, len(kind.states)
    *grad_outputs, grad_v_seq = grads[: count + 2]
    if not flat[at["return_state"]]:
        grad_outputs[1:] = [None] * count
    if not flat[at["fires"]]:
        grad_outputs[0] = None
    if not flat[at["return_v_seq"]]:
        grad_v_seq = None
    state_needed = any(flat[at[name]] is not None for name in kind.states)
    kernel = getattr(ctx.kernels, kind.backward)
    extras = (extra,) if kind.more else (extra, ctx.x_repeats) if kind.pooled else (ctx.x_repeats,)
    arguments = (*flat, *extras, checkpoints, every, state_needed, *grad_outputs, grad_v_seq)
    outputs = backward_pass(ctx.op, kernel, *arguments, why=NO_SECOND)
    found = [outputs[kind.gradient[place]] for place in places]
    if ctx.x_repeats:
        found[0] = found[0].expand_as(tensors[0])  # x is the first
    return [
        grad if grad.shape == tensor.shape else grad.sum_to_size(tensor.shape) for grad, tensor in zip(found, tensors)
    ]


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels of all neurons traceable without data, differentiable, and usable under ``torch.vmap``."""
    for kind in _KINDS.values():
        _register(namespace, kind)
    if namespace == "snnfast":  # only the CPU has kernels that pool
        for kind in _POOLED.values():
            _register(namespace, kind)


def _register(namespace: str, kind: _Variant) -> None:
    kernels, states, params = getattr(torch.ops, namespace), kind.states, kind.params
    forward, backward = f"{namespace}::{kind.forward}", f"{namespace}::{kind.backward}"

    def neurons(x: Tensor, wanted: bool) -> Tensor:
        return x.new_empty(x.shape[1:] if wanted else (0,), dtype=state_dtype(x.dtype))

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(kind.forward_call, flat)
        x, every, dtype = call.x, call.checkpoint_every, state_dtype(call.x.dtype)
        count = (x.shape[0] + every - 1) // every - 1 if every else 0
        spikes = x.new_empty(x.shape if call.fires else (0,))
        v_seq = x.new_empty(x.shape if call.return_v_seq else (0,), dtype=dtype)
        if kind.pooled:
            steps, batch, height, width, channels = x.shape
            size = height // call.kernel_h, width // call.kernel_w
            spikes = x.new_empty(steps, batch, *size, channels)
            v_seq = x.new_empty((0,) if call.average else spikes.shape, dtype=torch.uint8)
        shape = (torch.sym_max(count, 0), len(states), *x.shape[1:]) if every else (0,)
        states_out = (neurons(x, call.return_state) for _ in states)
        return spikes, *states_out, v_seq, x.new_empty(shape, dtype=dtype)

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(kind.backward_call, flat)
        x_repeats = not kind.more and call.x_repeats
        grads = (
            call.x.new_empty((1, *call.x.shape[1:]) if x_repeats else call.x.shape),
            *(neurons(call.x, call.state_needed) for _ in states),
            *(neurons(call.x, isinstance(getattr(call, name), Tensor)) for name in params),
        )
        if not kind.more:
            return grads
        past = neurons(call.x, False) if call.past is None else call.past
        more = call.weight, past, neurons(call.x, call.delay is not None)
        return *grads, *(value.new_empty(value.shape) for value in more)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *flat, every = inputs
        places = [place for place in kind.gradient if isinstance(flat[place], Tensor)]
        tensors = [flat[place] for place in places]
        _save(ctx, kind.stem, kernels, kind, every, False, flat, places, tensors, output)

    def differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        result: list[Tensor | None] = [None] * (len(ctx.flat) + 1)
        for place, grad in zip(ctx.places, _gradients(ctx, grads)):
            result[place] = grad
        return tuple(result)

    torch.library.register_autograd(forward, differentiate, setup_context=setup_context)

    refuse = no_double_backward(kind.stem, NO_SECOND)
    torch.library.register_autograd(backward, refuse)
    if kind.more or kind.pooled:
        for name, kernel in ((forward, kind.forward), (backward, kind.backward)):
            torch.library.register_vmap(name, one_by_one(getattr(kernels, kernel)))
        return

    @torch.library.register_vmap(forward)
    def _(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        call, at_x = unflatten(kind.forward_call, flat), kind.at["x"]
        arguments = batched(flat, in_dims, at_x, {at_x: 1}, info.batch_size)
        return getattr(kernels, kind.forward)(*arguments), (
            1 if call.fires else None,
            *(0 if call.return_state else None for _ in states),
            1 if call.return_v_seq else None,
            2 if call.checkpoint_every else None,
        )

    @torch.library.register_vmap(backward)
    def _(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        call, at = unflatten(kind.backward_call, flat), positions(kind.backward_call)
        batch_at = dict.fromkeys((at["x"], at["grad_spikes"], at["grad_v_seq"]), 1)
        batch_at[at["checkpoints"]] = 2  # [count, states, neurons]
        arguments = batched(flat, in_dims, at["x"], batch_at, info.batch_size)
        return getattr(kernels, kind.backward)(*arguments), (
            1,
            *(0 if call.state_needed else None for _ in states),
            *(0 if isinstance(getattr(call, name), Tensor) else None for name in params),
        )
