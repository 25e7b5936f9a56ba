"""Conversion of a network that takes one step per call into one that takes all steps: :func:`over_time`."""

from __future__ import annotations

from typing import Any

from torch import nn

from snnfast.nn.state import Stateful, is_memory
from snnfast.nn.time import Time

__all__ = ["over_time"]


class OverTime(nn.Sequential):
    """``nn.Sequential`` of neurons and of layers without time, for sequences ``[T, B, ...]``; with the same keys.

    Consecutive layers without time run together in :class:`snnfast.nn.Time`. SpikingJelly's layers with a memory
    between steps, such as its dropout, take sequences themselves. Batch normalisation may not train here: it would
    take its statistics over all steps.
    """

    folds_time = True  # as in Time

    def forward(self, x: Any) -> Any:
        """Apply every layer to ``[T, B, ...]``."""
        if self.training:
            for name, module in self.named_modules():
                if _trains_by_steps(module):
                    raise RuntimeError(f"{type(self).__name__}: {_why_not(name, module)}")
        waiting: list[nn.Module] = []
        for layer in self:
            if isinstance(layer, (Stateful, OverTime)) or is_memory(layer):
                x = layer(Time(*waiting)(x) if waiting else x)
                waiting = []
            else:
                waiting.append(layer)
        return Time(*waiting)(x) if waiting else x


def _trains_by_steps(module: nn.Module) -> bool:
    """Return whether ``module`` takes batch statistics, which are those of one step."""
    norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return norm and (module.training or module.running_mean is None)


def _takes(neuron: Any) -> str:
    if neuron.time_dim is None:
        return "hands its state on; sequences=True takes it in the loop of a forward"
    return "already takes sequences; leave sequences=True out"


def _path(outer: str, inner: str) -> str:
    return ".".join(filter(None, (outer, inner)))


def _why_not(name: str, module: nn.Module) -> str:
    return (
        f"{name}, a {type(module).__name__}, takes its statistics at every step, which sequences=True does not: call "
        "eval(), or build the network by hand with snnfast.nn.Time, which takes them over all steps"
    )


def over_time(name: str, module: nn.Module) -> nn.Module:
    """Convert ``module`` to sequences: neurons switch, and every ``nn.Sequential`` around them becomes ``OverTime``.

    Raises:
        ValueError: for another container of neurons, for neurons that cannot take sequences, and for batch
            normalisation that trains.
    """
    if isinstance(module, Stateful):
        switch: Any = getattr(module, "over_time", None)
        if switch is None:
            raise ValueError(f"replace: {name or 'net'}, a {type(module).__name__}, {_takes(module)}")
        switch(name or "net")
        return module
    neurons = [(n, inner) for n, inner in module.named_modules() if isinstance(inner, Stateful)]
    if is_memory(module) and not neurons:
        module.step_mode = "m"  # type: ignore[assignment]
        return module
    if not neurons and not any(map(is_memory, module.modules())):
        for key, inner in module.named_modules():
            if _trains_by_steps(inner):
                raise ValueError(f"replace: {_why_not(_path(name, key), inner)}")
        return module
    if type(module) is not nn.Sequential:
        if neurons and not any(hasattr(neuron, "over_time") for _, neuron in neurons):
            key, neuron = neurons[0]
            raise ValueError(f"replace: {_path(name, key)}, a {type(neuron).__name__}, {_takes(neuron)}")
        raise ValueError(
            f"replace: sequences=True takes neurons in nn.Sequential, and {name or 'net'} is a "
            f"{type(module).__name__}, which runs its steps itself"
        )
    _refuse_neurons_in_two_places(name, module)
    result = OverTime()
    for key, child in module._modules.items():  # named_children leaves out a layer's second place
        result.add_module(key, None if child is None else over_time(_path(name, key), child))
    return result.train(module.training)


def _refuse_neurons_in_two_places(name: str, module: nn.Module) -> None:
    """Refuse a neuron that runs twice a step: over a sequence all steps of one place would come before the other's."""
    places: dict[nn.Module, str] = {}
    for key, inner in module.named_modules(remove_duplicate=False):
        if isinstance(inner, Stateful):
            first = places.setdefault(inner, _path(name, key))
            if first != _path(name, key):
                raise ValueError(
                    f"replace: {first} and {_path(name, key)} are one neuron, a {type(inner).__name__}, whose states "
                    "alternate between both places; sequences=True needs two"
                )
