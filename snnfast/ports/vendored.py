"""Neurons of a vendored copy of a library, which may have been changed: :func:`refuse_changed`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from snnfast.nn.state import without_graphs
from snnfast.nn.verify import agree

from .port import refuse

__all__ = ["refuse_changed"]

_STEPS = 6


def refuse_changed(where: str, node: nn.Module, neuron: Any) -> None:
    """Refuse a neuron whose spikes or gradients are not those of its replacement on a random sequence.

    Args:
        where: where it stands, for the error.
        node: the neuron.
        neuron: its replacement.
    """
    original: Any = copy.deepcopy(node, without_graphs(node))
    if hasattr(original, "backend"):
        original.backend = "torch"
    channels = min((parameter.numel() for parameter in node.parameters()), default=3)
    shape = (getattr(node, "T", _STEPS), 2, channels, 2, 2)
    tensor = next(node.parameters(), torch.empty(0))
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(tensor)
    takes_sequences = neuron.time_dim is not None or not neuron.fires
    try:
        agree("replace", original, neuron, [(x,)] if takes_sequences else [(step,) for step in x], neurons=[""])
    except Exception as error:  # a copy may raise anything
        refuse(where, f"it is a copy of the library's, and on a random sequence does something else: {error}")
