"""Dispatch of neurons, built in or compiled at run time, to their kernels: layout, autograd, fakes and vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import torch
from torch import Tensor

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.call import Op, Parameter, fields_of_kind, flatten, positions, public
from snnfast.reference.neuron_arguments import NEURONS, calls_of, result_of
from snnfast.reference.recurrent import DIFFERENTIABLE, FIELDS, recurrent_of

from .autograd import (
    backward_pass,
    below_autograd,
    refuse_transforms,
    register_autograd,
    register_backward,
    traced,
    wants_gradient,
)
from .layout import batched, dense_order, inverse, one_by_one, parameter_run, permute_neurons
from .repeat import repeats

# Steps from one checkpoint of the states to the next; the backward pass recomputes the steps between. Emulated CUDA
# counts as CUDA.
CHECKPOINT_EVERY = {"cpu": 32, "cuda": 16}

NO_SECOND = "the surrogate gradient has none"

P = ParamSpec("P")


class Kernel:
    """Structure of the calls of a kernel, looked up once.

    A call is a list of plain arguments, each at its position; a tensor that is not passed is None.

    Attributes:
        stem: name of the op in errors of raw calls.
        forward, backward: names of the operators.
        inputs, states, parameters, connections: positions of the tensors with a time dimension, of the states, of the
            parameters that may be tensors, and of weights, past spikes and delays, if the neurons are recurrent: their
            backward kernels also take the spikes.
        x: position of the first input.
        record_events: position of the flag of recurrent neurons whose spikes are events.
        results: position of the tensor of each gradient that the backward kernel returns; None: of a number.
        gradient: index among these, by position.
        size: number of plain arguments.
        flags: position of the flag that requests an output, a state, or the membranes; None: always returned.
        outputs: number of outputs besides states and membranes.
        rows: number of values of a neuron in a checkpoint.
        checkpoint_every: steps between checkpoints; 0: as in :data:`CHECKPOINT_EVERY`.
    """

    stem: str
    size: int
    flags: tuple[int | None, ...]
    checkpoint_every = 0

    def __init__(self, operator: str, *places: Sequence[int], numbers: int = 0) -> None:
        self.forward, self.backward = f"{operator}_forward", f"{operator}_backward"
        self.inputs, self.states, self.parameters, self.connections = places
        self.x = self.inputs[0]
        self.record_events = self.connections[0] + len(FIELDS) - 1 if self.connections else -1
        self.results = (*self.inputs, *self.states, *(None,) * numbers, *self.parameters, *self.connections)
        self.gradient = {place: k for k, place in enumerate(self.results) if place is not None}
        self.outputs = len(self.flags) - len(self.states) - 1
        self.rows = len(self.states) + len(self.inputs) - 1 + self.outputs - 1

    def packed(self, flat: Sequence[Any]) -> Sequence[Any]:
        """Return the first arguments of the operators from the plain arguments."""
        return flat

    def packed_backward(
        self, flat: list[Any], spikes: Tensor | None, x_repeats: bool, last: tuple[Any, ...], grads: list[Tensor | None]
    ) -> Sequence[Any]:
        """Return the arguments of the backward operator; ``last``: checkpoints, their distance, ``state_needed``."""
        return (*flat, spikes if self.connections else x_repeats, *last, *grads)

    def unpacked(self, arguments: Sequence[Any]) -> list[Any]:
        """Return the plain arguments from the arguments of an operator."""
        return list(arguments[: self.size])


class BuiltIn(Kernel):
    """A kernel of the package, for a call type.

    Attributes:
        call: the call type.
    """

    def __init__(self, call: Any) -> None:
        self.call, places = call, positions(call)
        inner = getattr(call, "neuron_call", call)
        recurrent = "" if inner is call else "recurrent_"
        refractory = "refractory_" if "refractory" in inner._fields else ""
        # Ends with the name of the module that defines the call.
        self.stem = recurrent + refractory + inner.__module__.rpartition(".")[2]
        states = [places[name] for name in fields_of_kind(inner, Tensor | None)]
        params = [places[name] + 1 for name in fields_of_kind(inner, Parameter)]  # after the number
        connections = [places[name] for name in DIFFERENTIABLE] if recurrent else []
        fires, return_state, return_v_seq = (places[f] for f in ("fires", "return_state", "return_v_seq"))
        self.flags = fires, *(return_state,) * len(states), return_v_seq
        self.size = sum(kind.size for kind in call.kinds)
        super().__init__(self.stem, [places["x"]], states, params, connections)

    def flat(self, call: Any) -> list[Any]:
        """Return the plain arguments of a call."""
        return flatten(call)


# By the type of a call.
BUILT_IN: dict[Any, BuiltIn] = {}


def with_kernels(reference: Op[P, Any]) -> Op[P, tuple[Tensor, ...]]:
    """Return the public op of a neuron, or of all neurons with recurrent connections, from that of the reference."""
    check = reference.check
    for plain in calls_of(NEURONS[check.__name__]) if check.__name__ in NEURONS else ():
        for call_type in (plain, recurrent_of(plain)):
            BUILT_IN.setdefault(call_type, BuiltIn(call_type))
    return public(check, runner(reference.equation, built_in), "snnfast.ops")


def built_in(op: str, call: Any) -> tuple[Any, BuiltIn] | None:
    """Return the operators and the kernel of a call of a neuron of the package; None: the reference runs it."""
    kernels = backend.library(op, call.x, call.surrogate)
    return None if kernels is None else (kernels, BUILT_IN[type(call)])


def runner(equation: Callable[[Any], Any], choose: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return the function that runs a call of an op.

    Args:
        equation: the op in plain PyTorch.
        choose: returns the namespace of the operators and the :class:`Kernel`; None for ``equation``.
    """

    def run(op: str, call: Any) -> tuple[Tensor | None, ...]:
        found = choose(op, call)
        if found is None:
            return result_of(call, equation(call))
        kernels, kernel = found
        return result_of(call, scan(kernels, op, kernel, kernel.flat(call)))

    return run


def scan(kernels: Any, op: str, kernel: Kernel, flat: list[Any]) -> tuple[Tensor, ...]:
    """Return outputs, states and membranes of a call; those that it does not return are empty."""
    x = flat[kernel.x]
    tensors = {place: flat[place] for place in kernel.gradient if flat[place] is not None}
    refuse_transforms(op, tensors.values())
    order = None if kernel.connections else dense_order(x)
    if order is not None or len(tensors) > 1:
        _lay_out(tensors, kernel, order)
        for place, tensor in tensors.items():
            flat[place] = tensor
    if not wants_gradient(tensors.values()):
        outputs = below_autograd(getattr(kernels, kernel.forward), *kernel.packed(flat), 0)
    else:
        on_cpu = kernels is torch.ops.snnfast and x.is_cpu
        every = kernel.checkpoint_every or CHECKPOINT_EVERY["cpu" if on_cpu else "cuda"]
        if traced():
            # The number of checkpoints would tie a program to a sequence length, and to a gradient: it saves none.
            compiling, exporting = torch.compiler.is_compiling(), torch.compiler.is_exporting()
            every = 0 if exporting or (not compiling and torch._C._is_tracing()) else every
            outputs = getattr(kernels, kernel.forward)(*kernel.packed(flat), every)
        else:
            again = on_cpu and not kernel.connections and len(kernel.inputs) == 1 and repeats(x)
            outputs = _Scan.apply(op, kernels, kernel, None, every, again, flat, tuple(tensors), *tensors.values())  # type: ignore[no-untyped-call]
    outputs = tuple(outputs[: len(kernel.flags)])
    if order is None:
        return outputs
    back = inverse(order)
    orders = {len(back): back, len(back) - 1: [d - 1 for d in back[1:]]}  # with time, and without
    return tuple(value.permute(orders[value.dim()]) if value.dim() in orders else value for value in outputs)


def _lay_out(tensors: dict[int, Tensor], kernel: Kernel, order: list[int] | None) -> None:
    """Bring ``tensors``, by position, into the layouts that the kernels read in place."""
    if order is not None:
        for place, tensor in tensors.items():
            moved = tensor.permute(order) if place in kernel.inputs else permute_neurons(tensor, order)
            tensors[place] = moved  # type: ignore[assignment]
    shape = tensors[kernel.x].shape[1:]
    for place in kernel.parameters:
        if place in tensors:
            tensors[place] = parameter_run(tensors[place], shape)


# ---- autograd


class _Scan(torch.autograd.Function):
    # The forward(ctx, ...) form costs 9 us a call, autograd registered with the kernel (below) 40 us.
    @staticmethod
    def forward(
        ctx: Any,
        op: str,
        kernels: Any,
        kernel: Kernel,
        operator: Callable[..., Any] | None,  # of a call that is recorded or transformed, which returns checkpoints
        every: int,
        x_repeats: bool,
        flat: list[Any],
        places: Sequence[int],
        *tensors: Tensor,
    ) -> Any:
        if operator is None:
            outputs = below_autograd(getattr(kernels, kernel.forward), *kernel.packed(flat), every)
        else:
            outputs = operator(*kernel.packed(flat), every)
        _save(ctx, op, kernels, kernel, every, x_repeats, flat, places, tensors, outputs)
        if operator is None:
            return tuple(outputs[:-1])
        ctx.mark_non_differentiable(outputs[-1])
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return (*(None,) * 8, *_gradients(ctx, grads))


def _save(
    ctx: Any,
    op: str,
    kernels: Any,
    kernel: Kernel,
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
    ctx.save_for_backward(outputs[-1], outputs[0] if kernel.connections else None, *tensors)
    for place in places:
        flat[place] = None
    ctx.kernels, ctx.kernel, ctx.every, ctx.flat, ctx.places = kernels, kernel, every, flat, places
    ctx.op, ctx.x_repeats = op, x_repeats


def _gradients(ctx: Any, grads: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the tensors at ``ctx.places`` from those of spikes, states and membranes."""
    checkpoints, spikes, *tensors = ctx.saved_tensors
    kernel, every, places, flat = ctx.kernel, ctx.every, ctx.places, list(ctx.flat)
    for place, value in zip(places, tensors):
        flat[place] = value
    if not every:  # a raw call that saved no checkpoints
        every = kernel.checkpoint_every or CHECKPOINT_EVERY["cuda"]
        checkpoints = getattr(ctx.kernels, kernel.forward)(*kernel.packed(flat), every)[-1]
    asked = [grad if flag is None or flat[flag] else None for grad, flag in zip(grads, kernel.flags)]
    last = checkpoints, every, any(flat[place] is not None for place in kernel.states)
    arguments = kernel.packed_backward(flat, spikes, ctx.x_repeats, last, asked)
    outputs = backward_pass(ctx.op, getattr(ctx.kernels, kernel.backward), *arguments, why=NO_SECOND)
    found = [outputs[kernel.gradient[place]] for place in places]
    if ctx.x_repeats:
        found[0] = found[0].expand_as(tensors[0])  # x is the first
    return [
        grad if grad.shape == tensor.shape else grad.sum_to_size(tensor.shape) for grad, tensor in zip(found, tensors)
    ]


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels of all neurons traceable without data, differentiable, and usable under ``torch.vmap``."""
    for kernel in BUILT_IN.values():
        register_kernels(namespace, kernel.stem, lambda _, kernel=kernel: kernel)  # type: ignore[misc]


def register_kernels(namespace: str, stem: str, kernel_of: Callable[[Any], Kernel]) -> None:
    """Register the operators of ``stem``; ``kernel_of`` returns the kernel from the arguments of an operator."""
    kernels, forward, backward = getattr(torch.ops, namespace), f"{stem}_forward", f"{stem}_backward"
    arguments_back = getattr(kernels, backward).default._schema.arguments
    places = {argument.name: place for place, argument in enumerate(arguments_back)}
    forward, backward = f"{namespace}::{forward}", f"{namespace}::{backward}"

    @torch.library.register_fake(forward)
    def _(*arguments: Any) -> Sequence[Tensor]:
        kernel, (*_, every) = kernel_of(arguments), arguments
        flat = kernel.unpacked(arguments)
        x, dtype = flat[kernel.x], state_dtype(flat[kernel.x].dtype)
        shapes = [*[x.shape] * kernel.outputs, *[x.shape[1:]] * len(kernel.states), x.shape]
        asked = [shape if flag is None or flat[flag] else (0,) for shape, flag in zip(shapes, kernel.flags)]
        first, *rest = asked
        spikes = x.new_empty(first)
        if kernel.connections and flat[kernel.record_events]:
            spikes = x.new_empty((3, torch.library.get_ctx().new_dynamic_size()), dtype=torch.int32)
        outputs = [spikes, *(x.new_empty(shape, dtype=dtype) for shape in rest)]
        count = torch.sym_max((x.shape[0] + every - 1) // every - 1, 0) if every else 0
        return [*outputs, x.new_empty((count, kernel.rows, *x.shape[1:]) if every else (0,), dtype=dtype)]

    @torch.library.register_fake(backward)
    def _(*arguments: Any) -> Sequence[Tensor]:
        kernel = kernel_of(arguments)
        flat = kernel.unpacked(arguments)
        x = flat[kernel.x]
        x_repeats = "x_repeats" in places and arguments[places["x_repeats"]]

        def gradient(place: int | None) -> Any:
            value = None if place is None else flat[place]
            if place in kernel.inputs:
                return x.new_empty((1, *x.shape[1:]) if x_repeats else x.shape)
            if place in kernel.connections[:2] and value is not None:  # weight and past
                return value.new_empty(value.shape)
            wanted = arguments[places["state_needed"]] if place in kernel.states else value is not None
            return x.new_empty(x.shape[1:] if wanted else (0,), dtype=state_dtype(x.dtype))

        return [gradient(place) for place in kernel.results]

    def differentiable(operator: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            kernel, (*_, every) = kernel_of(arguments), arguments
            flat = kernel.unpacked(arguments)
            places = [place for place in kernel.gradient if flat[place] is not None]
            fixed = kernel.stem, kernels, kernel, operator, every, False, flat, places
            return _Scan.apply(*fixed, *[flat[place] for place in places])  # type: ignore[no-untyped-call]

        return run

    register_autograd(namespace, f"{stem}_forward", differentiable)
    register_backward(namespace, f"{stem}_backward", stem.removeprefix("own_"), NO_SECOND)

    @torch.library.register_vmap(forward)
    def _(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        kernel, (*_, every) = kernel_of(arguments), arguments
        flat = kernel.unpacked(arguments)
        dims = [dim if isinstance(dim, int) else None for dim in kernel.unpacked(in_dims)]

        def run(*flat: Any) -> Any:
            return getattr(kernels, kernel.forward)(*kernel.packed(flat), every)

        if kernel.connections:
            if flat[kernel.record_events]:
                raise RuntimeError(f"{kernel.stem}: under torch.vmap record must be 'spikes', got 'events'")
            return one_by_one(run)(info, dims, *flat)
        places = [*[1] * kernel.outputs, *[0] * len(kernel.states), 1]
        found = [place if flag is None or flat[flag] else None for place, flag in zip(places, kernel.flags)]
        moved = batched(flat, dims, kernel.x, dict.fromkeys(kernel.inputs, 1), info.batch_size)
        outputs = run(*moved)
        return outputs, type(outputs)([*found, 2 if every else None])

    if "x" not in places:  # gradients in lists
        return

    @torch.library.register_vmap(backward)
    def _(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        kernel, run = kernel_of(arguments), getattr(kernels, f"{stem}_backward")
        if kernel.connections:
            return one_by_one(run)(info, in_dims, *arguments)
        batch_at = dict.fromkeys((places["x"], places["grad_spikes"], places["grad_v_seq"]), 1)
        batch_at[places["checkpoints"]] = 2  # [count, states, neurons]
        wanted = [arguments[places["state_needed"]]] * len(kernel.states)
        wanted += [arguments[place] is not None for place in kernel.parameters]
        moved = batched(arguments, in_dims, places["x"], batch_at, info.batch_size)
        return run(*moved), (1, *(0 if needed else None for needed in wanted))
