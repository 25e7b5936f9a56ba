"""A network whose layers around the neurons run on the kernels of this package, too: :func:`accelerate`."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from .order import hooked, order
from .pooled import Pooled
from .replacing.norse import Lift
from .replacing.sequences import OverTime
from .replacing.wrapped import in_time
from .spike_conv2d import SpikeConv2d, has_events
from .spike_linear import SpikeLinear
from .spiking import Spiking
from .state import without_graphs
from .time import Time

__all__ = ["accelerate"]

# What runs layers without time on all steps at once.
_FOLDING = (Time, OverTime, Lift)


def accelerate(net: nn.Module) -> nn.Module:
    """A copy of a network for training and evaluation that does the same in less time.

    - Every ``nn.Linear`` becomes a :class:`snnfast.nn.SpikeLinear`, and every ``nn.Conv2d`` in
      :class:`snnfast.nn.Time` a :class:`snnfast.nn.SpikeConv2d`, if that has events for it: they leave out the products
      with zeros where that is faster, as behind neurons.
    - Neurons and the pooling right behind them become :class:`snnfast.nn.Pooled`, if nothing else sees their spikes.
    - Layers of SpikingJelly in step mode ``"m"``, and its ``SeqToANNContainer``, run in :class:`snnfast.nn.Time`.
      Images that are the same at every step, ``x.expand(T, *x.shape)`` or copies, are then computed once.

    Spikes and gradients are those of ``net`` but for rounding; a membrane within rounding of its threshold may fire in
    one and not in the other. The keys of the state dict are those of ``net``, so files load either way. States are
    copied without their graphs. A network of another library goes through :func:`snnfast.nn.replace` first, so that its
    neurons are this package's; then it has to take sequences ``[T, B, ...]``.

    Args:
        net: the network; it is not changed. Subclasses of PyTorch's layers stay as they are, and so do neurons and
            poolings that have hooks or are used twice.

    Returns:
        The copy, with parameters of its own: give these to the optimizer.

    Raises:
        TypeError: if ``net`` is not a module.

    Example:
        >>> net = nn.Sequential(Time(nn.Conv2d(1, 8, 3)), LIF(), Time(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)), LIF())
        >>> fast = accelerate(net)
        >>> fast.load_state_dict(net.state_dict())
        <All keys matched successfully>
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"accelerate: net must be a module, got {type(net).__name__}")
    fast = copy.deepcopy(net, without_graphs(net))
    in_time(fast, training=True)
    folded = {
        layer
        for module in fast.modules()
        if isinstance(module, _FOLDING)
        for layer in module.modules()
    }
    for module in fast.modules():
        layer: Any = module
        if type(module) is nn.Conv2d and module in folded and has_events(module):
            layer.__class__, layer.method = SpikeConv2d, "auto"
        elif type(module) is nn.Linear:
            layer.__class__, layer.method = SpikeLinear, "auto"
    _pool(fast)
    return fast


def _pool(net: nn.Module) -> None:
    """Puts poolings to the neurons before them, and identities in their places."""
    before, uses, _ = order(net)
    stays = {
        layer
        for module in net.modules()
        if isinstance(module, Pooled) or (isinstance(module, Time) and not module.fast)
        for layer in module.modules()
    }
    places = {m: name for name, m in net.named_modules()}
    for pool, neuron in before.items():
        if (
            isinstance(neuron, Spiking)
            and neuron.calls_once
            and type(pool) in (nn.MaxPool2d, nn.AvgPool2d)
            and uses[pool] == uses[neuron] == 1
            and not hooked(pool)
            and not hooked(neuron)
            and pool not in stays
        ):
            _put(net, places[neuron], Pooled(neuron, pool))
            _put(net, places[pool], nn.Identity())


def _put(net: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(net.get_submodule(parent), name, module)
