"""Dispatch of ops that compute spike times to their kernels ``<op>_forward`` and ``<op>_backward``: autograd and vmap.

The forward kernel returns times and largest potentials, which have gradients, and tensors for the backward kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .autograd import backward_pass, below_autograd, no_double_backward, traced, wants_gradient
from .layout import one_by_one

__all__ = ["SpikeTimes"]


class SpikeTimes(NamedTuple):
    """An op that computes spike times.

    Attributes:
        op: its name.
        tensors: positions of the plain arguments of the forward kernel that have gradients. The backward kernel takes
            the plain arguments, the saved results, two gradients, and for each tensor whether its gradient is wanted.
        saved: indices of the results of the forward kernel that are saved for the backward kernel.
    """

    op: str
    tensors: tuple[int, ...]
    saved: tuple[int, ...]

    def run(self, kernels: Any, flat: list[Any]) -> Sequence[Tensor]:
        """Run the forward kernel on plain arguments."""
        tensors = [flat[k] for k in self.tensors]
        forward = getattr(kernels, f"{self.op}_forward")
        if not wants_gradient(tensors):
            return below_autograd(forward, *flat)
        if traced():
            return forward(*flat)  # type: ignore[no-any-return]
        return _Spikes.apply(self, kernels, flat, *tensors)  # type: ignore[no-any-return, no-untyped-call]

    def save(self, ctx: Any, kernels: Any, flat: Sequence[Any], found: Sequence[Tensor]) -> None:
        """Save the arguments of the backward kernel."""
        ctx.kernels = kernels
        ctx.plain = [None if isinstance(a, Tensor) else a for a in flat]
        ctx.save_for_backward(*(flat[k] for k in self.tensors), *(found[k] for k in self.saved))
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*found[2:])

    def gradients(
        self, ctx: Any, wanted: Sequence[bool], grad_t: Tensor | None, grad_u: Tensor | None
    ) -> list[Tensor | None]:
        """Gradients of the tensors that are ``wanted`` from those of the times and the largest potentials."""
        flat, saved = list(ctx.plain), ctx.saved_tensors
        count = len(self.tensors)
        for k, value in zip(self.tensors, saved):
            flat[k] = value
        outer_grads = [g if g is None else g.contiguous() for g in (grad_t, grad_u)]
        kernel = getattr(ctx.kernels, f"{self.op}_backward")
        grads = backward_pass(self.op, kernel, *flat, *saved[count:], *outer_grads, *wanted)
        return [grad if is_wanted else None for grad, is_wanted in zip(grads, wanted)]

    def register(self, namespace: str, forward_fake: Callable[..., Any], backward_fake: Callable[..., Any]) -> None:
        """Make the kernels in ``namespace`` traceable without data, differentiable, and usable under vmap."""
        kernels = getattr(torch.ops, namespace)
        forward, backward = f"{namespace}::{self.op}_forward", f"{namespace}::{self.op}_backward"
        torch.library.register_fake(forward, forward_fake)
        torch.library.register_fake(backward, backward_fake)

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            self.save(ctx, kernels, inputs, output)

        def differentiate(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
            result: list[Tensor | None] = [None] * len(ctx.plain)
            wanted = [ctx.needs_input_grad[k] for k in self.tensors]
            for k, grad in zip(self.tensors, self.gradients(ctx, wanted, grad_t, grad_u)):
                result[k] = grad
            return tuple(result)

        torch.library.register_autograd(forward, differentiate, setup_context=setup_context)
        torch.library.register_autograd(backward, no_double_backward(self.op))
        for name in (forward, backward):
            # The kernels have no batch dimension of weights or saved tensors.
            kernel = getattr(kernels, name.rpartition(":")[2])
            torch.library.register_vmap(name, one_by_one(_with_contiguous(kernel)))


class _Spikes(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (above), and so are few arguments.
    @staticmethod
    def forward(ctx: Any, op: SpikeTimes, kernels: Any, flat: Sequence[Any], *tensors: Tensor | None) -> Any:
        found = below_autograd(getattr(kernels, f"{op.op}_forward"), *flat)
        op.save(ctx, kernels, flat, found)
        ctx.times = op
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, *_: Any) -> Any:
        wanted = ctx.needs_input_grad[3:]
        return None, None, None, *ctx.times.gradients(ctx, wanted, grad_t, grad_u)


def _with_contiguous(kernel: Any) -> Callable[..., Any]:
    return lambda *flat: kernel(*(a.contiguous() if isinstance(a, Tensor) else a for a in flat))
