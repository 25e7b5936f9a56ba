"""Faster kernels for the layers around the neurons of a network: :func:`accelerate`."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

from snnfast import check

from .folded import fold
from .hooks import refuse_own_forward
from .keep_format import keep_format
from .library import library_of
from .multi_step import in_time
from .replaced import Replaced
from .spike_conv2d import SpikeConv2d, has_events
from .spike_linear import SpikeLinear
from .state import Stateful, without_graphs
from .steps_seen import watch_steps
from .verify import Verify, agree, calls_of

__all__ = ["accelerate"]


def accelerate(net: nn.Module, x: Any = None, *, verify: Verify = None) -> nn.Module:
    """A faster copy of a network, for training and evaluation, with the same results but for rounding.

    - Every ``nn.Linear`` becomes a :class:`snnfast.nn.SpikeLinear`, and every ``nn.Conv2d`` a
      :class:`snnfast.nn.SpikeConv2d`, if that supports events for it: they skip products with zeros if that is faster,
      as after neurons. So does ``nn.Conv1d`` of kernel 1.
    - Outside of :class:`snnfast.nn.Time`, as behind ``x.flatten(0, 1)``, ``nn.BatchNorm1d``, ``nn.BatchNorm2d``,
      ``nn.MaxPool2d`` and ``nn.AvgPool2d`` run its kernels. Their results have the memory format of their input.
    - With ``x`` a recording pass over this batch counts what ``contiguous()`` copies in ``forward``. If it pays, images
      stay channels-last without these copies, and ``view`` becomes ``reshape``.
    - Layers of SpikingJelly in step mode ``"m"``, and its ``SeqToANNContainer``, run in :class:`snnfast.nn.Time`.
      Images that are the same at every step, ``x.expand(T, *x.shape)`` or copies, are then computed once; the result of
      the first layers is then one step in memory, so ``forward`` must not write into it.
    - ``inplace=True`` of activations is switched off, since their input may be saved for the backward pass.

    A neuron that takes another number of steps than the first one warns: it may take samples for steps.

    A network whose neurons take one step per call, such as one that :func:`snnfast.nn.replace` leaves in a loop, is
    copied unchanged: a single step is too little work to gain by. If these neurons are another library's, a warning
    says so, since ``replace`` was not called before. A membrane within rounding of its threshold may fire in only one
    of the two networks. The keys of the state dict are those of ``net``, so files load either way. States are copied
    without their graphs. Call :func:`snnfast.nn.replace` first for a network of another library, so that its neurons
    are this package's; it must then take sequences ``[T, B, ...]``.

    Args:
        net: the network; it is not changed. Subclasses of PyTorch's layers stay as they are.
        x: an input of ``net``, or a tuple with the arguments of a call, for the recording pass.
        verify: an input of ``net``, a list of inputs of consecutive calls, or of tuples with the arguments of a call:
            runs copies of both networks on them, and compares results and gradients, as
            :func:`snnfast.nn.replace` does.

    Returns:
        The copy, with its own parameters: give these to the optimizer.

    Raises:
        TypeError: if ``net`` is not a module, or ``x`` not a tensor.
        ValueError: for a layer whose ``forward`` was set on the instance, by name; and with ``verify`` if the networks
            differ, with the first layer.

    Example:
        >>> net = nn.Sequential(Time(nn.Conv2d(1, 8, 3)), LIF(), Time(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)), LIF())
        >>> fast = accelerate(net)
        >>> fast.load_state_dict(net.state_dict())
        <All keys matched successfully>
    """
    check.module("accelerate", "net", net)
    refuse_own_forward("accelerate", net)
    inputs = calls_of("accelerate", verify)
    batch = [] if x is None else calls_of("accelerate", [x], "x")
    for name, module in net.named_modules():
        if isinstance(module, Replaced) and module.time_dim is None:
            return copy.deepcopy(net, without_graphs(net))
        if library := _stepwise_library(module):
            warnings.warn(
                f"accelerate: {name or 'net'}, a {type(module).__name__} of {library}, takes a step a call, too little "
                "work to gain by, so the network stays as it is; call snnfast.nn.replace first",
                stacklevel=2,
            )
            return copy.deepcopy(net, without_graphs(net))
    fast = in_time(net, training=True)
    folded = {layer for module in fast.modules() if getattr(module, "folds_time", False) for layer in module.modules()}
    inside = {layer for m in fast.modules() if isinstance(m, Stateful) for layer in m.modules()}
    for module in fast.modules():
        layer: Any = module
        if module in inside:  # a matrix of recurrent connections
            continue
        if module not in folded:
            fold(module)
        if type(module) is nn.Conv2d and module in folded and has_events(module):
            layer.__class__, layer.method = SpikeConv2d, "auto"
        elif type(module) is nn.Linear:
            layer.__class__, layer.method = SpikeLinear, "auto"
        elif getattr(module, "inplace", False) is True and not isinstance(module, torch.jit.ScriptModule):
            layer.inplace = False
    watch_steps(fast)
    for arguments in batch:
        keep_format(fast, copy.deepcopy(fast, without_graphs(fast)), arguments)
    if inputs:
        agree("accelerate", net, fast, inputs)
    return fast


def _stepwise_library(module: nn.Module) -> str:
    """Return the library of a neuron that takes one step per call; empty for other layers."""
    kind = type(module)
    library = library_of(kind)
    steps = {
        "snntorch": "_neurons" in kind.__module__,
        "norse": kind.__name__.endswith("Cell"),
        "spikingjelly": getattr(module, "step_mode", "m") == "s" and hasattr(module, "reset"),
    }
    return library if steps.get(library) else ""
