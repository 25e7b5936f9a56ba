"""Autograd helpers shared by the ops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function

from snnfast import check
from snnfast.reference.first_order import WHY, first_order, refusal


def refuse_transforms(op: str, arguments: Iterable[Any]) -> None:
    """Raises under forward-mode differentiation, and where ``torch.func`` asks for a gradient."""
    forward_mode = forward_ad._current_level >= 0
    if not (forward_mode or torch._C._are_functorch_transforms_active()):
        return
    for a in arguments:
        if not isinstance(a, Tensor):
            continue
        # A kernel would drop tangents, and the derivative would silently be zero.
        if forward_mode and forward_ad.unpack_dual(a).tangent is not None:
            raise RuntimeError(f"{op}: forward-mode differentiation is not supported")
        if a.requires_grad and torch._C._functorch.is_gradtrackingtensor(a):
            raise RuntimeError(
                f"{op}: torch.func.grad, vjp and jacrev are not supported; use backward() or torch.autograd.grad, "
                "with torch.vmap in the forward pass"
            )


def wants_gradient(arguments: Iterable[Any]) -> bool:
    """Whether autograd will ask for the gradient of an argument."""
    if torch.is_grad_enabled():
        for a in arguments:  # any() takes twice as long
            if isinstance(a, Tensor) and a.requires_grad:
                return True
    return False


def no_double_backward(op: str, why: str = WHY) -> Callable[..., Any]:
    """The derivative of a backward kernel: it raises, and says ``why``."""

    def refuse(ctx: Any, *grads: Tensor | None) -> Any:
        raise refusal(op, why)

    return refuse


def backward_pass(op: str, kernel: Any, *arguments: Any, why: str = WHY) -> tuple[Tensor, ...]:
    """Calls a backward kernel of ``op``; a second derivative (``create_graph=True``) raises, and says ``why``."""
    if traced():  # the kernel says it itself
        return kernel(*arguments)  # type: ignore[no-any-return]
    return first_order(op, below_autograd, kernel, *arguments, why=why)  # type: ignore[no-any-return]


def traced() -> bool:
    """Whether what runs is recorded or transformed, so that the kernel itself, with its gradient, must be seen."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or torch._C._is_tracing()


def has_values(x: Tensor) -> bool:
    """Whether values can be looked at: what runs is neither recorded nor transformed, nor on fakes."""
    return not (check.is_recorded(x.device) or torch._C._is_tracing())


def below_autograd(kernel: Any, *arguments: Any) -> tuple[Tensor, ...]:
    """Calls a kernel without the way through Python's autograd: its gradient is not wanted or taken care of."""
    if traced():
        return kernel(*arguments)  # type: ignore[no-any-return]
    # Nor is autograd told of views that the kernel takes: it would let no one change its result in place.
    with torch._C._AutoDispatchBelowADInplaceOrView():
        if has_torch_function(arguments):
            return kernel.default._op(*arguments)  # type: ignore[no-any-return]
        # Asks no argument once more whether it is of a class that wants to be asked: a fifth of a small call.
        return torch._C._dispatch_call_boxed(kernel.default._handle, *arguments)  # type: ignore[no-any-return]
