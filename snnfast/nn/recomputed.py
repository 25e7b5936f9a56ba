"""Gradient checkpointing over time: :class:`Recomputed`."""

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

_NEED_ALL_STEPS = (Count, FirstSpike, Last, Max, Rate, PSN, SlidingPSN)


class Recomputed(nn.Sequential):
    """``nn.Sequential`` that recomputes its forward pass during the backward pass, some steps at a time.

    The sequence is split into equal parts of at most ``every`` steps, which run through the layers one after the other.
    The forward pass saves the states before each part, and everything for the last part only; the backward pass goes
    from the last part to the first, and runs every other part again. A state of four bytes then takes ``4 / every``
    bytes a neuron and step, and spikes and currents of hidden layers exist for ``every`` steps only. This is gradient
    checkpointing (Chen et al., Training deep nets with sublinear memory cost, 2016) over time, by
    ``torch.utils.checkpoint``, with states passed from part to part.

    Spikes, states and gradients equal those of ``nn.Sequential``, except for rounding where a layer sums over steps
    (the gradients of weights) or chooses its method by the sequence (``SpikeLinear`` with ``method="auto"``), and for
    dropout masks, which are drawn in another order. Gradients flow through all steps. Evaluation runs in parts, too. In
    training, forward hooks run twice for every part but the last. Under ``torch.compile``, ``torch.export``,
    ``torch.jit.trace`` and ``torch.vmap`` the layer behaves as ``nn.Sequential``. The keys of its state dict are those
    of ``nn.Sequential``.

    Args:
        layers: as those of ``nn.Sequential``: neurons and other layers with state of this package, and layers that
            process every step alone, such as those in :class:`snnfast.nn.Time`. Each neuron may run once.
        every: maximum number of steps of a part. Longer parts take more memory while they run; shorter ones save more
            states and take more time, as each part calls every layer. Use longer parts, such as 512 steps, for small
            batches.

    Raises:
        TypeError, ValueError: if ``every`` is no whole number of at least 1; by ``forward`` for layers that need all
            steps at once (readouts, ``PSN``, batch normalisation by the statistics of the batch), for a layer with
            state that runs twice, and for neurons of other libraries that keep a state.

    Example:
        >>> net = nn.Sequential(
        ...     Recomputed(Time(SpikeLinear(700, 512)), LIF(), Time(SpikeLinear(512, 20)), LI()), Max()
        ... )
        >>> net(torch.rand(5000, 64, 700) < 0.02)  # [T, B, 700] -> [64, 20]
    """

    def __init__(self, *layers: nn.Module, every: int = 128) -> None:
        self.every = check.integer("Recomputed", "every", every)
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Any:
        """Run ``x`` ``[T, B, ...]`` through all layers."""
        check.tensor("Recomputed", "x", x)
        if x.dim() == 0:
            raise ValueError("Recomputed: x must have shape [T, B, ...], got []")
        if traced():
            return super().forward(x)  # type: ignore[no-untyped-call]
        layers = self._layers_with_state()
        places = [(m, name, getattr(m, name) if m.stateful else None) for m in layers for name in m.states]
        states = [None if value is None else m._carried(name, value) for m, name, value in places]
        outputs, parts = [], x.tensor_split(max(1, ceil(len(x) / self.every)))
        for k, part in enumerate(parts, 1):
            # The backward pass begins with the last part, which is therefore not recomputed.
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
        """Run one part from ``states``; return its output and the states after it."""
        layers = self._layers_with_state()
        places = [(layer, name) for layer in layers for name in layer.states]
        before = [getattr(*place) for place in places]
        stateful = [layer.stateful for layer in layers]
        ran: list[Stateful] = []
        try:
            for layer in layers:
                layer.stateful = True
                layer._store_states = partial(_store_once, layer, ran)
                # To look whether the graph of a state is freed would run its part again.
                layer._carried = _passed
                layer._runs_again = _never
            for place, state in zip(places, states):
                setattr(*place, state)
            y: Any = super().forward(x)  # type: ignore[no-untyped-call]
            return y, *(getattr(*place) for place in places)
        finally:
            for layer, value in zip(layers, stateful):
                for name in ("_store_states", "_carried", "_runs_again"):
                    vars(layer).pop(name, None)  # a Recomputed inside has done so already
                layer.stateful = value
            for place, state in zip(places, before):
                setattr(*place, state)

    def _layers_with_state(self) -> list[Any]:
        """Return the layers with state; raise for layers that cannot run in parts."""
        for name, layer in self.named_modules():
            kind = type(layer).__name__
            if isinstance(layer, _NEED_ALL_STEPS):
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
        """Return the maximum number of steps of a part."""
        return f"every={self.every}"


def _passed(name: str, value: Tensor) -> Tensor:
    return value


def _never() -> bool:
    return False


def _store_once(layer: Any, ran: list[Stateful], *states: Tensor | None) -> None:
    """Call ``layer._store_states``; raise if the layer ran before in this part."""
    if layer in ran:
        raise ValueError(
            f"Recomputed: a {type(layer).__name__} runs twice, but has one state to hand on; give each place a layer "
            "of its own"
        )
    ran.append(layer)
    type(layer)._store_states(layer, *states)
