"""Norse's neurons on the ops of this package, with Norse's signatures: ``(spikes, state) = neuron(x, state)``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from snnfast.nn.multi_step import SAMPLE_DIMS
from snnfast.nn.replaced import Replaced
from snnfast.nn.time import Time

# Norse's states, by its names.
from .norse_equations import (
    Izhikevich,
    IzhikevichRecurrent,
    LIFAdEx,
    LIFAdExRecurrent,
    LIFAdExRefrac,
    LIFAdExRefracRecurrent,
    LIFEx,
    LIFExRecurrent,
    LIFRefrac,
    LIFRefracRecurrent,
)
from .norse_neurons import IAF, LI, LIF, LSNN, LIBox, LIFBox, LIFRecurrent, LILinear, LSNNRecurrent, _Neuron
from .port import Library, Memo, refuse

__all__ = ["NORSE"]


class Lift(nn.Module, Replaced):
    """Norse's ``Lift``, without its loop over the steps if the layer returns the same for all steps at once."""

    folds_time = True  # as in Time

    def __init__(self, lifted_module: nn.Module) -> None:
        super().__init__()
        self.lifted_module = lifted_module
        self.is_stateful = isinstance(lifted_module, _Neuron)
        self.fires = self.is_stateful and lifted_module.fires  # type: ignore[assignment]
        if self.is_stateful:
            lifted_module.time_dim = 0  # type: ignore[assignment]

    def forward(self, x: Any) -> Any:
        """Input ``[T, ...]``, or a tuple of that and a state."""
        x, state = x if isinstance(x, tuple) else (x, None)
        layer = self.lifted_module
        if self.is_stateful:
            return layer(x, state)
        dims = SAMPLE_DIMS.get(type(layer))
        if dims is None or x.dim() < dims + 2:
            return torch.stack([layer(step) for step in x])
        return Time(layer)(x)


def _lift(where: str, original: Any, memo: Memo) -> nn.Module:
    inner = original.lifted_module
    make = _NEURONS.get(type(inner).__name__)
    if make is None and original.is_stateful:
        refuse(where, f"it lifts a {type(inner).__name__}, which keeps a state")
    lifted = copy.deepcopy(inner, memo) if make is None else make(where, inner, memo)
    return Lift(lifted)


_NEURONS: dict[str, Callable[[str, Any, Memo], nn.Module]] = {
    "LIFBoxCell": LIFBox,
    "LIBoxCell": LIBox,
    "IAFCell": IAF,
    "IAF": IAF,
    "LIFCell": LIF,
    "LIF": LIF,
    "LICell": LI,
    "LI": LI,
    "LILinearCell": LILinear,
    "LIFRecurrentCell": LIFRecurrent,
    "LIFRecurrent": LIFRecurrent,
    "LSNNCell": LSNN,
    "LSNN": LSNN,
    "LSNNRecurrentCell": LSNNRecurrent,
    "LSNNRecurrent": LSNNRecurrent,
    "IzhikevichCell": Izhikevich,
    "Izhikevich": Izhikevich,
    "IzhikevichRecurrentCell": IzhikevichRecurrent,
    "IzhikevichRecurrent": IzhikevichRecurrent,
    "LIFExCell": LIFEx,
    "LIFEx": LIFEx,
    "LIFExRecurrentCell": LIFExRecurrent,
    "LIFExRecurrent": LIFExRecurrent,
    "LIFAdExCell": LIFAdEx,
    "LIFAdEx": LIFAdEx,
    "LIFAdExRecurrentCell": LIFAdExRecurrent,
    "LIFAdExRecurrent": LIFAdExRecurrent,
    "LIFRefracCell": LIFRefrac,
    "LIFRefracRecurrentCell": LIFRefracRecurrent,
    "LIFRefracRecurrent": LIFRefracRecurrent,
    "LIFAdExRefracCell": LIFAdExRefrac,
    "LIFAdExRefracRecurrentCell": LIFAdExRefracRecurrent,
    "LIFAdExRefracRecurrent": LIFAdExRefracRecurrent,
}
NORSE = Library(
    name="norse",
    neurons=_NEURONS | {"Lift": _lift},
    refused={
        "LIFMCRecurrentCell": "its membranes drive each other by a matrix, in the same step",
        "LIFMCRefracRecurrentCell": "its membranes drive each other by a matrix, in the same step",
        "CobaLIFCell": "its spikes come back as two conductances, and the kernel takes one input",
        "LIFCorrelation": "it returns correlations of spikes for each weight",
    },
    bases=frozenset({"SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"}),
)
