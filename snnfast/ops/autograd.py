"""Autograd helpers shared by the ops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function

from snnfast import check
from snnfast.reference.first_order import WHY, first_order


@cache  # registrations live as long as the library
def _library(namespace: str) -> torch.library.Library:
    return torch.library.Library(namespace, "IMPL")


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


def register_autograd(namespace: str, operator: str, differentiable: Callable[[Callable[..., Any]], Any]) -> None:
    """Register a function of an operator's arguments as its call where one of them requires a gradient.

    ``differentiable`` returns the function from the kernel, which takes the same arguments and has no gradients.
    """
    # torch.library.register_autograd takes 1.4 ms an operator, which was a third of ``import snnfast``.
    overload = getattr(getattr(torch.ops, namespace), operator).default
    is_list = str(overload._schema.returns[0].type) == "List[Tensor]"

    def kernel(*arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return overload(*arguments)

    run = differentiable(kernel)

    def call(*arguments: Any) -> Any:
        if not (torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments)):
            return kernel(*arguments)
        found = run(*arguments)
        return list(found) if is_list else found

    _library(namespace).impl(operator, call, "Autograd")


def register_backward(namespace: str, operator: str, op: str, why: str = WHY) -> None:
    """Register that gradients of a backward operator of ``op`` are refused with the reason ``why``."""
    register_autograd(namespace, operator, lambda kernel: partial(first_order, op, kernel, why=why))


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
