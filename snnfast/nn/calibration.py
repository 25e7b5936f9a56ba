"""Firing rates at the start of training: :func:`calibrate_` sets gain and bias of every spiking layer from a batch."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from snnfast import check
from snnfast.nn.replaced import Replaced

from .recomputed import Recomputed
from .recurrent import Recurrent
from .sequential import Sequential
from .sparse_linear import SparseLinear
from .spikeprop import SpikeProp, calibrate
from .spiking import Spiking
from .state import Stateful
from .time import refuse_without_time

__all__ = ["calibrate_", "firing_layers", "rates"]

# Layers whose output is proportional to weight and bias together.
_AFFINE = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, SparseLinear)
_LOG_GAINS = (math.log(1e-5), math.log(1e5))
_BISECTIONS = 30
# With shortcut connections a gain changes only a part of the input, so the rates need several passes.
_PASSES = 8


@overload
def calibrate_(net: SpikeProp, x: Tensor, *, mean_time: float) -> Tensor: ...
@overload
def calibrate_(net: nn.Module, x: Tensor, rate: float = 0.1) -> dict[str, float]: ...
@check.keywords
def calibrate_(net: nn.Module, x: Tensor, rate: float = 0.1, *, mean_time: float | None = None) -> Any:
    """Set the weights before every spiking layer so that the layer fires at ``rate`` for the batch ``x``.

    Neurons that never fire, or fire at every step, have little or no gradient. The scale of their input decides whether
    they do: PyTorch draws weights for neurons without a threshold, and ``LIF(tau=10)`` scales its input by 0.1.

    ``net(x)`` runs once, in training mode. At each spiking layer the input of every neuron (for images: channel) gets
    mean 0 and variance 1 over the batch and the steps, as batch normalisation would give it, times a factor for the
    layer with which its neurons fire at ``rate`` on average; bisection finds it. The layers behind see these spikes.
    The change goes to ``weight`` and ``bias`` of the ``nn.Linear`` or convolution before (data-dependent
    initialisation: Salimans and Kingma 2016; Mishkin and Matas 2016). A normalisation, a layer without bias, and
    several layers whose outputs are added get only the factor, as does a :class:`snnfast.nn.SparseLinear`. A spiking
    layer without such a layer before it does not change. Where some of the inputs that are added have no weights (a
    shortcut of spikes), ``net(x)`` runs up to 8 times.

    Weights before neurons with ``decay_input`` become ``tau`` times as large as without, and an optimizer such as Adam,
    whose steps do not depend on the scale of the weights, then needs a larger learning rate.

    Running statistics of batch normalisation, modes, kept states and the state of random numbers are restored.

    For a :class:`snnfast.nn.SpikeProp`, whose neurons fire once, give ``mean_time``: its weights are scaled so that
    every neuron fires at that time on average; :func:`snnfast.nn.calibrate` documents this.

    Args:
        net: the network; weights are changed in place.
        x: an input of ``net``; a batch of a training is enough.
        rate: spikes per neuron and step, between 0 and 1.
        mean_time: for ``SpikeProp``, in milliseconds.

    Returns:
        the rate of every spiking layer, by its name in ``net``. A warning names layers that no gain brings to ``rate``.

    Example:
        >>> net = nn.Sequential(Time(nn.Linear(784, 256)), LIF(tau=10.0), Time(nn.Linear(256, 10)), LIF(tau=10.0))
        >>> snnfast.nn.calibrate_(net, x)
        {'1': 0.1, '3': 0.1}

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, a network without spiking layers, one that
            ``torch.compile`` made, one that calls a spiking layer several times (a loop over steps), and one with a
            convolution or normalisation next to neurons outside of ``Time``.
    """
    check.module("calibrate_", "net", net)
    if isinstance(net, SpikeProp):
        if mean_time is None:
            raise TypeError("calibrate_: SpikeProp fires at times, not at rates: give mean_time= in milliseconds")
        return calibrate(net, x, mean_time)
    if mean_time is not None:
        raise TypeError(f"calibrate_: mean_time is for SpikeProp, got {type(net).__name__}")
    target = check.number("calibrate_", "rate", rate)
    if not 0 < target < 1:
        raise ValueError(f"calibrate_: rate must lie between 0 and 1 spikes a neuron and step, got {target:g}")
    check.tensor("calibrate_", "x", x)
    found: dict[str, float] = {}
    for _ in range(_PASSES):
        run = _Pass(net, target)
        with _restored(net, x.device), run.hooks():
            net(x)
        run.scale()
        found = run.rates
        if not run.again:
            break
    for name in run.unreachable:
        check.warn(
            f"calibrate_: {name}, {net.get_submodule(name)}, fires at {found[name]:.3g} of the steps, and at "
            f"{target:g} with no scale of its input; change its v_threshold or bias"
        )
    return found


def rates(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Return spikes per neuron and step of every spiking layer of ``net`` for ``x``; ``net`` does not change."""
    run = _Pass(net, None)
    with _restored(net, x.device), run.hooks():
        net(x)
    return run.rates


def firing_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Return the spiking layers of ``net`` by name; of a wrapper such as :class:`Recurrent`, the wrapper alone."""
    found: dict[str, nn.Module] = {}
    inner: set[nn.Module] = set()
    for name, module in net.named_modules():
        if module in inner or not isinstance(module, Stateful) or module.surrogate is None:
            continue
        found[name] = module
        inner.update(m for m in module.modules() if m is not module)
    return found


def look_for_time(function: str, net: nn.Module) -> None:
    """Refuse layers outside of ``Time`` that stand next to neurons in an ``nn.Sequential``."""
    for path, module in net.named_modules():
        if type(module) not in (nn.Sequential, Sequential):
            continue
        for (first_key, first), (second_key, second) in pairwise(module.named_children()):
            for key, layer, other in ((first_key, first, second), (second_key, second, first)):
                if isinstance(other, (Spiking, Recurrent)) and not isinstance(other, Replaced):
                    refuse_without_time(function, f"{path}.{key}" if path else key, layer)


class _Pass:
    """One run of a network with hooks that set the input of every spiking layer, and find the weights before it.

    Hooks cut the outputs of affine and of spiking layers out of the autograd graph. The graph of a spiking layer's
    input then ends at the outputs of the affine layers right before it.
    """

    def __init__(self, net: nn.Module, target: float | None) -> None:
        for name, module in net.named_modules():
            if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
                raise ValueError(
                    f"calibrate_: {name or 'net'} is compiled, and hooks do not see what it does; give the network "
                    "from before torch.compile"
                )
        look_for_time("calibrate_", net)
        self.net, self.target = net, target
        self.layers = firing_layers(net)
        if not self.layers:
            raise ValueError(f"calibrate_: {type(net).__name__} has no spiking layers")
        self.rates: dict[str, float] = {}
        self.gains: dict[nn.Module, float] = {}
        self.standardised: dict[nn.Module, _Affine] = {}
        self.unreachable: list[str] = []
        self.again = False

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Hooks on all layers, removed at the end."""
        handles: list[Any] = []
        inside = {m for layer in self.layers.values() for m in layer.modules()}
        probes = {name: copy.deepcopy(layer) for name, layer in self.layers.items()}
        try:
            for name, layer in self.layers.items():
                before = _Before(self, name, probes[name])
                handles.append(layer.register_forward_pre_hook(before, prepend=True))
                handles.append(layer.register_forward_hook(_cut(None)))
            for module in self.net.modules():
                if module not in inside and isinstance(module, _AFFINE):
                    weight = getattr(module, "weight", None)
                    source = module if isinstance(weight, nn.Parameter) else None
                    handles.append(module.register_forward_hook(_cut(source)))
            with torch.enable_grad():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def measure(self, name: str, probe: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs of a spiking layer, scaled so that it fires at the target rate."""
        if name in self.rates:
            raise ValueError(
                f"calibrate_: {name} is called several times in a call of the network; give one that takes all steps "
                "in a call, [T, B, ...] (snnfast.nn.replace(net, sequences=True) makes it)"
            )
        x, *rest = inputs
        sources, fixed = _sources(x)

        @torch.no_grad()
        def fired(log_gain: float) -> float:
            if isinstance(probe, Stateful):
                probe.reset()
            output = probe.forward(x.detach() * math.exp(log_gain), *rest)
            spikes = output[0] if isinstance(output, tuple) else output
            return float(spikes.double().mean()) if spikes.numel() else float("nan")

        if self.target is None or not sources:
            self.rates[name] = fired(0.0)
            return inputs
        affine = None if fixed or len(sources) > 1 else _standardise(sources[0], x.detach())
        if affine is not None:
            x = affine.apply(x)
        low, high = _LOG_GAINS
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if fired(middle) >= self.target else (middle, high)
        self.rates[name] = reached = fired(high)
        if abs(reached - self.target) > 0.3 * self.target:
            self.unreachable.append(name)
        self.again |= fixed
        for source in sources:
            self.gains[source] = self.gains.get(source, 1.0) * math.exp(high)
        if affine is not None:
            self.standardised[sources[0]] = affine
        return (x * math.exp(high), *rest)

    @torch.no_grad()
    def scale(self) -> None:
        """Change weights and biases as the inputs were changed."""
        for module, affine in self.standardised.items():
            affine.change(module)
        for module, gain in self.gains.items():
            for parameter in (module.weight, getattr(module, "bias", None)):
                if isinstance(parameter, Tensor):
                    parameter.mul_(gain)


class _Affine(NamedTuple):
    """The map ``(x - mean) / deviation`` of each channel of ``x``, which stands at ``dim``."""

    mean: Tensor
    deviation: Tensor
    dim: int

    def apply(self, x: Tensor) -> Tensor:
        """``x`` standardised."""
        shape = [-1 if i == self.dim else 1 for i in range(x.dim())]
        return (x - self.mean.view(shape)) / self.deviation.view(shape)

    def change(self, module: Any) -> None:
        """Give ``module`` the weights with which its output is standardised."""
        module.bias.sub_(self.mean).div_(self.deviation)
        module.weight.div_(self.deviation.view(-1, *(1,) * (module.weight.dim() - 1)))


def _standardise(source: Any, x: Tensor) -> _Affine | None:
    """Return the map to mean 0 and variance 1 of each channel of ``x``, if weights and bias of ``source`` can do it."""
    bias = getattr(source, "bias", None)
    linear = isinstance(source, nn.Linear)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    dim = x.dim() - 1 if linear else 2
    if bias is None or not isinstance(source, kinds) or x.dim() < 3 or x.shape[dim] != len(bias):
        return None
    others = [i for i in range(x.dim()) if i != dim]
    var, mean = torch.var_mean(x, others, correction=0)
    least = 1e-3 * var.mean().sqrt()  # for channels that hardly vary
    if not least > 0:
        return None
    return _Affine(mean, var.sqrt().clamp(min=float(least)), dim)


class _Before:
    """Hook before a spiking layer."""

    def __init__(self, run: _Pass, name: str, probe: nn.Module) -> None:
        self.run, self.name, self.probe = run, name, probe

    def __call__(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.run.measure(self.name, self.probe, inputs)


def _cut(source: nn.Module | None) -> Callable[..., Any]:
    """Hook that cuts the output of a layer out of the graph, and marks it with ``source``."""

    def cut(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return tuple(map(cut_tensor, output))
        return cut_tensor(output)

    def cut_tensor(output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        leaf: Any = output.detach().requires_grad_()
        leaf.snnfast_source = (source,)
        return leaf.view_as(leaf) if source is None else leaf.clone()  # may be changed in place

    return cut


def _sources(x: Tensor) -> tuple[list[nn.Module], bool]:
    """Return the affine layers whose outputs are summands of ``x``, and whether it has other summands."""
    nodes, seen = [x.grad_fn], set()
    found: list[nn.Module] = []
    fixed = False
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for source in getattr(getattr(node, "variable", None), "snnfast_source", ()):
            fixed |= source is None
            if source is not None and source not in found:
                found.append(source)
    return found, fixed


@contextmanager
def _restored(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Run in training mode, all steps in one part; restore modes, parts, statistics, states and random numbers."""
    modes = {module: module.training for module in net.modules()}
    norms = [b for m in net.modules() if isinstance(m, _BatchNorm) for b in m.buffers()]
    statistics = [b.clone() for b in norms]
    states = {m: {name: getattr(m, name) for name in m.states} for m in net.modules() if isinstance(m, Stateful)}
    watched = {m: m.watched for m in net.modules() if isinstance(m, Spiking)}
    parts = {m: m.every for m in net.modules() if isinstance(m, Recomputed)}
    try:
        for recomputed in parts:
            recomputed.every = sys.maxsize
        net.train()
        for stateful in states:
            stateful.reset()
        for spiking in watched:
            spiking.watched = None
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for buffer, value in zip(norms, statistics):
            buffer.copy_(value)
        for stateful, saved in states.items():
            for name, value in saved.items():
                setattr(stateful, name, value)
        for spiking, count in watched.items():
            spiking.watched = count
        for recomputed, every in parts.items():
            recomputed.every = every
