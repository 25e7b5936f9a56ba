"""Record of an op with kernels, and the one adapter between them and PyTorch: autograd, fakes and vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import Tensor

from snnfast.reference.call import Op, prepare, unflatten

from .autograd import backward_pass, refuse_transforms, register_autograd, register_backward, run_kernel, wants_gradient


@dataclass(eq=False)
class Record:
    """An op without gradients, and its operator of the same name.

    Attributes:
        reference: the op of :mod:`snnfast.reference`, with check and equation.
        shapes: empty results of a call, for tracing without data.
        cpu_only: whether only the CPU has kernels.
        vmap: returns the vmap rule of an operator.
        name: name of the op; of the operator, if there is one for each call type.
        call: type of the calls; by default that which the check returns.
    """

    reference: Op[..., Any]
    shapes: Callable[[Any], Any]
    cpu_only: bool = field(default=False, kw_only=True)
    vmap: Callable[[Any], Callable[..., Any]] | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    call: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.name = self.name or self.reference.__name__
        self.call = prepare(self.call or get_type_hints(self.reference.check)["return"])

    def register(self, namespace: str) -> None:
        """Register the operators in ``namespace`` with PyTorch."""
        if namespace == "snnfast" or not self.cpu_only:
            self._register(namespace)

    def _register(self, namespace: str) -> None:
        operator = f"{namespace}::{self.name}"
        _register_shapes(operator, self.call, self.shapes)
        if self.vmap is not None:
            torch.library.register_vmap(operator, self.vmap(getattr(getattr(torch.ops, namespace), self.name)))


def _register_shapes(operator: str, call: Any, shapes: Callable[[Any], Any]) -> None:
    torch.library.register_fake(operator, lambda *flat: shapes(unflatten(call, flat)))


def _plain_and_results(flat: Sequence[Any], results: Sequence[Tensor], wanted: Sequence[bool] | None) -> list[Any]:
    return [*flat, *results[1:]]


def _by_kernel(
    kernel: Callable[..., Any], saved: list[Any], grads: Sequence[Any], wanted: Sequence[bool]
) -> Sequence[Tensor | None]:
    return kernel(*saved, *grads, *wanted)  # type: ignore[no-any-return]


@dataclass(eq=False)
class GradientRecord(Record):
    """An op with gradients, and its operators ``<name>_forward`` and ``<name>_backward``.

    Attributes:
        tensors: positions of the plain arguments that have gradients.
        backward_call: call type of the backward operator, or None for that of the op.
        backward_shapes: empty results of such a call.
        save: hook that returns the first arguments of the backward operator from the plain arguments, the results, and
            for each tensor whether its gradient may be wanted, None where calls are recorded, and without values. By
            default the plain arguments and all results but the first.
        derivative: hook that returns the gradients of ``tensors`` from the backward operator, its first arguments, the
            gradients of the results, and for each tensor whether its gradient is wanted. By default it calls the
            operator with all these.
        results: number of results that have gradients.
        returned: number of results that :meth:`run` returns at least.
    """

    tensors: Sequence[int] = field(kw_only=True)
    backward_shapes: Callable[[Any], Any] = field(kw_only=True)
    backward_call: Any = field(default=None, kw_only=True)
    save: Callable[[Sequence[Any], Sequence[Tensor], Sequence[bool] | None], list[Any]] = _plain_and_results
    derivative: Callable[..., Sequence[Tensor | None]] = _by_kernel
    results: int = field(default=1, kw_only=True)
    returned: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.forward, self.backward = f"{self.name}_forward", f"{self.name}_backward"
        self.functions: dict[Any, Any] = {}

    def run(self, kernels: Any, flat: list[Any], *, recorded: bool) -> Any:
        """Return the results of the forward operator; ``recorded``: the call is recorded or transformed."""
        tensors = [flat[k] for k in self.tensors]
        refuse_transforms(self.name, tensors)
        if recorded:
            return getattr(kernels, self.forward)(*flat)
        if wants_gradient(tensors):
            return self.functions[kernels](*tensors, flat)
        return run_kernel(getattr(kernels, self.forward), *flat)

    def _register(self, namespace: str) -> None:
        kernels = getattr(torch.ops, namespace)
        forward, backward = getattr(kernels, self.forward), getattr(kernels, self.backward)
        function = partial(_function_of, self, *_autograd_of(self, backward))
        self.functions[kernels] = function(partial(run_kernel, forward), self.returned).apply

        def differentiable(kernel: Callable[..., Any]) -> Callable[..., Any]:
            apply = function(kernel, None).apply
            return lambda *flat: apply(*[flat[k] for k in self.tensors], list(flat))

        register_autograd(namespace, self.forward, differentiable)
        register_backward(namespace, self.backward, self.name)
        forward_name, backward_name = f"{namespace}::{self.forward}", f"{namespace}::{self.backward}"
        _register_shapes(forward_name, self.call, self.shapes)
        _register_shapes(backward_name, self.backward_call or self.call, self.backward_shapes)
        if self.vmap is not None:
            torch.library.register_vmap(forward_name, self.vmap(forward))
            torch.library.register_vmap(backward_name, self.vmap(backward))


def _autograd_of(record: GradientRecord, backward: Any) -> tuple[Callable[..., None], Callable[..., Sequence[Any]]]:
    """Return two functions of a context: one saves the arguments of the backward operator, one returns gradients."""
    arguments = backward.default._schema.arguments
    count = [argument.name.startswith("grad_") for argument in arguments].index(True)
    places = [k for k, argument in enumerate(arguments[:count]) if "Tensor" in str(argument.type)]
    kernel, nothing = partial(backward_pass, record.name, backward), (None,) * len(record.tensors)

    def save(ctx: Any, flat: Sequence[Any], results: Sequence[Tensor], wanted: Sequence[bool] | None) -> None:
        ctx.saved = saved = record.save(flat, results, wanted)
        ctx.save_for_backward(*[saved[k] for k in places])
        for k in places:
            saved[k] = None
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, grads: Sequence[Tensor | None], wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        for grad in grads:
            if grad is not None:
                break
        else:
            return nothing
        saved = ctx.saved.copy()
        for k, tensor in zip(places, ctx.saved_tensors):
            saved[k] = tensor
        found = record.derivative(kernel, saved, grads, wanted)
        return [grad if is_wanted else None for grad, is_wanted in zip(found, wanted)]

    return save, differentiate


def _function_of(
    record: GradientRecord, save: Callable[..., None], differentiate: Any, forward: Any, returned: int | None
) -> Any:
    """Return the autograd function of the tensors, then the list of plain arguments.

    ``forward`` runs the kernel; ``returned``: number of its results that are returned; None: the call is recorded or
    transformed, and all are.
    """
    without_gradient = slice(record.results, returned)

    class Function(torch.autograd.Function):
        # The forward(ctx, ...) form is faster than autograd registered with the kernel, and so are few arguments.
        @staticmethod
        def forward(ctx: Any, *tensors_and_flat: Any) -> Any:
            found = forward(*tensors_and_flat[-1])
            results = (found,) if isinstance(found, Tensor) else found
            save(ctx, tensors_and_flat[-1], results, None if returned is None else ctx.needs_input_grad)
            ctx.mark_non_differentiable(*results[without_gradient])
            return found if isinstance(found, Tensor) else tuple(found[:returned])

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return *differentiate(ctx, grads[: record.results], ctx.needs_input_grad[:-1]), None

    Function.__name__ = record.name
    return Function
