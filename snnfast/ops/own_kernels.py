"""How neurons from step functions reach their kernels: autograd, fakes and vmap."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import backend, check

from .autograd import (
    backward_pass,
    below_autograd,
    no_double_backward,
    refuse_transforms,
    traced,
    wants_gradient,
)
from .layout import parameter_run

__all__ = ["KERNELS", "Kernel", "call", "call_recurrent", "load"]

NO_SECOND = "the surrogate gradient has none"


class Kernel(NamedTuple):
    """A compiled kernel.

    Attributes:
        name: its name in the operator.
        numbers, tensors: its parameters, in order.
        rows: number of its states, further inputs and further outputs.
        namespace: of the operator.
        checkpoint_every: steps between the checkpoints of its backward pass.
    """

    name: str
    numbers: tuple[str, ...]
    tensors: tuple[str, ...]
    rows: int
    namespace: str
    checkpoint_every: int

    def operator(self, name: str) -> Any:
        """The operator ``name`` that runs this kernel."""
        return getattr(getattr(torch.ops, self.namespace), name)


# By name, for fakes; the operator has its own table.
KERNELS: dict[str, Kernel] = {}


def load(namespace: str, path: Path) -> int:
    """Load a compiled kernel under the name of its file, and return the steps between its checkpoints.

    Raises:
        RuntimeError: it cannot be loaded.
    """
    if namespace == "snnfast":
        assert backend.extension is not None, "a backend was chosen"
        return backend.extension.load_own_kernel(path.stem, str(path))  # type: ignore[no-any-return]
    (library,) = (each for each in torch.ops.loaded_libraries if "_cuda_emulation" in each)
    found: int = ctypes.CDLL(library).snnfast_load_own_kernel(path.stem.encode(), bytes(path))
    return found


def call(
    kernel: Kernel,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    numbers: list[float],
    parameters: Sequence[Tensor],
    outputs: int,
    return_v_seq: bool,
) -> list[Tensor]:
    """Outputs, states and membranes of a kernel, with gradients where they are wanted."""
    forward, every = kernel.operator("own_neuron_forward"), kernel.checkpoint_every
    lists = list(inputs), list(states), numbers, list(parameters)
    tensors = (*inputs, *states, *parameters)
    if not wants_gradient(tensors):
        found = below_autograd(forward, kernel.name, *lists, outputs, return_v_seq, 0)
        return list(found)[:-1]
    if traced():
        return list(forward(kernel.name, *lists, outputs, return_v_seq, every))[:-1]
    counts = len(inputs), len(states), len(parameters)
    return list(_Scan.apply(kernel.name, counts, numbers, outputs, return_v_seq, *tensors))  # type: ignore[no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: str,
        counts: tuple[int, int, int],
        numbers: list[float],
        outputs: int,
        return_v_seq: bool,
        *tensors: Tensor,
    ) -> Any:
        lists, this = _split(tensors, counts), KERNELS[kernel]
        found = below_autograd(
            this.operator("own_neuron_forward"),
            *(kernel, lists[0], lists[1], numbers, lists[2]),
            *(outputs, return_v_seq, this.checkpoint_every),
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(found[-1], *tensors)
        ctx.arguments = kernel, counts, numbers, outputs, return_v_seq
        return tuple(found[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        checkpoints, *tensors = ctx.saved_tensors
        return (*(None,) * 5, *_gradients(ctx.arguments, checkpoints, tensors, grads))


def call_recurrent(
    kernel: Kernel,
    states: list[Tensor],
    call: Any,
    weight: Tensor,
    past: Tensor | None,
    delay: Tensor | None,
) -> list[Tensor]:
    """Spikes, states and membranes of neurons with recurrent connections, with gradients where they are wanted."""
    (x,) = call.inputs
    parameters = [parameter_run(call.parameters[name], x.shape[1:]) for name in kernel.tensors]
    numbers = [call.parameters[name] for name in kernel.numbers]
    tensors = (x, *states, *parameters, weight, *(t for t in (past, delay) if t is not None))
    refuse_transforms(kernel.name.rpartition("-")[0], tensors)
    forward = kernel.operator("own_recurrent_forward")
    plain = kernel.name, x, states, numbers, parameters, call.return_v_seq, weight, past, delay
    if not wants_gradient(tensors):
        return list(below_autograd(forward, *plain, 0))[:-1]
    if traced():
        return list(forward(*plain, kernel.checkpoint_every))[:-1]
    counts = len(states), len(parameters), past is not None, delay is not None
    return list(_RecurrentScan.apply(kernel.name, counts, numbers, call.return_v_seq, *tensors))  # type: ignore[no-untyped-call]


class _RecurrentScan(torch.autograd.Function):
    @staticmethod
    def lists(counts: tuple[int, int, bool, bool], tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        """x, states, parameters, weight, past and delay."""
        states, parameters, has_past, has_delay = counts
        x, *rest = tensors
        a, b = states, states + parameters
        weight, *more = rest[b:]
        past = more[0] if has_past else None
        delay = more[-1] if has_delay else None
        return x, rest[:a], rest[a:b], weight, past, delay

    @staticmethod
    def forward(
        ctx: Any,
        kernel: str,
        counts: Any,
        numbers: list[float],
        return_v_seq: bool,
        *tensors: Tensor,
    ) -> Any:
        x, states, parameters, weight, past, delay = _RecurrentScan.lists(counts, tensors)
        this = KERNELS[kernel]
        found = below_autograd(
            this.operator("own_recurrent_forward"),
            *(kernel, x, states, numbers, parameters, return_v_seq),
            *(weight, past, delay, this.checkpoint_every),
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(found[0], found[-1], *tensors)
        ctx.arguments = kernel, counts, numbers, return_v_seq
        return tuple(found[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        kernel, counts, numbers, return_v_seq = ctx.arguments
        spikes, checkpoints, *tensors = ctx.saved_tensors
        x, states, parameters, weight, past, delay = _RecurrentScan.lists(counts, tensors)
        this = KERNELS[kernel]
        every, connections = this.checkpoint_every, (weight, past, delay)
        neurons = kernel, x, states, numbers, parameters
        if not checkpoints.numel() and len(x) > every:
            forward = this.operator("own_recurrent_forward")
            checkpoints = forward(*neurons, False, *connections, every)[-1]
        none = x.new_empty(0)
        given = [none if g is None else g for g in grads]
        given[-1] = given[-1] if return_v_seq else none
        found = list(
            backward_pass(
                kernel.rpartition("-")[0],
                this.operator("own_recurrent_backward"),
                *(*neurons, *connections, spikes, checkpoints, every, given),
                why=NO_SECOND,
            )
        )
        if past is None:
            del found[-2]
        if delay is None:
            del found[-1]
        return (*(None,) * 4, *(grad.sum_to_size(t.shape) for grad, t in zip(found, tensors)))


def _split(tensors: Sequence[Tensor], counts: tuple[int, int, int]) -> list[list[Tensor]]:
    a, b = counts[0], counts[0] + counts[1]
    return [list(tensors[:a]), list(tensors[a:b]), list(tensors[b:])]


def _gradients(
    arguments: tuple[Any, ...],
    checkpoints: Tensor,
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor]:
    kernel, counts, numbers, outputs, return_v_seq = arguments
    inputs, states, parameters = _split(tensors, counts)
    this = KERNELS[kernel]
    every, plain = this.checkpoint_every, (kernel, inputs, states, numbers, parameters, outputs)
    if not checkpoints.numel() and len(inputs[0]) > every:  # a raw call that kept none
        checkpoints = this.operator("own_neuron_forward")(*plain, False, every)[-1]
    carried = this.rows - (len(inputs) - 1) - (outputs - 1)
    none = inputs[0].new_empty(0)
    given = [none if g is None else g for g in grads[: outputs + carried]]
    last = grads[outputs + carried] if return_v_seq else None
    given.append(none if last is None else last)
    found = backward_pass(
        kernel.rpartition("-")[0],
        this.operator("own_neuron_backward"),
        *(*plain, checkpoints, every, given),
        why=NO_SECOND,
    )
    return [
        grad if grad.shape == tensor.shape else grad.sum_to_size(tensor.shape)
        for grad, tensor in zip(found, tensors)
    ]


# ---- what PyTorch knows of the operators


def register(namespace: str) -> None:
    """Makes the operators traceable without data, differentiable, and usable under ``torch.vmap``."""
    forward, backward = f"{namespace}::own_neuron_forward", f"{namespace}::own_neuron_backward"
    recurrent = f"{namespace}::own_recurrent_forward", f"{namespace}::own_recurrent_backward"
    operators = getattr(torch.ops, namespace)

    def results(
        x: Tensor, kernel: str, inputs: int, outputs: int, v_seq: bool, every: int
    ) -> list[Tensor]:
        dtype, rows = check.state_dtype(x.dtype), KERNELS[kernel].rows
        carried = rows - (inputs - 1) - (outputs - 1)
        count = torch.sym_max((x.shape[0] + every - 1) // every - 1, 0) if every else 0
        return [
            x.new_empty(x.shape),
            *(x.new_empty(x.shape, dtype=dtype) for _ in range(outputs - 1)),
            *(x.new_empty(x.shape[1:], dtype=dtype) for _ in range(carried)),
            x.new_empty(x.shape if v_seq else (0,), dtype=dtype),
            x.new_empty((count, rows, *x.shape[1:]) if every else (0,), dtype=dtype),
        ]

    def neurons(x: Tensor, count: int) -> list[Tensor]:
        return [x.new_empty(x.shape[1:], dtype=check.state_dtype(x.dtype)) for _ in range(count)]

    @torch.library.register_fake(forward)
    def _(*given: Any) -> Any:
        kernel, inputs, _states, _numbers, _parameters, outputs, v_seq, every = given
        return results(inputs[0], kernel, len(inputs), outputs, v_seq, every)

    @torch.library.register_fake(backward)
    def _(*given: Any) -> Any:
        _kernel, inputs, states, _numbers, parameters, *_ = given
        per_neuron = neurons(inputs[0], len(states) + len(parameters))
        return [*(x.new_empty(x.shape) for x in inputs), *per_neuron]

    @torch.library.register_fake(recurrent[0])
    def _(*given: Any) -> Any:
        kernel, x, _states, _numbers, _parameters, v_seq, *_connections, every = given
        return results(x, kernel, 1, 1, v_seq, every)

    @torch.library.register_fake(recurrent[1])
    def _(*given: Any) -> Any:
        _kernel, x, states, _numbers, parameters, weight, past, delay, *_ = given
        nothing = x.new_empty(0, dtype=check.state_dtype(x.dtype))
        return [
            x.new_empty(x.shape),
            *neurons(x, len(states) + len(parameters)),
            weight.new_empty(weight.shape),
            nothing if past is None else past.new_empty(past.shape),
            nothing if delay is None else neurons(x, 1)[0],
        ]

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
        kernel, xs, states, numbers, parameters, outputs, v_seq, _every = inputs
        ctx.arguments = kernel, (len(xs), len(states), len(parameters)), numbers, outputs, v_seq
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[-1], *xs, *states, *parameters)

    def differentiate(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        checkpoints, *tensors = ctx.saved_tensors
        counts = ctx.arguments[1]
        found = _split(_gradients(ctx.arguments, checkpoints, tensors, grads), counts)
        return None, found[0], found[1], None, found[2], None, None, None

    torch.library.register_autograd(forward, differentiate, setup_context=keep)

    def keep_recurrent(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
        kernel, x, states, numbers, parameters, v_seq, weight, past, delay, _every = inputs
        counts = len(states), len(parameters), past is not None, delay is not None
        ctx.arguments = kernel, counts, numbers, v_seq
        ctx.set_materialize_grads(False)
        more = [t for t in (past, delay) if t is not None]
        ctx.save_for_backward(output[0], output[-1], x, *states, *parameters, weight, *more)

    def differentiate_recurrent(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        found = _RecurrentScan.backward(ctx, *grads[:-1])[4:]
        x, states, parameters, weight, past, delay = _RecurrentScan.lists(ctx.arguments[1], found)
        return None, x, states, None, parameters, None, weight, past, delay, None

    torch.library.register_autograd(
        recurrent[0], differentiate_recurrent, setup_context=keep_recurrent
    )
    for name in (backward, recurrent[1]):
        torch.library.register_autograd(name, no_double_backward("neuron", NO_SECOND))

    def mapped(info: Any, in_dims: Any, *arguments: Any) -> Any:
        """Samples side by side, behind the steps: to a neuron they are more neurons."""
        kernel, inputs, states, numbers, parameters, outputs, v_seq, every = arguments
        size = info.batch_size

        def behind(values: Sequence[Tensor], dims: Any, at: int) -> list[Tensor]:
            dims = [None] * len(values) if dims is None else dims
            return [
                v.unsqueeze(at).expand(*v.shape[:at], size, *v.shape[at:])
                if d is None
                else v.movedim(d, at)
                for v, d in zip(values, dims)
            ]

        xs = behind(inputs, in_dims[1], 1)
        shape = xs[0].shape[1:]

        def run(value: Tensor, dim: int | None) -> Tensor:
            if dim is not None:
                value = value.movedim(dim, 0)
                value = value.reshape(size, *(1,) * (len(shape) - value.dim()), *value.shape[1:])
            return parameter_run(value, shape)

        dims = [None] * len(parameters) if in_dims[4] is None else in_dims[4]
        found = operators.own_neuron_forward(
            *(kernel, xs, behind(states, in_dims[2], 0), numbers),
            *([run(v, d) for v, d in zip(parameters, dims)], outputs, v_seq, every),
        )
        carried = len(found) - outputs - 2
        if not v_seq:
            found[-2] = found[-2].expand(size, 0)
        found[-1] = found[-1].movedim(2, 0) if every else found[-1].expand(size, 0)
        return found, [1] * outputs + [0] * carried + [1 if v_seq else 0, 0]

    torch.library.register_vmap(forward, mapped)
    torch.library.register_vmap(recurrent[0], _one_by_one(operators.own_recurrent_forward))


def _one_by_one(kernel: Any) -> Callable[..., Any]:
    """A recurrent kernel under ``torch.vmap`` by a call a sample, which may have weights of its own."""

    def mapped(info: Any, in_dims: Any, *arguments: Any) -> Any:
        def pick(value: Any, dim: Any, k: int) -> Any:
            if isinstance(value, (list, tuple)):
                return [pick(v, d, k) for v, d in zip(value, dim or [None] * len(value))]
            return value if dim is None else value.select(dim, k)

        found = [
            kernel(*(pick(v, d, k) for v, d in zip(arguments, in_dims)))
            for k in range(info.batch_size)
        ]
        outputs = [torch.stack(column) for column in zip(*found)]
        return outputs, [0] * len(outputs)

    return mapped
