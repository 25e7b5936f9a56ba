"""Training of long sequences in little memory: :class:`Recomputed`."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from snnfast import check
from snnfast.ops.autograd import traced

from .psn import PSN, SlidingPSN
from .readout import Count, FirstSpike, Last, Max, Rate
from .state import Stateful, is_memory

__all__ = ["Recomputed"]

_WHOLE = (Count, FirstSpike, Last, Max, Rate, PSN, SlidingPSN)


class Recomputed(nn.Sequential):
    """``nn.Sequential`` that computes its forward pass again in the backward pass, some steps at a time.

    The layers take a part of the sequence, at most ``every`` steps, then the next one; the parts are equally long. Of
    the forward pass only the states before each part are kept, and all of the last part; the backward pass goes through
    the parts from the last to the first, and runs the others once more. A state of four bytes then takes ``4 / every``
    bytes a neuron and step, and spikes and currents of hidden layers exist for ``every`` steps alone. It is gradient
    checkpointing (Chen et al., Training deep nets with sublinear memory cost, 2016) over time, by
    ``torch.utils.checkpoint``, with the states handed on.

    Spikes, states and gradients are those of ``nn.Sequential``, but for rounding where a layer sums over steps (the
    gradients of weights) or chooses by the sequence how it computes (``SpikeLinear`` with ``method="auto"``), and for
    the masks of dropout, which are drawn in another order. Gradients flow through all steps. Parts are computed in
    evaluation, too. Forward hooks run twice in training, but for the last part. Under ``torch.compile``,
    ``torch.export``, ``torch.jit.trace`` and ``torch.vmap`` it is ``nn.Sequential``. The keys of its state dict are
    those of ``nn.Sequential``.

    Args:
        layers: as those of ``nn.Sequential``: neurons and other layers with state of this package, and layers that
            treat every step alone, such as those in :class:`snnfast.nn.Time`. Each neuron may run once.
        every: steps of a part, at most. More take more memory while they run; fewer keep more states and take more
            time, as each part calls every layer: small batches want longer parts, such as 512 steps.

    Raises:
        TypeError, ValueError: for an ``every`` that is no whole number of at least 1; by ``forward`` for layers that
            need all steps at once: readouts, ``PSN``, batch normalisation by the statistics of the batch; for a layer
            with state that runs twice; and for neurons of other libraries that keep a state.

    Example:
        >>> net = nn.Sequential(
        ...     Recomputed(Time(SpikeLinear(700, 512)), LIF(), Time(SpikeLinear(512, 20)), LI()), Max()
        ... )
        >>> net(torch.rand(5000, 64, 700) < 0.02)  # [T, B, 700] -> [64, 20]
    """

    def __init__(self, *layers: nn.Module, every: int = 128) -> None:
        self.every = check.whole("Recomputed", "every", every)
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Any:
        """``x`` ``[T, B, ...]`` through every layer."""
        check.tensor("Recomputed", "x", x)
        if x.dim() == 0:
            raise ValueError("Recomputed: x must have shape [T, B, ...], got []")
        if traced():
            return super().forward(x)  # type: ignore[no-untyped-call]
        layers = self._layers_with_state()
        states = [getattr(m, name) if m.stateful else None for m in layers for name in m.states]
        outputs, parts = [], x.tensor_split(max(1, ceil(len(x) / self.every)))
        for k, part in enumerate(parts, 1):
            # The backward pass begins with the last part.
            if k < len(parts) and torch.is_grad_enabled():
                y, *states = checkpoint(self._part, part, *states, use_reentrant=False)
            else:
                y, *states = self._part(part, *states)
            outputs.append(y)
        values = iter(states)
        for layer in layers:
            layer._store_states(*(next(values) for _ in layer.states))
        if isinstance(outputs[0], tuple):
            return tuple(map(torch.cat, zip(*outputs)))
        return torch.cat(outputs)

    def _part(self, x: Tensor, *states: Tensor | None) -> tuple[Any, ...]:
        """The output for some steps, and the states after them, from those before them."""
        layers = self._layers_with_state()
        places = [(layer, name) for layer in layers for name in layer.states]
        before = [getattr(*place) for place in places]
        stateful = [layer.stateful for layer in layers]
        ran: list[Stateful] = []
        try:
            for layer in layers:
                layer.stateful = True
                layer._store_states = partial(_store_once, layer, ran)
            for place, state in zip(places, states):
                setattr(*place, state)
            y: Any = super().forward(x)  # type: ignore[no-untyped-call]
            return y, *(getattr(*place) for place in places)
        finally:
            for layer, value in zip(layers, stateful):
                del layer._store_states
                layer.stateful = value
            for place, state in zip(places, before):
                setattr(*place, state)

    def _layers_with_state(self) -> list[Any]:
        """Those whose states go from part to part; refuses layers that cannot run in parts."""
        for name, layer in self.named_modules():
            kind = type(layer).__name__
            if isinstance(layer, _WHOLE):
                raise ValueError(f"Recomputed: layer {name}, a {kind}, needs all steps at once; put it outside")
            if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
                raise ValueError(
                    f"Recomputed: layer {name}, a {kind}, normalises by the statistics of all steps; put it outside, "
                    "use nn.LayerNorm, or call eval() on it"
                )
            if is_memory(layer):
                raise TypeError(
                    f"Recomputed: layer {name}, a {kind} of SpikingJelly, keeps a state that is not handed on; call "
                    "snnfast.nn.replace first"
                )
        return [layer for layer in self.modules() if isinstance(layer, Stateful)]

    def extra_repr(self) -> str:
        """Return the steps of a part."""
        return f"every={self.every}"


def _store_once(layer: Any, ran: list[Stateful], *states: Tensor | None) -> None:
    """``layer._store_states``, for a layer that has one state a part."""
    if layer in ran:
        raise ValueError(
            f"Recomputed: a {type(layer).__name__} runs twice, but has one state to hand on; give each place a layer "
            "of its own"
        )
    ran.append(layer)
    type(layer)._store_states(layer, *states)
