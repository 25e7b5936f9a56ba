"""How calls of the networks of Diehl and Cook, with currents and with conductances, reach their kernels ``<op>_``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from snnfast import backend
from snnfast.calls.call import flatten, public, unflatten

from .in_place import changed

P = ParamSpec("P")
R = TypeVar("R")


def network(reference: Callable[P, R]) -> Callable[P, R]:
    """The public op of a network, from its reference."""
    check, equation = reference.check, reference.equation  # type: ignore[attr-defined]

    def run(op: str, call: Any) -> Any:
        kernels = backend.library(op, call.w)
        if kernels is None:
            return call.answer(equation(call))
        outputs = getattr(kernels, f"{op}_")(*flatten(call))
        changed(*((tensor, tensor) for tensor in call.changed))
        return call.answer(outputs)

    return public(check, run, "snnfast.ops")


def register(namespace: str, op: str, call: Any) -> None:
    """Makes the kernel of ``op`` in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::{op}_")
    def _(*flat: Any) -> tuple[Tensor, Tensor]:
        given = unflatten(call, flat)
        presentations, neurons = given.x.shape[0], given.w.shape[0]
        shape = (presentations if given.return_spikes else 0, given.steps, neurons)
        return (
            given.w.new_empty((presentations, neurons), dtype=torch.int32),
            given.w.new_empty(shape, dtype=torch.bool),
        )
