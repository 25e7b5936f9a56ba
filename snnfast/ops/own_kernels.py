"""Dispatch of user-defined neurons to their kernels: autograd, fakes and vmap."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import backend, check

from .autograd import backward_pass, below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient
from .layout import parameter_run

__all__ = ["KERNELS", "Kernel", "load", "neurons", "recurrent", "run"]

NO_SECOND = "the surrogate gradient has none"


class Kernel(NamedTuple):
    """A compiled kernel.

    Attributes:
        name: its name in the operator.
        numbers, tensors: names of its parameters that are numbers or tensors, in order.
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
    (library,) = (path for path in torch.ops.loaded_libraries if "_cuda_emulation" in path)
    every: int = ctypes.CDLL(library).snnfast_load_own_kernel(path.stem.encode(), bytes(path))
    return every


class Call(NamedTuple):
    """A call of a kernel without its tensors: inputs, states, parameters, and connections of recurrent neurons.

    Attributes:
        kernel: of KERNELS.
        counts: numbers of inputs, states and parameters.
        numbers: values of its parameters that are numbers.
        outputs: number of its outputs.
        return_v_seq: whether to return the first state after every step.
        connections: whether recurrent neurons have spikes of earlier steps, and delays; None: not recurrent.
    """

    kernel: Kernel
    counts: tuple[int, int, int]
    numbers: list[float]
    outputs: int
    return_v_seq: bool
    connections: tuple[bool, bool] | None

    def split(self, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        """Return inputs, states, parameters, and for recurrent neurons weight, past spikes and delay."""
        inputs, states, parameters = self.counts
        a, b = inputs + states, inputs + states + parameters
        if self.connections is None:
            return list(tensors[:inputs]), list(tensors[inputs:a]), list(tensors[a:]), []
        rest = iter(tensors[b:])
        more = [next(rest) if present else None for present in (True, *self.connections)]
        return list(tensors[:inputs]), list(tensors[inputs:a]), list(tensors[a:b]), more

    @property
    def operator(self) -> str:
        """The name of its operator, without the suffix of the pass."""
        return "own_neuron" if self.connections is None else "own_recurrent"

    def forward(self, tensors: Sequence[Tensor], v_seq: bool) -> tuple[Any, ...]:
        """The operator of the forward pass and its arguments."""
        inputs, states, parameters, more = self.split(tensors)
        feedforward = self.connections is None
        common = (self.kernel.name, inputs if feedforward else inputs[0], states, self.numbers, parameters)
        last = (self.outputs, v_seq) if feedforward else (v_seq, *more)
        operator = self.kernel.operator(f"{self.operator}_forward")
        return operator, *common, *last, self.kernel.checkpoint_every

    def gradients(
        self, saved: Sequence[Tensor], tensors: Sequence[Tensor], grads: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Gradients of all tensors from those of outputs, states and membranes, with the tensors of :meth:`saved`."""
        *spikes, checkpoints = saved
        inputs, states, parameters, more = self.split(tensors)
        every, x = self.kernel.checkpoint_every, inputs[0]
        if not checkpoints.numel() and len(x) > every:  # a raw call that saved none
            forward, *plain = self.forward(tensors, False)
            checkpoints = forward(*plain)[-1]
        none = x.new_empty(0)
        out_grads = [none if grad is None else grad for grad in grads]
        out_grads[-1] = out_grads[-1] if self.return_v_seq else none
        feedforward = self.connections is None
        common = self.kernel.name, inputs if feedforward else x, states, self.numbers, parameters
        last = (self.outputs,) if feedforward else (*more, *spikes)
        operator = self.kernel.operator(f"{self.operator}_backward")
        arguments = operator, *common, *last, checkpoints, every, out_grads
        found = backward_pass(self.kernel.name.rpartition("-")[0], *arguments, why=NO_SECOND)
        if not feedforward:
            wanted = [True] * sum(self.counts) + [value is not None for value in more]
            found = tuple(compress(found, wanted))
        return [
            grad if grad.shape == tensor.shape else grad.sum_to_size(tensor.shape)
            for grad, tensor in zip(found, tensors)
        ]

    def saved(self, found: Sequence[Tensor]) -> list[Tensor]:
        """Return the results of the forward pass that the backward pass needs."""
        return [found[-1]] if self.connections is None else [found[0], found[-1]]


def neurons(
    kernel: Kernel, inputs: Any, states: Any, numbers: Any, parameters: Any, outputs: int, v_seq: bool, *_: int
) -> tuple[Call, list[Tensor]]:
    """Return the call of neurons, and its tensors, from the arguments of their operator."""
    counts = len(inputs), len(states), len(parameters)
    return Call(kernel, counts, numbers, outputs, v_seq, None), [*inputs, *states, *parameters]


def recurrent(
    kernel: Kernel, x: Tensor, states: Any, numbers: Any, parameters: Any, v_seq: bool,
    weight: Tensor, past: Tensor | None, delay: Tensor | None, *_: int,
) -> tuple[Call, list[Tensor]]:  # fmt: skip
    """Return the call of recurrent neurons, and its tensors, from the arguments of their operator."""
    present = past is not None, delay is not None
    more = (t for t in (weight, past, delay) if t is not None)
    call = Call(kernel, (1, len(states), len(parameters)), numbers, 1, v_seq, present)
    return call, [x, *states, *parameters, *more]


def run(read_arguments: Callable[..., Any], kernel: Kernel, *plain: Any) -> list[Tensor]:
    """Return outputs, states and membranes of :func:`neurons` or :func:`recurrent`, differentiable where needed."""
    call, tensors = read_arguments(kernel, *plain)
    refuse_transforms(kernel.name.rpartition("-")[0], tensors)
    forward = kernel.operator(f"{call.operator}_forward")
    if not wants_gradient(tensors):
        return list(below_autograd(forward, kernel.name, *plain, 0))[:-1]
    if traced():
        return list(forward(kernel.name, *plain, kernel.checkpoint_every))[:-1]
    return list(_Scan.apply(call, *tensors))  # type: ignore[no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Any:
        found = below_autograd(*call.forward(tensors, call.return_v_seq))
        _save(ctx, call, tensors, found)
        return tuple(found[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return None, *_differentiated(ctx, grads)


def _save(ctx: Any, call: Call, tensors: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    saved = call.saved(found)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*saved, *tensors)
    ctx.call, ctx.count = call, len(saved)


def _differentiated(ctx: Any, grads: Sequence[Tensor | None]) -> list[Tensor]:
    saved: Any = ctx.saved_tensors
    gradients: list[Tensor] = ctx.call.gradients(saved[: ctx.count], saved[ctx.count :], grads)
    return gradients


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the operators traceable without data, differentiable, and usable under ``torch.vmap``."""
    forward, backward = f"{namespace}::own_neuron_forward", f"{namespace}::own_neuron_backward"
    recurrent_names = f"{namespace}::own_recurrent_forward", f"{namespace}::own_recurrent_backward"
    operators = getattr(torch.ops, namespace)

    def results(x: Tensor, kernel: str, inputs: int, outputs: int, v_seq: bool, every: int) -> list[Tensor]:
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

    def neuron_shaped(x: Tensor, count: int) -> list[Tensor]:
        return [x.new_empty(x.shape[1:], dtype=check.state_dtype(x.dtype)) for _ in range(count)]

    @torch.library.register_fake(forward)
    def _(*arguments: Any) -> Any:
        kernel, inputs, _states, _numbers, _parameters, outputs, v_seq, every = arguments
        return results(inputs[0], kernel, len(inputs), outputs, v_seq, every)

    @torch.library.register_fake(backward)
    def _(*arguments: Any) -> Any:
        _kernel, inputs, states, _numbers, parameters, *_ = arguments
        per_neuron = neuron_shaped(inputs[0], len(states) + len(parameters))
        return [*(x.new_empty(x.shape) for x in inputs), *per_neuron]

    @torch.library.register_fake(recurrent_names[0])
    def _(*arguments: Any) -> Any:
        kernel, x, _states, _numbers, _parameters, v_seq, *_connections, every = arguments
        return results(x, kernel, 1, 1, v_seq, every)

    @torch.library.register_fake(recurrent_names[1])
    def _(*arguments: Any) -> Any:
        _kernel, x, states, _numbers, parameters, weight, past, delay, *_ = arguments
        nothing = x.new_empty(0, dtype=check.state_dtype(x.dtype))
        return [
            x.new_empty(x.shape),
            *neuron_shaped(x, len(states) + len(parameters)),
            weight.new_empty(weight.shape),
            nothing if past is None else past.new_empty(past.shape),
            nothing if delay is None else neuron_shaped(x, 1)[0],
        ]

    def differentiable(name: str, read_arguments: Callable[..., Any], places: Sequence[Any]) -> None:
        """Register gradients; ``places`` names the group of tensors of each argument, None without a gradient."""

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
            call, tensors = read_arguments(KERNELS[inputs[0]], *inputs[1:])
            _save(ctx, call, tensors, output)

        def differentiate(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
            xs, states, parameters, more = ctx.call.split(_differentiated(ctx, grads[:-1]))
            found = {"xs": xs, "x": xs[0], "states": states, "parameters": parameters}
            found |= zip(("weight", "past", "delay"), more)
            return tuple(found.get(place) for place in places)

        torch.library.register_autograd(name, differentiate, setup_context=setup_context)

    differentiable(forward, neurons, (None, "xs", "states", None, "parameters", *[None] * 3))
    connected = ("weight", "past", "delay")
    per_neuron = (None, "x", "states", None, "parameters", None)
    differentiable(recurrent_names[0], recurrent, (*per_neuron, *connected, None))
    for name in (backward, recurrent_names[1]):
        torch.library.register_autograd(name, no_double_backward("neuron", NO_SECOND))

    def mapped(info: Any, in_dims: Any, *arguments: Any) -> Any:
        """Run samples as more neurons, with the batch as the dimension after the steps."""
        kernel, inputs, states, numbers, parameters, outputs, v_seq, every = arguments
        size = info.batch_size

        def behind(values: Sequence[Tensor], dims: Any, at: int) -> list[Tensor]:
            dims = [None] * len(values) if dims is None else dims
            return [
                v.unsqueeze(at).expand(*v.shape[:at], size, *v.shape[at:]) if d is None else v.movedim(d, at)
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
    torch.library.register_vmap(recurrent_names[0], _one_by_one(operators.own_recurrent_forward))


def _one_by_one(kernel: Any) -> Callable[..., Any]:
    """Vmap rule of a recurrent kernel: one call per sample, each with separate weights."""

    def mapped(info: Any, in_dims: Any, *arguments: Any) -> Any:
        def pick(value: Any, dim: Any, k: int) -> Any:
            if isinstance(value, (list, tuple)):
                return [pick(v, d, k) for v, d in zip(value, dim or [None] * len(value))]
            return value if dim is None else value.select(dim, k)

        found = [kernel(*(pick(v, d, k) for v, d in zip(arguments, in_dims))) for k in range(info.batch_size)]
        outputs = [torch.stack(column) for column in zip(*found)]
        return outputs, [0] * len(outputs)

    return mapped
