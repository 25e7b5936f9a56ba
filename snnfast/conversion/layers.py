"""A converted network as plain layers over ``[T, B, ...]``: :func:`sequential`."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast.nn import IF, Count, Rate, RatePool
from snnfast.nn.joined import PlainLayer, joined
from snnfast.nn.scale import Scale

from .analog import Analog, AnalogNode, Placeholder
from .kinds import HOMOGENEOUS, MAX_POOLS
from .neurons import Neurons
from .plan import Plan
from .shortcuts import absorb
from .trace import max_pool1d, max_pool2d

_SUMS = (operator.add, torch.add, "add")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
# Function -> the equal layer, and the names of its arguments behind the input.
_POOLS: dict[Any, tuple[Any, tuple[str, ...]]] = {
    F.avg_pool1d: (nn.AvgPool1d, _AVERAGE),
    F.avg_pool2d: (nn.AvgPool2d, _AVERAGE),
    F.adaptive_avg_pool1d: (nn.AdaptiveAvgPool1d, ("output_size",)),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    **{f: (nn.MaxPool1d, _MAX) for f in (max_pool1d, torch.max_pool1d)},
    **{f: (nn.MaxPool2d, _MAX) for f in (max_pool2d, torch.max_pool2d)},
}


class _Value(NamedTuple):
    """A signal: the index of its layer, and a factor that is not applied yet, the size of spikes.

    ``flat``: the channels of the factor are groups of features.
    """

    place: int
    factor: Tensor | None = None
    flat: bool = False


def sequential(plan: Plan, network: Analog, neurons: Mapping[str, Neurons]) -> nn.Sequential:
    """Return the layers of a converted network; see :meth:`SpikingNetwork.sequential`.

    Args:
        plan: its execution plan.
        network: the layers and parameters that the plan names.
        neurons: the neurons with their thresholds, by name.
    """
    return _Builder(plan, network, neurons).build()


class _Builder:
    """Layers of a converted network, built along its nodes."""

    def __init__(self, plan: Plan, network: Analog, neurons: Mapping[str, Neurons]) -> None:
        self.plan, self.network, self.neurons = plan, network, neurons
        self.layers: list[PlainLayer] = []
        self.values: dict[str, _Value | None] = {}  # None: a size or a constant
        self.scaled: dict[str, _Value] = {}  # with the factor applied

    def build(self) -> nn.Sequential:
        """Return the network."""
        for node in self.plan.nodes.values():
            self.values[node.name] = self._value(node)
        result = self._signal(self.plan.nodes[self.plan.result], self.plan.result)
        if self.plan.counts_spikes:
            return joined(self.layers, result.place, Count())
        return joined(self.layers, self._scaled(self.plan.result, result).place, Rate())

    def _value(self, node: AnalogNode) -> _Value | None:
        if node.kind in ("static", "size"):
            return None
        if node.kind == "input":
            return _Value(-1)
        if node.kind == "spiking":
            return self._neurons(node)
        if node.op != "call_module" and node.target in _SUMS and not node.kwargs:
            return self._sum(node)
        if not isinstance(node.args[0], Placeholder):
            raise self._refused(node, "it has no layer of its own")
        x = self._signal(node, node.source)
        if node.is_product and node.op == "call_module":
            return self._product(node, x)
        layer = self._layer_of(node)
        if type(layer) is nn.Identity:
            return x
        if isinstance(layer, MAX_POOLS) and node.name not in self.plan.once:
            layer = RatePool(layer)
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
            x = self._scaled(node.source, x)
        return self._add(node.name, layer, x)._replace(factor=x.factor, flat=x.flat or isinstance(layer, nn.Flatten))

    def _signal(self, node: AnalogNode, name: str) -> _Value:
        value = self.values[name]
        if value is None:
            raise self._refused(node, "it reads a constant")
        return value

    def _refused(self, node: AnalogNode, why: str) -> ValueError:
        return ValueError(
            f"sequential: {node.place}: {why}; layers are known for Linear, Conv1d, Conv2d, pooling, Flatten and sums "
            "of two signals: write the model with these before snnfast.convert, or run the SpikingNetwork in Python"
        )

    def _add(self, name: str, module: nn.Module | None, *inputs: _Value) -> _Value:
        self.layers.append(PlainLayer(name, module, tuple(value.place for value in inputs)))
        return _Value(len(self.layers) - 1)

    def _neurons(self, node: AnalogNode) -> _Value:
        neurons = self.neurons[node.name]
        x = self._scaled(node.source, self._signal(node, node.source))
        threshold, init = (t.detach().clone() for t in (neurons.threshold, neurons.threshold * neurons.initial))
        number = threshold.numel() == 1
        layer = IF(
            v_threshold=threshold.item() if number else threshold,
            v_reset=neurons.v_reset,
            v_init=None if not neurons.initial else init.item() if number else init,
        )
        return self._add(node.name, layer, x)._replace(factor=None if self.plan.unit_spikes else threshold)

    def _product(self, node: AnalogNode, x: _Value) -> _Value:
        layer = self.network.get_submodule(node.target)
        if x.factor is not None and isinstance(layer, nn.Linear) and x.factor.dim() > 1 and not x.flat:
            x = self._scaled(node.source, x)  # features of a channel are those of all channels
        layer = copy.deepcopy(layer)
        if x.factor is not None:
            weight: Tensor = layer.weight  # type: ignore[assignment]
            layer.weight = nn.Parameter(absorb(layer, x.factor), weight.requires_grad)
        return self._add(node.name, layer, x)

    def _sum(self, node: AnalogNode) -> _Value:
        names = [a.name for a in node.args if isinstance(a, Placeholder)]
        if len(names) != 2:
            raise self._refused(node, "it adds a constant")
        return self._add(node.name, None, *(self._scaled(n, self._signal(node, n)) for n in names))

    def _scaled(self, name: str, value: _Value) -> _Value:
        """Apply the factor of the signal ``name``, by a layer if no product could."""
        if value.factor is None:
            return value
        if name in self.scaled:
            return self.scaled[name]
        if value.flat and value.factor.numel() > 1:
            raise self._refused(
                self.plan.nodes[name], "a Flatten of spikes with a threshold for each channel, which no product reads"
            )
        self.scaled[name] = self._add(f"{name}_size", Scale(value.factor), value)
        return self.scaled[name]

    def _layer_of(self, node: AnalogNode) -> nn.Module:
        """Return the layer of a node that scales with its input: pooling, Flatten or Identity."""
        if node.op == "call_module":
            layer = self.network.get_submodule(node.target)
            if isinstance(layer, (*HOMOGENEOUS, *MAX_POOLS)):
                return copy.deepcopy(layer)
        elif node.target in _POOLS:
            make, names = _POOLS[node.target]
            arguments = dict(zip(names, node.args[1:])) | node.kwargs
            if not any(isinstance(value, Placeholder) for value in arguments.values()):
                return make(**arguments)  # type: ignore[no-any-return]
        elif node.is_flatten or self._views_samples(node):
            return nn.Flatten()
        raise self._refused(node, "it has no layer of its own")

    def _views_samples(self, node: AnalogNode) -> bool:
        """Return whether a method makes one dimension of all but the batch: ``x.flatten(1)``, ``x.view(len, -1)``."""
        if node.op != "call_method" or node.kwargs:
            return False
        if node.target == "flatten":
            return node.args[1:] in ((1,), (1, -1))
        size, *rest = node.args[1:] or (None,)
        is_size = isinstance(size, Placeholder) and self.plan.nodes[size.name].kind == "size"
        return node.target in ("view", "reshape") and is_size and rest == [-1]
