"""One step of a network as a function of its input and its states, for tools that need functions without state."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from snnfast.nn import reset
from snnfast.nn.plain import plain_copy, takes_one
from snnfast.nn.state import Stateful
from snnfast.ports.own import own_layers

from .readout import READOUTS

__all__ = ["Step"]


class Step(nn.Module):
    """One step of ``net``, ``(x, *states) -> (y, *states)``, with all states as tensors of fixed shapes.

    ``torch.export``, ``torch.onnx.export`` and AOTInductor need this: they trace a function, and would treat the state
    of a layer as a constant. ``net`` is copied, in evaluation; pruned and parametrised weights become plain.

    Args:
        net: a network from ``[T, B, ...]`` to ``[T, B, ...]``, without readouts over time.

    Attributes:
        net: the copy.
        names: names of the states, ``layer.state``, in order.

    Raises:
        TypeError: if ``net`` is no module.
        ValueError: if it takes more than its input, or has a readout. :meth:`start` raises it if the output is not
            ``[T, B, ...]``, or if a layer with a state runs twice.

    Example:
        >>> step = snnfast.export.Step(net)
        >>> states = step.start(x[0])
        >>> y, *states = step(x[0], *states)
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        takes_one("Step", net)
        for name, module in net.named_modules():
            if isinstance(module, tuple(READOUTS)):
                raise ValueError(
                    f"Step: {name or 'net'}, a {type(module).__name__}, reads out all steps; leave it out of net, and "
                    "give it the outputs of the steps"
                )
        self.net = own_layers("Step", plain_copy(net)).requires_grad_(False)
        self.eval()
        reset(self.net)
        self.names: list[str] = []
        for name, layer in self.net.named_modules():
            if isinstance(layer, Stateful):
                layer.stateful = True
                self.names += [f"{name}.{state}" for state in layer.states]

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the states before the first step, for inputs like ``x`` ``[B, ...]``."""
        ran: list[nn.Module] = []
        with torch.no_grad(), ExitStack() as hooks:
            for layer in self.net.modules():
                if isinstance(layer, Stateful):
                    hooks.enter_context(layer.register_forward_pre_hook(lambda m, _: ran.append(m)))
            y = self.net(x[None][:0])  # a sequence without steps leaves every layer at rest
        for path, layer in self.net.named_modules():
            if ran.count(layer) > 1:
                raise ValueError(f"Step: {path} runs twice; give each place a layer of its own")
        if not isinstance(y, Tensor) or len(y) != 0:
            raise ValueError(
                "Step: net must return one tensor [T, B, ...]; take what reads out all steps from the outputs of steps"
            )
        states = []
        for owner, name in self._states():
            value: Tensor = getattr(owner, name)
            if name == "past":  # spikes in delays: none yet, in a buffer of the maximal length
                value = value.new_zeros(owner._longest(), *value.shape[1:])
            states.append(value)
        reset(self.net)
        return tuple(states)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Map ``x`` ``[B, ...]`` and the states to the output ``[B, ...]`` and the next states.

        Raises:
            ValueError: for a wrong number of states.
        """
        if len(states) != len(self.names):
            raise ValueError(f"Step: takes x and {len(self.names)} states ({', '.join(self.names)}), got {len(states)}")
        for (layer, name), value in zip(self._states(), states):
            setattr(layer, name, value)
        y = self.net(x[None])[0]
        after = tuple(getattr(layer, name) for layer, name in self._states())
        reset(self.net)
        return y, *after

    def _states(self) -> list[tuple[Any, str]]:
        split = [name.rpartition(".") for name in self.names]
        return [(self.net.get_submodule(layer), state) for layer, _, state in split]
