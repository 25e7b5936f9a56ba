"""A network of another library with its neurons replaced by this package's: :func:`replace`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, surrogate

from .lif import IF, LIF, ParametricLIF
from .spiking import Spiking
from .state import reset

__all__ = ["replace"]

_LIBRARIES = ("spikingjelly", "snntorch", "norse", "sinabs")


def replace(net: nn.Module, *, verify: Tensor | None = None) -> nn.Module:
    """A copy of a SpikingJelly network whose neurons run all steps in one kernel here.

    ``IFNode``, ``LIFNode`` and ``ParametricLIFNode`` in step mode ``"m"`` become :class:`IF`, :class:`LIF` and
    :class:`ParametricLIF` with the same parameters; everything else stays, so keys of the state dict do, too. As in
    SpikingJelly the neurons keep their state between calls, until ``functional.reset_net(net)`` or
    :func:`snnfast.nn.reset`. Neurons are known by the name of their class: SpikingJelly is not imported. It steps
    ``v + (x - v) / tau``, the layers here ``decay v + (1 - decay) x``: the same but for rounding.

    Args:
        net: the network; it stays as it is.
        verify: an input ``[T, B, ...]``: runs both networks, from rest, and compares the spikes of every neuron.

    Raises:
        TypeError: if ``net`` is no module, or ``verify`` no tensor.
        ValueError: for a neuron, a setting or a surrogate gradient that cannot be mapped exactly, by name and reason;
            without any neuron; and with ``verify`` where spikes differ, with the first layer and step.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"replace: net must be a module, got {type(net).__name__}")
    if verify is not None:
        check.tensor("replace", "verify", verify)
    made: dict[str, Spiking] = {}
    for name, module in net.named_modules():
        kind, library = type(module).__name__, type(module).__module__.partition(".")[0]
        if library not in _LIBRARIES:
            continue
        make = _NEURONS.get((library, kind))
        if make is not None:
            made[name] = make(f"replace: {name or 'net'}, a {kind},", module)
        elif _has_state(module):
            raise ValueError(
                f"replace: {name or 'net'}, a {kind} of {library}, cannot be mapped: there is an exact equal for "
                f"{', '.join(k for _, k in _NEURONS)} of SpikingJelly alone"
            )
    if not made:
        raise ValueError("replace: net has no neurons of SpikingJelly")
    if "" in made:
        result: nn.Module = made[""]
    else:
        # The memo keeps parameters that a neuron shares with its original.
        result = copy.deepcopy(net)
        for name, neuron in made.items():
            result.set_submodule(name, neuron)
    result.train(net.training)
    if verify is not None:
        _verify(net, result, list(made), verify)
    return result


def _has_state(module: nn.Module) -> bool:
    """Whether a layer of another library remembers something: whether it is a neuron."""
    names = ("v", "mem", "v_mem", "p", "state_init")
    return any(hasattr(module, name) for name in names)


def _common(where: str, node: Any) -> dict[str, Any]:
    """What SpikingJelly's neurons share."""
    if node.step_mode != "m":
        raise ValueError(
            f"{where} is in step_mode {node.step_mode!r}; layers here run all steps in one call: "
            "functional.set_step_mode(net, 'm') first"
        )
    if getattr(node, "store_v_seq", False):
        raise ValueError(
            f"{where} has store_v_seq=True; layers here return membranes, and keep none"
        )
    function = node.surrogate_function
    kind = type(function).__name__
    if kind not in _SURROGATES or not getattr(function, "spiking", True):
        raise ValueError(
            f"{where} has the surrogate {kind}; there is an exact equal for {', '.join(_SURROGATES)} alone"
        )
    return {
        "v_threshold": float(node.v_threshold),
        "v_reset": None if node.v_reset is None else float(node.v_reset),
        "surrogate": _SURROGATES[kind](float(function.alpha)),
        "detach_reset": bool(node.detach_reset),
        "stateful": True,
    }


def _if(where: str, node: Any) -> Spiking:
    return IF(**_common(where, node))


def _lif(where: str, node: Any) -> Spiking:
    return LIF(float(node.tau), decay_input=bool(node.decay_input), **_common(where, node))


def _parametric_lif(where: str, node: Any) -> Spiking:
    made = ParametricLIF(decay_input=bool(node.decay_input), **_common(where, node))
    made.w = nn.Parameter(node.w.detach().clone(), requires_grad=node.w.requires_grad)
    return made


_NEURONS: dict[tuple[str, str], Callable[[str, Any], Spiking]] = {
    ("spikingjelly", "IFNode"): _if,
    ("spikingjelly", "LIFNode"): _lif,
    ("spikingjelly", "ParametricLIFNode"): _parametric_lif,
}
_SURROGATES = {"Sigmoid": surrogate.sigmoid, "ATan": surrogate.atan}


def _verify(net: nn.Module, result: nn.Module, names: list[str], x: Tensor) -> None:
    original = copy.deepcopy(net)
    for module in original.modules():
        forget = getattr(module, "reset", None)
        if callable(forget):
            forget()
    theirs, ours = (_spikes(n, names, x) for n in (original, copy.deepcopy(result)))
    for name in names:
        a, b = theirs[name], ours[name]
        differ = (a != b).flatten(1).any(1).nonzero().flatten()
        if len(differ):
            step = int(differ[0])
            count = int((a[step] != b[step]).sum())
            raise ValueError(
                f"replace: spikes of {name or 'net'} differ from step {step} on, there of {count} of "
                f"{a[step].numel()} neurons"
            )


def _spikes(net: nn.Module, names: list[str], x: Tensor) -> dict[str, Tensor]:
    """What the neurons fire, by name, without a trace in the state of ``net``'s normalisation: it is a copy."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(name, output.detach())

    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    reset(net)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    return found
