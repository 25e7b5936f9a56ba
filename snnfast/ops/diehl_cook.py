"""How calls of the networks of Diehl and Cook, with currents and with conductances, reach their kernels ``<op>_``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from snnfast import backend
from snnfast.calls.call import public, unflatten
from snnfast.calls.diehl_cook import DiehlCookCall
from snnfast.calls.diehl_cook_conductance import DiehlCookConductanceCall

from .changed import call_changing

P = ParamSpec("P")
R = TypeVar("R")
NetworkCall = DiehlCookCall | DiehlCookConductanceCall


def network(reference: Callable[P, R], answer: Callable[[Any, tuple[Tensor, Tensor]], R]) -> Callable[P, R]:
    """The public op of a network, from its reference; ``answer`` makes what it returns of counts and spikes."""

    def run(op: str, call: NetworkCall) -> R:
        kernels = backend.library(op, call.w)
        if kernels is None:
            return answer(call, reference.equation(call))  # type: ignore[attr-defined]
        return answer(call, call_changing(getattr(kernels, f"{op}_"), call, *call.changed))

    return public(reference.check, run, "snnfast.ops")  # type: ignore[attr-defined]


def register(namespace: str, op: str, call: type[NetworkCall]) -> None:
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
