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
    """Raise under forward-mode differentiation, and where ``torch.func`` asks for a gradient."""
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
    """Return whether autograd will ask for the gradient of an argument."""
    if torch.is_grad_enabled():
        for a in arguments:  # any() takes twice as long
            if isinstance(a, Tensor) and a.requires_grad:
                return True
    return False


def no_double_backward(op: str, why: str = WHY) -> Callable[..., Any]:
    """Return the derivative of a backward kernel, which raises with the reason ``why``."""

    def refuse(ctx: Any, *grads: Tensor | None) -> Any:
        raise refusal(op, why)

    return refuse


def backward_pass(op: str, kernel: Any, *arguments: Any, why: str = WHY) -> tuple[Tensor, ...]:
    """Call a backward kernel of ``op``; a second derivative (``create_graph=True``) raises with the reason ``why``."""
    if traced():  # the kernel raises itself
        return kernel(*arguments)  # type: ignore[no-any-return]
    return first_order(op, run_kernel, kernel, *arguments, why=why)  # type: ignore[no-any-return]


def traced() -> bool:
    """Return whether calls are recorded or transformed, which then have to see the kernel itself with its gradient."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or torch._C._is_tracing()


def has_values(x: Tensor) -> bool:
    """Return whether values can be read: calls are neither recorded nor transformed, nor on fake tensors."""
    return not (check.is_recorded(x.device) or torch._C._is_tracing())


def below_autograd(kernel: Any, *arguments: Any) -> tuple[Tensor, ...]:
    """Call a kernel below Python's autograd, where no gradient is wanted or the caller computes it."""
    if traced():
        return kernel(*arguments)  # type: ignore[no-any-return]
    return run_kernel(kernel, *arguments)


def run_kernel(kernel: Any, *arguments: Any) -> tuple[Tensor, ...]:
    """Call a kernel as :func:`below_autograd` does, where the call is neither recorded nor transformed."""
    # Also below the tracking of views, with which a result of a kernel that takes views could not be changed in place.
    with torch._C._AutoDispatchBelowADInplaceOrView():
        if has_torch_function(arguments):
            return kernel.default._op(*arguments)  # type: ignore[no-any-return]
        # This skips a second look for tensor subclasses, a fifth of a small call.
        return torch._C._dispatch_call_boxed(kernel.default._handle, *arguments)  # type: ignore[no-any-return]
