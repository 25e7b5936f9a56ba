"""Faster kernels for the layers around the neurons of a network: :func:`accelerate`."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from itertools import pairwise
from typing import Any

from torch import nn

from snnfast import check

from .graph import LayerGraph
from .hooks import hooked, refuse_own_forward
from .multi_step import in_time
from .pooled import Pooled, PooledSequential, pools
from .replaced import Replaced
from .spike_conv2d import SpikeConv2d, has_events
from .spike_linear import SpikeLinear
from .spiking import Spiking
from .state import Stateful, without_graphs
from .time import Time

__all__ = ["accelerate"]


def accelerate(net: nn.Module) -> nn.Module:
    """A faster copy of a network, for training and evaluation, with the same results but for rounding.

    - Every ``nn.Linear`` becomes a :class:`snnfast.nn.SpikeLinear`, and every ``nn.Conv2d`` in
      :class:`snnfast.nn.Time` a :class:`snnfast.nn.SpikeConv2d`, if that supports events for it: they skip products
      with zeros if that is faster, as after neurons.
    - Neurons and a pooling directly after them run in one pass, as in :class:`snnfast.nn.Pooled`: in ``nn.Sequential``,
      and elsewhere if :mod:`torch.fx` shows that ``forward`` uses their spikes for nothing else.
    - Layers of SpikingJelly in step mode ``"m"``, and its ``SeqToANNContainer``, run in :class:`snnfast.nn.Time`.
      Images that are the same at every step, ``x.expand(T, *x.shape)`` or copies, are then computed once; the result of
      the first layers is then one step in memory, so ``forward`` must not write into it.
    - ``inplace=True`` of activations is switched off, since their input may be saved for the backward pass.

    A network whose neurons take one step per call, such as one that :func:`snnfast.nn.replace` leaves in a loop, is
    copied unchanged: a single step is too little work to gain by. If these neurons are another library's, a warning
    says so, since ``replace`` was not called before. A membrane within rounding of its threshold may fire in only one
    of the two networks. The keys of the state dict are those of ``net``, so files load either way. States are copied
    without their graphs. Call :func:`snnfast.nn.replace` first for a network of another library, so that its neurons
    are this package's; it must then take sequences ``[T, B, ...]``.

    Args:
        net: the network; it is not changed. Subclasses of PyTorch's layers stay as they are, and so do neurons and
            poolings that have hooks or are used twice.

    Returns:
        The copy, with its own parameters: give these to the optimizer.

    Raises:
        TypeError: if ``net`` is not a module.
        ValueError: for a layer whose ``forward`` was set on the instance, by name.

    Example:
        >>> net = nn.Sequential(Time(nn.Conv2d(1, 8, 3)), LIF(), Time(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)), LIF())
        >>> fast = accelerate(net)
        >>> fast.load_state_dict(net.state_dict())
        <All keys matched successfully>
    """
    check.module("accelerate", "net", net)
    refuse_own_forward("accelerate", net)
    fast = copy.deepcopy(net, without_graphs(net))
    for name, module in fast.named_modules():
        if isinstance(module, Replaced) and module.time_dim is None:
            return fast
        if library := _stepwise_library(module):
            warnings.warn(
                f"accelerate: {name or 'net'}, a {type(module).__name__} of {library}, takes a step a call, too little "
                "work to gain by, so the network stays as it is; call snnfast.nn.replace first",
                stacklevel=2,
            )
            return fast
    in_time(fast, training=True)
    folded = {layer for module in fast.modules() if getattr(module, "folds_time", False) for layer in module.modules()}
    inside = {layer for m in fast.modules() if isinstance(m, Stateful) for layer in m.modules()}
    for module in fast.modules():
        layer: Any = module
        if module in inside:  # a matrix of recurrent connections
            continue
        if type(module) is nn.Conv2d and module in folded and has_events(module):
            layer.__class__, layer.method = SpikeConv2d, "auto"
        elif type(module) is nn.Linear:
            layer.__class__, layer.method = SpikeLinear, "auto"
        elif getattr(module, "inplace", False) is True:
            layer.inplace = False
    _pool(fast)
    return fast


def _stepwise_library(module: nn.Module) -> str:
    """Return the library of a neuron that takes one step per call; empty for other layers."""
    kind = type(module)
    library = kind.__module__.partition(".")[0]
    steps = {
        "snntorch": "_neurons" in kind.__module__,
        "norse": kind.__name__.endswith("Cell"),
        "spikingjelly": getattr(module, "step_mode", "m") == "s" and hasattr(module, "reset"),
    }
    return library if steps.get(library) else ""


def _pool(net: nn.Module) -> None:
    """Let neurons pool their spikes, in place of the poolings behind them."""
    for module in net.modules():
        # The layers do not change, in case a forward calls them one by one.
        if type(module) is nn.Sequential and any(pools(*pair) for pair in pairwise(module)):
            module.__class__ = PooledSequential
    inside = {pair for m in net.modules() if type(m) is PooledSequential for pair in pairwise(m)}
    graph = LayerGraph.trace(net)
    if graph.notes:
        return  # without a trace, nothing is known about forward
    stays = {
        layer
        for module in net.modules()
        if isinstance(module, Pooled) or (isinstance(module, Time) and not module.fast)
        for layer in module.modules()
    }
    places: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in net.named_modules(remove_duplicate=False):
        places[module].append(name)
    for node in graph.graph.nodes:
        source = graph.before(node)
        pool, neuron = graph.layer(node), graph.layer(source) if source else None
        if (
            isinstance(neuron, Spiking)
            and neuron.calls_once
            and type(pool) in (nn.MaxPool2d, nn.AvgPool2d)
            and graph.uses[pool] == graph.uses[neuron] == len(places[pool]) == len(places[neuron]) == 1
            and not hooked(pool)
            and not hooked(neuron)
            and pool not in stays
        ):
            (place,), (behind,) = places[neuron], places[pool]
            above = net.get_submodule(behind)  # a MultiStep has the name of its layer
            if above is pool:
                above = net.get_submodule(behind.rpartition(".")[0])
            if (neuron, above) in inside and above.layer is pool:
                continue
            _put(net, place, Pooled(neuron, pool))
            _put(net, behind, nn.Identity())


def _put(net: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(net.get_submodule(parent), name, module)
